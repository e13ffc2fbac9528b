"""What tasks print and log goes each to its own file, although they share a process."""

import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiflow_sdk.local.logs import AttemptLog, OutputRouter

RUN = {
    "run_id": "r",
    "pipeline_id": "p",
    "execution": 2,
    "trace_id": "t",
    "environment": "dev",
    "partition_key": "2026-11-20",
    "last_partition_key": None,
}


def log_of(folder: Path, task_id: str, told: list[Any] | None = None) -> AttemptLog:
    return AttemptLog(folder / f"{task_id}.log", RUN, task_id, 3, (told if told is not None else []).append)


def lines(folder: Path, task_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{task_id}.log").read_text().splitlines()]


def test_two_tasks_that_print_at_once_do_not_mix(tmp_path: Path) -> None:
    router = OutputRouter()
    barrier = threading.Barrier(2)

    def work(task_id: str) -> None:
        with router.bound(log_of(tmp_path, task_id)):
            barrier.wait()
            for number in range(200):
                print(task_id, number)
                sys.stderr.write(f"{task_id} err\n")

    with router.installed():
        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("a", "b"):
        assert {line["message"].split()[0] for line in lines(tmp_path, name)} == {name}
        assert [line["message"] for line in lines(tmp_path, name) if line["stream"] == "stdout"] == [
            f"{name} {number}" for number in range(200)
        ]


def test_every_line_names_its_run_task_and_attempt(tmp_path: Path) -> None:
    router = OutputRouter()
    told: list[Any] = []
    with router.installed(), router.bound(log_of(tmp_path, "a", told)):
        print("one\ntwo", end="")
        logging.getLogger("mine").warning("of %s", "node", extra={"node_id": "enrich"})
    found = lines(tmp_path, "a")
    assert found == told
    assert [line["message"] for line in found] == ["one", "of node", "two"]
    for line in found:
        assert line["pipeline_id"] == "p"
        assert (line["run_id"], line["execution"], line["trace_id"]) == ("r", 2, "t")
        assert (line["task_id"], line["attempt"]) == ("a", 3)
    assert (found[1]["node_id"], found[1]["level"], found[1]["logger"]) == ("enrich", "warning", "mine")


def test_a_logged_exception_keeps_its_traceback(tmp_path: Path) -> None:
    router = OutputRouter()
    with router.installed(), router.bound(log_of(tmp_path, "a")):
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger().exception("it went wrong")
    (line,) = lines(tmp_path, "a")
    assert "it went wrong\nTraceback" in line["message"]
    assert "ValueError: boom" in line["message"]


def test_threads_of_user_code_work_for_the_task_that_started_them(tmp_path: Path) -> None:
    router = OutputRouter()
    with router.installed(), router.bound(log_of(tmp_path, "a")):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(print, ["x", "y"]))
        thread = threading.Thread(target=print, args=("z",))
        thread.start()
        thread.join()
    assert sorted(line["message"] for line in lines(tmp_path, "a")) == ["x", "y", "z"]


def test_bytes_and_strange_text_are_kept_as_far_as_text_can(tmp_path: Path) -> None:
    router = OutputRouter()
    with router.installed(), router.bound(log_of(tmp_path, "a")):
        sys.stdout.buffer.write("größe\n".encode())
        sys.stdout.buffer.write(b"\xff\n")
        print("\ud800")
        print()
    assert [line["message"] for line in lines(tmp_path, "a")] == ["größe", "\ufffd", "?", ""]


def test_outside_a_task_printing_is_as_always(tmp_path: Path, capsys: Any) -> None:
    with OutputRouter().installed():
        print("hello")
    assert capsys.readouterr().out == "hello\n"
    assert sys.stdout.__class__.__name__ != "_Routed"
