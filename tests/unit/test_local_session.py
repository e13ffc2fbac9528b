"""What the processes of one run share ends with it, whatever it is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from aiflow_sdk.local.session import SESSION_DIR, session, stop_servers

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def server(folder: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(SLEEP, env={**os.environ, SESSION_DIR: folder})


def test_every_server_that_says_it_is_there_ends_with_the_session() -> None:
    with session() as environment:
        folder = environment[SESSION_DIR]
        one, other = server(folder), server(folder)
        Path(folder, "spark.json").write_text(json.dumps({"address": "sc://x", "pid": one.pid}))
        Path(folder, "flink.pid").write_text(f"{other.pid}\n")
        Path(folder, "notes.json").write_text("[1]")
        Path(folder, "half.pid").write_text("")
    assert (one.wait(5), other.wait(5)) == (-9, -9)
    assert not Path(folder).exists()


def test_a_process_that_is_none_of_the_session_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        (tmp_path / "x.pid").write_text(str(stranger.pid))
        stop_servers(str(tmp_path))
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_was_stopped_is_not_found_by_the_next_process(tmp_path: Path) -> None:
    one = server(str(tmp_path))
    (tmp_path / "spark.json").write_text(json.dumps({"pid": one.pid}))
    stop_servers(str(tmp_path))
    assert one.wait(5) == -9
    assert os.listdir(tmp_path) == []
