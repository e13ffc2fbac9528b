"""Processes of tasks that a server forks: the same task, sooner; where there is no server, as ever."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiflow_airflow import warm
from aiflow_airflow.aside import LEFT
from aiflow_airflow.child import TaskProcess
from aiflow_airflow.warm import MINUTES_VARIABLE, fork, keep_warm

from aiflow_sdk.channel import FORK, address_of
from aiflow_sdk.errors import AiflowError

PYTHON = Path(sys.executable)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """What no other test's server has."""
    return {**os.environ, "TEST": str(tmp_path)}


@pytest.fixture(autouse=True)
def no_server_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(MINUTES_VARIABLE, raising=False)
    before = len(LEFT)
    yield
    for server in LEFT[before:]:
        server.kill()
        server.wait()
    del LEFT[before:]


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(variables: dict[str, str], seconds: float = 60) -> subprocess.Popen[bytes]:
    """Start a server and return it once it listens."""
    os.environ[MINUTES_VARIABLE] = str(seconds / 60)
    keep_warm(PYTHON, variables, Path("none"), "t")
    del os.environ[MINUTES_VARIABLE]
    until(lambda: listens(address_of(PYTHON, variables)))
    return LEFT[-1]


def listens(address: str) -> bool:
    """Whether a server answers: one that has its address is not always at it yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(f"\0{address}") == 0


def forked(variables: dict[str, str]) -> tuple[warm.Forked, int]:
    """Fork once the server has imported what it needs; return where the records are read, too."""
    found = []

    def try_it() -> bool:
        records, write = os.pipe()
        process = fork(PYTHON, variables, write)
        os.close(write)
        if process:
            found.append((process, records))
        else:
            os.close(records)
        return bool(process)

    until(try_it)
    return found[0]


def doing(order: dict[str, Any], variables: dict[str, str]) -> tuple[TaskProcess, AiflowError]:
    process = TaskProcess(PYTHON, order, environment=variables)
    with pytest.raises(AiflowError) as caught:
        process.watch(lambda level, logger, text: None, lambda record: None)
    return process, caught.value


def let_go(process: warm.Forked, records: int) -> None:
    process.stdin.close()
    process.wait(30)
    process.stdout.close()
    os.close(records)


def test_the_task_is_done_by_a_fork_of_the_server(order, variables):
    server = started(variables)
    let_go(*forked(variables))
    process, error = doing(order, variables)
    assert isinstance(process._process, warm.Forked)
    assert (process._process.wait(), error.code) == (1, "task-crashed")
    assert server.poll() is None
    again, _ = doing(order, variables)
    assert again._process.pid != process._process.pid


def test_a_fork_is_a_process_of_its_own_with_nothing_of_the_servers(variables):
    server = started(variables)
    process, records = forked(variables)
    assert os.getpgid(process.pid) == process.pid
    (parent,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line[:5] == "PPid:")
    assert int(parent.split()[1]) == server.pid
    until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == 4)  # the records beside input, output and error
    let_go(process, records)


def test_what_was_loaded_was_loaded_before_the_fork(variables):
    started(variables)
    process, records = forked(variables)
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "pydantic_core" in maps
    let_go(process, records)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_how_it_ended_is_known(variables, sign):
    started(variables)
    process, records = forked(variables)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    os.kill(process.pid, sign)
    assert process.wait(30) == -sign
    assert process.poll() == -sign
    process.kill()  # nothing is left to end
    let_go(process, records)


def test_it_outlives_the_server_and_its_end_is_known_though_not_how(variables):
    server = started(variables)
    process, records = forked(variables)
    server.kill()
    server.wait()
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(30) == 255
    let_go(process, records)


def test_it_ends_when_who_asked_for_it_is_gone(variables):
    started(variables)
    process, records = forked(variables)
    process.stdin.close()
    assert process.wait(30) == 0
    let_go(process, records)


def test_another_interpreter_or_other_variables_have_none(order, variables):
    started(variables)
    let_go(*forked(variables))
    process, _ = doing(order, {**variables, "OTHER": "1"})
    assert isinstance(process._process, subprocess.Popen)
    assert fork(PYTHON.parent / "python3", variables, 1) is None


def test_it_ends_after_a_while_without_tasks_and_not_while_one_runs(variables):
    server = started(variables, seconds=0.3)
    process, records = forked(variables)
    time.sleep(1)
    assert server.poll() is None
    let_go(process, records)
    assert server.wait(30) == 0


def test_it_ends_with_the_process_that_supervises_tasks(variables):
    code = (
        "import os, sys, pathlib\nfrom aiflow_airflow.aside import LEFT\nfrom aiflow_airflow.warm import keep_warm\n"
        "if os.fork() == 0:\n    keep_warm(pathlib.Path(sys.executable), dict(os.environ), pathlib.Path('none'), 't')\n"
        "    print(LEFT[-1].pid, flush=True)\n    os._exit(0)\nos.wait()\nsys.stdin.read()\n"
    )
    owner = subprocess.Popen([PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
    pid = int(owner.stdout.readline())
    until(lambda: address_of(PYTHON, variables) in str(warm._servers()))
    owner.communicate()
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_it_waits_for_its_tasks_without_using_a_processor_when_who_supervises_them_is_gone(variables):
    owner = subprocess.Popen(["sleep", "600"])
    arguments = [address_of(PYTHON, variables), str(owner.pid), "600", "{}"]
    server = subprocess.Popen([PYTHON, "-m", "aiflow_sdk.runtime.forkserver", *arguments], env=variables)
    until(lambda: address_of(PYTHON, variables) in str(warm._servers()))
    process, records = forked(variables)
    owner.kill()
    owner.wait()
    until(lambda: is_deaf(variables))
    before = seconds_used(server.pid)
    time.sleep(1)
    assert seconds_used(server.pid) - before < 0.1
    process.stdin.close()
    assert process.wait(30) == 0  # of which the server has told
    assert server.wait(30) == 0
    let_go(process, records)


def is_deaf(variables: dict[str, str]) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(f"\0{address_of(PYTHON, variables)}") != 0


def seconds_used(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_second_server_ends_at_once(variables):
    server = started(variables)
    arguments = [address_of(PYTHON, variables), str(os.getpid()), "60", "{}"]
    done = subprocess.run([str(PYTHON), "-m", "aiflow_sdk.runtime.forkserver", *arguments], timeout=60, check=False)
    assert done.returncode == 0
    assert server.poll() is None


def test_one_that_only_listens_is_not_waited_for(order, variables, monkeypatch):
    monkeypatch.setattr(warm, "_SECONDS", 0.2)  # two seconds in truth
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{address_of(PYTHON, variables)}")
        listener.listen()
        process, _ = doing(order, variables)
    assert isinstance(process._process, subprocess.Popen)


def test_without_files_left_to_open_nothing_stays_open_and_the_task_is_done_otherwise(variables, monkeypatch):
    server = started(variables)
    open_before, pipe, made = len(os.listdir("/proc/self/fd")), os.pipe, []

    def one_more() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(pipe())
        return made[0]

    with monkeypatch.context() as patched, open(os.devnull, "wb") as records:
        patched.setattr(os, "pipe", one_more)
        assert warm.fork(PYTHON, variables, records.fileno()) is None
    assert (len(made), len(os.listdir("/proc/self/fd"))) == (1, open_before)
    let_go(*forked(variables))
    assert server.poll() is None


def test_whoever_connects_and_says_nothing_keeps_nobody_waiting(variables):
    server = started(variables)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(20)]
        for one in silent:
            one.connect(f"\0{address_of(PYTHON, variables)}")
        began = time.monotonic()
        process, records = forked(variables)  # it was one second for each of them
        assert time.monotonic() - began < 10
        let_go(process, records)
    let_go(*forked(variables))
    assert server.poll() is None


def test_what_makes_no_sense_is_not_answered_and_the_next_one_is(variables):
    server = started(variables)
    for asked in (b"X", FORK, b"L{", b"L" + json.dumps({"plan": 1}).encode(), b""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(f"\0{address_of(PYTHON, variables)}")
            connection.sendall(asked)
    let_go(*forked(variables))
    assert server.poll() is None


@pytest.mark.parametrize(
    ("name", "value"), [(MINUTES_VARIABLE, "0"), (MINUTES_VARIABLE, "soon"), ("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")]
)
def test_none_is_started_where_none_is_wanted(variables, monkeypatch, caplog, name, value):
    monkeypatch.setenv(name, value)
    before = len(LEFT)
    keep_warm(PYTHON, variables, Path("none"), "t")
    assert len(LEFT) == before
    assert ("should be a number of minutes" in caplog.text) == (value == "soon")


def test_of_many_environments_only_so_many_have_one(variables, monkeypatch):
    started(variables)
    monkeypatch.setattr(warm, "MOST_SERVERS", 1)  # eight in truth
    before = len(LEFT)
    keep_warm(PYTHON, {**variables, "OTHER": "1"}, Path("none"), "t")
    assert len(LEFT) == before
