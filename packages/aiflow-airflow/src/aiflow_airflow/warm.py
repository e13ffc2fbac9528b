"""Processes for tasks that have imported what they need, from a server that forks them: see
:mod:`aiflow_sdk.runtime.forkserver`.

A task that has ended well leaves such a server for the next one in the same environment. Where there is none, or it
does not answer, a process is started as ever.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from aiflow_airflow.aside import LEFT, is_pod_of_one_task
from aiflow_sdk.channel import FORK, LOAD, address_of, user_of

_log = logging.getLogger(__name__)
MINUTES_VARIABLE = "AIFLOW_WARM_MINUTES"
"""How long a server stays without a task; 0: none is started."""
MINUTES = 10.0
MOST_SERVERS = 8
"""On a machine: each holds what it has imported."""
_SECONDS = 2.0
"""How long a server has to answer; one that imports something just now may take longer, and is not waited for."""


class Forked:
    """A process that is not this one's child, with the part of ``Popen`` that a task's process needs."""

    def __init__(self, connection: socket.socket, answer: bytes, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        """``answer`` is what the server has said so far; over ``connection`` it will tell how the process has ended."""
        first, _, self._said = answer.partition(b"\n")
        self.pid = int(json.loads(first)["pid"])
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = stdout
        self._source = connection.detach()
        self._is_server_there = True
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; 255 where it outlived the server, which alone could have told."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended. Raises ``TimeoutExpired``."""
        status = self._ended_within(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def kill(self) -> None:
        """End it, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _ended_within(self, seconds: float | None) -> int | None:
        while self._status is None:
            if self._said.endswith(b"\n"):
                self._end(int(json.loads(self._said)["status"]))
            elif not select.select([self._source], [], [], seconds)[0]:
                return None
            elif not self._is_server_there:
                self._end(255)
            elif said := os.read(self._source, 1_024):
                self._said += said
            else:
                self._look_itself()
        return self._status

    def _look_itself(self) -> None:
        """Wait for the process where the server, which would have told of its end, has ended before it."""
        self._is_server_there = False
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._end(255)
        else:
            os.close(self._source)
            self._source = handle

    def _end(self, status: int) -> None:
        self._status = status
        os.close(self._source)


def fork(python: Path, variables: Mapping[str, str], records: int) -> Forked | None:
    """Return a process in the user's environment that writes its records to ``records``; None where no server is."""
    if not (connection := _connected(python, variables)):
        return None
    pipes: list[int] = []
    try:
        pipes += os.pipe()
        pipes += os.pipe()
    except OSError as error:  # no more files can be opened
        _log.debug("no process was forked: %s", error)
        for handle in pipes:
            os.close(handle)
        connection.close()
        return None
    stdin, stdin_write, stdout_read, stdout = pipes
    answer = b""
    try:
        socket.send_fds(connection, [FORK], [stdin, stdout, records])
        answer = connection.recv(1_024)
    except OSError as error:
        _log.debug("no process was forked: %s", error)
    finally:
        os.close(stdin)
        os.close(stdout)
    if not answer:  # it takes too long, or has just ended; a process that it may have forked ends with these pipes
        os.close(stdin_write)
        os.close(stdout_read)
        connection.close()
        return None
    connection.settimeout(None)
    return Forked(connection, answer, os.fdopen(stdin_write, "wb"), os.fdopen(stdout_read, "rb"))


def keep_warm(python: Path, variables: Mapping[str, str], plan: Path, task_id: str) -> None:
    """Let a server be there for the next task, with all that this one needed.

    Whatever goes wrong is logged and fails nothing.
    """
    try:
        told = json.dumps({"plan": str(plan), "task": task_id})
        if connection := _connected(python, variables):
            with connection:
                connection.sendall(LOAD + told.encode())
        elif (seconds := _idle_seconds()) > 0 and len(_servers()) < MOST_SERVERS:
            command = [str(python), "-P", "-m", "aiflow_sdk.runtime.forkserver"]
            LEFT.append(
                subprocess.Popen(
                    [*command, address_of(python, variables), str(os.getppid()), str(seconds), told],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=variables_of_child(variables),
                    start_new_session=True,  # it outlives this task
                )
            )
    except (OSError, ValueError) as error:
        _log.warning("the next task starts without what this one has loaded: %s", error)


def variables_of_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a task's process is started with."""
    return {**variables, "PYTHONUNBUFFERED": "1"}


def _connected(python: Path, variables: Mapping[str, str]) -> socket.socket | None:
    """Return a connection to the server; None where there is none of this user's."""
    if not sys.platform.startswith("linux"):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_SECONDS)
    try:
        connection.connect(f"\0{address_of(python, variables)}")
        if user_of(connection) == os.getuid():
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _idle_seconds() -> float:
    if is_pod_of_one_task() or not sys.platform.startswith("linux"):
        return 0.0
    stated = os.environ.get(MINUTES_VARIABLE, "")
    try:
        return 60.0 * float(stated or MINUTES)
    except ValueError:
        raise ValueError(f"{MINUTES_VARIABLE} is '{stated}', and should be a number of minutes") from None


def _servers() -> set[str]:
    """Return the addresses at which servers listen here."""
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    return {line.rpartition(" ")[2] for line in lines if " @aiflow-" in line}
