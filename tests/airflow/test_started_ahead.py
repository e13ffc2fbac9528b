"""The process of a task that is started before its order is known: taken, left alone, or ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiflow_airflow import child
from aiflow_airflow.child import TaskProcess, start_ahead, tell_ahead

from aiflow_sdk.errors import AiflowError

PYTHON = Path(sys.executable)
OWNER = """
import os, pathlib, sys, time
from aiflow_airflow import child
child.start_ahead(pathlib.Path(sys.executable), dict(os.environ))
print(child._ahead[0].process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    yield
    while child._ahead:
        child._let_go(child._ahead.pop())


def waiting() -> int:
    (started,) = child._ahead
    return started.process.pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def doing(order: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Do what the order says and return which process did it."""
    process = TaskProcess(PYTHON, order, environment=environment)
    with pytest.raises(AiflowError):
        process.watch(lambda level, logger, text: None, lambda record: None)
    return process._process.pid


def test_it_does_the_task(order):
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    assert doing(order, dict(os.environ)) == pid
    assert child._ahead == []


def test_it_may_be_told_which_task_it_will_be(order, tmp_path):
    tell_ahead(tmp_path / "plan.json", "t")  # nobody is there to be told
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    tell_ahead(tmp_path / "plan.json", "t")
    assert doing(order, dict(os.environ)) == pid


def test_one_that_died_is_told_nothing(tmp_path):
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    os.kill(pid, 9)
    until(lambda: is_gone(pid))
    tell_ahead(tmp_path / "plan.json", "t")


def test_with_other_variables_it_is_not_the_one_and_ends(order):
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    assert doing(order, {**os.environ, "OTHER": "1"}) != pid
    until(lambda: is_gone(pid))


def test_one_that_died_meanwhile_is_not_taken(order):
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    os.kill(pid, 9)
    until(lambda: is_gone(pid))
    assert doing(order, dict(os.environ)) != pid


def test_of_one_kind_the_first_stays_and_one_of_another_kind_takes_its_place():
    start_ahead(PYTHON, dict(os.environ))
    pid = waiting()
    start_ahead(PYTHON, dict(os.environ))
    assert waiting() == pid
    start_ahead(PYTHON, {**os.environ, "OTHER": "1"})
    assert waiting() != pid
    until(lambda: is_gone(pid))


def test_an_interpreter_that_is_not_there_is_told_when_it_is_needed(order, tmp_path):
    start_ahead(tmp_path / "python", dict(os.environ))
    assert child._ahead == []
    with pytest.raises(AiflowError, match="cannot be started") as caught:
        TaskProcess(tmp_path / "python", order, environment=dict(os.environ))
    assert caught.value.code == "broken-interpreter"


@pytest.mark.parametrize("seconds", [0.0, 0.1, 2.0], ids=["at-once", "while-it-loads", "while-it-waits"])
def test_it_ends_with_the_process_that_started_it(seconds):
    owner = subprocess.Popen([PYTHON, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    time.sleep(seconds)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: is_gone(pid))
