"""Death at any step: count the steps of a job once, then kill it at each of them.

A step is a change of a file below a folder (shim.c sees it), or a request that a store gets through a fault proxy.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.process import ROOT
from harness.proxy import Call, Proxy, Request
from harness.shim import Control, Faults, Step, When
from harness.zygote import Zygote

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """What is run: a function of a Python file (a test's ``__file__`` will do), its arguments such as JSON can hold.

    The file is imported in the child: let it import pytest and its like only where needed.
    """

    file: str | Path
    function: str
    arguments: Sequence[Any] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's; where there is any, a new interpreter is started in spite of a zygote."""

    def command(self) -> list[str]:
        """Return the command that runs it in a new interpreter."""
        return [sys.executable, "-m", "harness.job", str(self.file), self.function, json.dumps(list(self.arguments))]


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    returncode: int | None
    """As ``subprocess`` says it: ``-9`` was killed. None: it ran into the time-out and was ended."""
    output: str
    """Both streams, joined."""
    seconds: float
    steps: tuple[Step, ...] = ()
    """Taken below the root, the last one that at which it was killed."""
    requests: tuple[Request, ...] = ()
    """Seen by the proxy."""

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it; not so when it had come to its end before the step."""
        return self.returncode == -signal.SIGKILL


def run(
    job: Job | Sequence[str],
    faults: Faults | None = None,
    *,
    zygote: Zygote | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    started: Callable[[int], object] = lambda pid: None,
) -> Outcome:
    """Run a job, or any command, to its end under faults. A zygote makes a ``Job`` start in milliseconds.

    ``started`` is told the process, which leads a group of its own; what is left of the group is killed at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        control = Control(Path(folder) / "control", faults) if faults else None
        output = Path(folder) / "output"
        output.touch()
        start = time.monotonic()
        if zygote is not None and isinstance(job, Job) and not job.environment:
            returncode = zygote.run(
                job.file,
                job.function,
                job.arguments,
                control=control.path if control else None,
                output=output,
                timeout_seconds=timeout_seconds,
                started=started,
            )
        else:
            returncode = _run_fresh(job, control, output, timeout_seconds, started)
        seconds = time.monotonic() - start
        steps = tuple(control.steps()) if control else ()
        return Outcome(returncode, output.read_text("utf-8", "replace"), seconds, steps)


def _run_fresh(
    job: Job | Sequence[str],
    control: Control | None,
    output: Path,
    timeout_seconds: float,
    started: Callable[[int], object],
) -> int | None:
    command = job.command() if isinstance(job, Job) else job
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib")} if isinstance(job, Job) else {**os.environ}
    environment |= job.environment if isinstance(job, Job) else {}
    environment |= control.environment() if control else {}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        started(process.pid)
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill_group(process.pid)
        process.wait()


def kill_group(pid: int) -> None:
    """Kill a process and what it has started; nothing happens when all have gone."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def trace(
    job: Job | Sequence[str], root: Path, *, zygote: Zygote | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> tuple[Step, ...]:
    """Run a job to its good end and return its steps below ``root``."""
    return _good(run(job, Faults(root), zygote=zygote, timeout_seconds=timeout_seconds)).steps


def _good(done: Outcome) -> Outcome:
    if done.returncode != 0:
        raise RuntimeError(f"the job ended with {done.returncode}:\n{done.output}")
    return done


def kill_at(
    job: Job | Sequence[str],
    root: Path,
    step: int,
    when: When = "before",
    *,
    whole_group: bool = True,
    zygote: Zygote | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Outcome:
    """Run a job and kill it at its n-th step below ``root``; it comes to its end where it has fewer.

    Of a job of several processes all die, or with ``whole_group=False`` only the one that takes the step.
    """
    faults = Faults(root, kill_at=step, when=when, kill_group=whole_group)
    return run(job, faults, zygote=zygote, timeout_seconds=timeout_seconds)


def trace_requests(
    job: Job | Sequence[str], proxy: Proxy, *, zygote: Zygote | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> tuple[Request, ...]:
    """Run a job, which has to use the proxy, to its good end and return its requests. Plans are forgotten."""
    proxy.clear()
    _good(run(job, zygote=zygote, timeout_seconds=timeout_seconds))
    return tuple(proxy.requests)


def kill_at_request(
    job: Job | Sequence[str],
    proxy: Proxy,
    number: int,
    when: Literal["before", "after"] = "before",
    *,
    zygote: Zygote | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Outcome:
    """Run a job and kill it, with all that it has started, at its n-th request.

    ``before``: the server never hears of the request; ``after``: it took effect, and nobody is there to be told. The
    proxy's plans are forgotten, and its other clients have to be quiet.
    """
    proxy.clear()
    leader: queue.SimpleQueue[int] = queue.SimpleQueue()

    def kill() -> bool:
        kill_group(leader.get(timeout=timeout_seconds))
        return False

    proxy.plan(Call(before=kill) if when == "before" else Call(after=kill), first=number)
    outcome = run(job, zygote=zygote, timeout_seconds=timeout_seconds, started=leader.put)
    proxy.settle()
    return replace(outcome, requests=tuple(proxy.requests))
