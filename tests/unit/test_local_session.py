"""What the processes of one run share ends with it, whatever it is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiflow_sdk.local.session import SESSION_DIR, is_going_on, session, stop_servers, sweep_sessions
from aiflow_sdk.stores import try_lock

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
    assert (one.wait(60), other.wait(60)) == (-9, -9)
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
    assert one.wait(60) == -9
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal
from aiflow_sdk.local.session import SESSION_DIR, session
with session() as environment:
    print(environment[SESSION_DIR], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
LASTING = """
import sys
from aiflow_sdk.local.session import SESSION_DIR, session
with session() as environment:
    print(environment[SESSION_DIR], flush=True)
    sys.stdin.read()
"""


def kill_a_session(home: Path) -> Path:
    environment = {**os.environ, "TMPDIR": str(home)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    assert done.returncode == -9
    return Path(done.stdout.strip())


def test_what_killed_sessions_left_is_removed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = kill_a_session(tmp_path)
    (first / "spark.json").write_text('{"pid": 1}')
    assert first.exists()
    assert not is_going_on(str(first))
    with session() as environment:
        assert not first.exists()
        assert not is_going_on(str(first))
        second = kill_a_session(tmp_path)  # beside one that goes on
        assert is_going_on(environment[SESSION_DIR])
        assert {path.name for path in tmp_path.iterdir()} == {Path(environment[SESSION_DIR]).name, second.name}
    with session():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_is_only_beginning_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def swept_before(handle: int, *, shared: bool = False) -> bool:
        if not shared:
            sweep_sessions(str(tmp_path))  # somebody else's, between the folder and its lock
        return try_lock(handle, shared=shared)

    monkeypatch.setattr("aiflow_sdk.local.session.try_lock", swept_before)  # the true one, and a sweep before
    with session() as environment:
        assert is_going_on(environment[SESSION_DIR])


def test_what_is_no_killed_session_of_this_user_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_a_session(tmp_path)
    kept = [tmp_path / name for name in ("aiflow-1-0123456789ab", "aiflow-spark-x", "aiflow-1-zz", "aiflow-1-00.part")]
    for path in kept:
        path.mkdir()
    for path in kept[1:]:
        (path / "session.lock").touch()
    link = tmp_path / "aiflow-2-0123456789ab"
    link.symlink_to(kept[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)  # another user sweeps
        sweep_sessions(str(tmp_path))
    assert killed.exists()
    sweep_sessions(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([*kept, link])
    assert (kept[1] / "session.lock").exists()
    sweep_sessions(str(tmp_path / "nowhere"))


def test_what_was_killed_before_it_had_its_name_is_swept_once_it_is_old(tmp_path: Path) -> None:
    begun = tmp_path / "aiflow-1-0123456789ab.part"
    begun.mkdir()
    (begun / "session.lock").touch()
    sweep_sessions(str(tmp_path))
    assert begun.exists()  # it may be about to take its lock
    os.utime(begun, (0, 0))
    sweep_sessions(str(tmp_path))
    assert not begun.exists()


def test_sessions_that_begin_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    killed = [kill_a_session(tmp_path) for _ in range(3)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", LASTING],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    folders = [one.stdout.readline().strip() for one in begun if one.stdout]
    assert all(map(is_going_on, folders))
    assert not any(path.exists() for path in killed)
    for one in begun:
        one.communicate("")
        assert one.returncode == 0
    assert list(tmp_path.iterdir()) == []
