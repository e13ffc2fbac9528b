"""The process that does a task, in the user's own environment, as the operator sees it."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_airflow.warm import Forked, fork, variables_of_child
from aiflow_sdk.channel import OutputReader, RecordReader
from aiflow_sdk.errors import AiflowError, RunError
from aiflow_sdk.redaction import REDACTOR

_GRACE_SECONDS = 2.0
"""How long a child has to end by itself when it is told to; Airflow gives all of us five."""
_LINGER_SECONDS = 5.0
"""How long output is still waited for once the child is gone: something that it started may hold the pipe."""

_LEVELS = logging.getLevelNamesMapping()

_log = logging.getLogger(__name__)


class Started(NamedTuple):
    """A process in a user's environment that has no order yet; it ends when this process does."""

    python: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | Forked
    records: int
    """Where its records are read."""


_ahead: list[Started] = []
"""At most one: a worker's process does one task."""


def start_ahead(python: Path, environment: Mapping[str, str]) -> None:
    """Start the process of the task that is about to be done: it loads its modules while Airflow prepares the task.

    One that is there already, of the same kind, goes on.
    """
    if started := _started_ahead(python, environment):
        _ahead.append(started)
        return
    with suppress(RunError):  # who needs it will see
        _ahead.append(_start(python, environment))


def tell_ahead(plan: Path, task_id: str) -> None:
    """Let the process that was started ahead, if there is one, load what this task of a plan needs."""
    for started in _ahead:
        _tell(started, {"plan": str(plan), "task": task_id})


def _tell(started: Started, order: Mapping[str, Any]) -> None:
    assert started.process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once, and its output says why
        started.process.stdin.write(json.dumps(order).encode() + b"\n")
        started.process.stdin.flush()


def _start(python: Path, environment: Mapping[str, str]) -> Started:
    records_read, records_write = os.pipe()
    try:
        process = fork(python, environment, records_write) or subprocess.Popen(
            [str(python), "-P", "-m", "aiflow_sdk.runtime.child", str(records_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(records_write,),
            env=variables_of_child(environment),
            start_new_session=True,
        )
    except OSError as error:
        os.close(records_read)
        raise RunError(
            "broken-interpreter",
            f"the interpreter {python} cannot be started: {error.strerror}",
            hint="see who removes files from aiflow's home on the worker; a retry makes the environment again",
            retryable=True,
        ) from error
    finally:
        os.close(records_write)
    return Started(python, environment, process, records_read)


def _started_ahead(python: Path, environment: Mapping[str, str]) -> Started | None:
    """Return the process that was started ahead, if it is one of the kind that is wanted now and lives."""
    if not _ahead:
        return None
    started = _ahead.pop()
    if (started.python, started.environment) == (python, environment) and started.process.poll() is None:
        return started
    _log.debug("the process that was started ahead is not the one that is wanted, or has ended")
    _let_go(started)
    return None


def _let_go(started: Started) -> None:
    """End the process, which has done nothing yet."""
    started.process.kill()
    started.process.wait()
    for stream in (started.process.stdin, started.process.stdout):
        if stream:
            with suppress(BrokenPipeError):  # what it was told is still here: it died before
                stream.close()
    os.close(started.records)


class TaskProcess:
    """One attempt of one task in a process of its own."""

    def __init__(self, python: Path, order: Mapping[str, Any], *, environment: Mapping[str, str]) -> None:
        """``order`` is as :mod:`aiflow_sdk.runtime.child` takes it."""
        started = _started_ahead(python, environment) or _start(python, environment)
        self._process = started.process
        # Airflow's task runner has its supervisor at the other end of standard input.
        self._supervisor = os.getppid() if stat.S_ISSOCK(os.fstat(0).st_mode) else None
        self._records = RecordReader(started.records)
        assert self._process.stdout is not None
        self._output = OutputReader(self._process.stdout.fileno())
        _tell(started, order)
        self._killed = False

    def watch(self, say: Callable[[int, str, str], None], hear: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        """Pass on what the process says until it ends, and return the result that it gave.

        ``say`` gets level, logger (``""``: printed) and text of each line as it comes, ``hear`` the other records.
        Raises the ``AiflowError`` that the task ended with, or ``RunError`` (``worker-died``).
        """
        end: Mapping[str, Any] | None = None
        last: list[str] = []
        with selectors.DefaultSelector() as selector:
            for reader in (self._records, self._output):
                selector.register(reader.handle, selectors.EVENT_READ, reader)
            gone_at: float | None = None
            while selector.get_map():
                for key, _ in selector.select(timeout=0.2):
                    reader = key.data
                    lines, closed = reader.lines()
                    if closed:
                        selector.unregister(reader.handle)
                        lines += [rest] if (rest := reader.rest()) else []
                    for line in lines:
                        if reader is self._output:
                            text = REDACTOR.hide(line.decode("utf-8", "replace"))
                            last = [*last[-19:], text]
                            say(logging.INFO, "", text)
                        else:
                            record = json.loads(line)
                            end = record if record["record"] in ("result", "error") else end
                            self._take(record, say, hear)
                if self._supervisor not in (None, os.getppid()):
                    self.kill()
                    raise RunError(
                        "worker-died",
                        "Airflow's process that supervised the task has died, and nobody would hear of the result",
                        hint="Airflow tries the task again once it misses the heartbeat",
                        retryable=True,
                    )
                if self._process.poll() is not None:
                    gone_at = gone_at or time.monotonic()
                    if time.monotonic() - gone_at > _LINGER_SECONDS:
                        break
        status = self._process.wait()
        self.close()
        if end and end["record"] == "result":
            return dict(end["result"])
        if end:
            raise AiflowError.from_dict(end["error"])
        raise self._died(status, last)

    def kill(self) -> None:
        """End the process and all that it started: asked first, then not."""
        self._killed = True
        for sign, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        # What it had started and SIGTERM did not end.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes; with the lifeline what is left of the process group ends."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        with suppress(OSError):
            os.close(self._records.handle)

    def _take(
        self, record: Mapping[str, Any], say: Callable[[int, str, str], None], hear: Callable[[Mapping[str, Any]], None]
    ) -> None:
        match record["record"]:
            case "secret":
                REDACTOR.add(record["value"])
            case "log":
                say(_LEVELS.get(str(record["level"]).upper(), logging.INFO), record["logger"], record["message"])
            case "result" | "error":
                pass
            case _:
                hear(record)

    def _died(self, status: int, last: list[str]) -> RunError:
        name = signal.Signals(-status).name if status < 0 else None
        hints = {
            "SIGKILL": "was it the system, because memory ran out?",
            "SIGSEGV": "a native library crashed: look at what the task calls",
        }
        ending = f"was ended by {name}" if name else f"ended with {status} and without a word"
        return RunError(
            "worker-died",
            f"the process that did the task {ending}",
            hint=None if self._killed else hints.get(name or "", "see its last lines; does user code call os._exit?"),
            retryable=True,
            notes=last,
        )
