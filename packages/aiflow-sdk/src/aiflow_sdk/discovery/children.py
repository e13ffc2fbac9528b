"""Starts the children that import user code, reads their answers, and ends and replaces those that hang or die."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from aiflow_sdk.code import interpreter, is_foreign, path_of_others
from aiflow_sdk.config import Project
from aiflow_sdk.discovery.finding import Module
from aiflow_sdk.discovery.importing import Imported
from aiflow_sdk.discovery.interruption import module_crashed, module_timeout, traced_place
from aiflow_sdk.errors import AiflowError, ConfigurationError, Where

START_SECONDS = 60.0
_TRACE_SECONDS = 0.5


@dataclass(frozen=True)
class Setup:
    """How one child differs from another: what a pipeline may not depend on."""

    hash_seed: int = 1
    clock: bool = True
    """Whether reads of the clock are watched, which is slow; one child of two suffices."""
    timezone: str | None = None


@dataclass
class Answers:
    """What one setup made of each module, in the order in which they were asked for."""

    imported: dict[str, Imported] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)


Chores: TypeAlias = Callable[[Sequence[Answers]], Iterator[bool]]
"""Work of the caller's in small steps, done while the children are busy. It sees the answers as they come; a step that
finds nothing to do yields False. It must end once all modules are answered."""


def import_modules(
    project: Project, modules: Sequence[Module], setups: Sequence[Setup], chores: Chores = lambda _: iter(())
) -> list[Answers]:
    """Import the modules once in each setup, all setups at the same time, and return what each made of them.

    Raises ``ConfigurationError`` where the project's interpreter cannot be started.
    """
    lines = [_Line(project, modules, setup) for setup in setups]
    answers = [line.answers for line in lines]
    steps = chores(answers)
    try:
        with selectors.DefaultSelector() as selector:
            for line in lines:
                line.start(selector)
            while any(line.child for line in lines):
                was_busy = next(steps, False)
                deadline = min(line.deadline for line in lines if line.child)
                for key, _ in selector.select(0 if was_busy else max(0.0, deadline - time.monotonic())):
                    key.data.read(selector)
                for line in lines:
                    line.enforce_deadline(selector)
    finally:
        for line in lines:
            line.stop()
    for _ in steps:
        pass
    return answers


class _Line:
    """One setup's modules, worked off by one child after the other."""

    def __init__(self, project: Project, modules: Sequence[Module], setup: Setup) -> None:
        self.answers = Answers()
        self.child: subprocess.Popen[bytes] | None = None
        self.deadline = 0.0
        self._project = project
        self._waiting = list(modules)
        self._setup = setup
        self._offset = 0
        """How many of the waiting modules stand before the child's first one."""
        self._current: int | None = None
        self._ending: list[Any] | None = None
        self._buffer = b""
        self._answer_fd = -1
        self._printed: BinaryIO
        self._trace: BinaryIO

    def start(self, selector: selectors.BaseSelector) -> None:
        """Start a child for the modules that are still waiting."""
        if not self._waiting[self._offset :]:
            return
        self._answer_fd, child_fd = os.pipe()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 closed when the child is
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115 likewise
        python = interpreter(self._project)
        try:
            with tempfile.TemporaryFile() as request:
                request.write(json.dumps(self._request()).encode())
                request.seek(0)
                self.child = subprocess.Popen(
                    # -P: a project's json.py must not hide Python's before anything runs.
                    [python, "-P", "-m", "aiflow_sdk.discovery", str(child_fd), str(self._trace.fileno())],
                    stdin=request,
                    stdout=self._printed,
                    stderr=self._printed,
                    pass_fds=(child_fd, self._trace.fileno()),
                    cwd=self._project.root,
                    env=self._environment(),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._answer_fd)
            self._printed.close()
            self._trace.close()
            raise broken_interpreter(self._project, f"cannot be started: {error.strerror}") from error
        finally:
            os.close(child_fd)
        self._current, self._ending, self._buffer = None, None, b""
        self.deadline = time.monotonic() + max(START_SECONDS, self._project.discovery_timeout_seconds)
        selector.register(self._answer_fd, selectors.EVENT_READ, self)

    def read(self, selector: selectors.BaseSelector) -> None:
        """Take what the child says; where it has ended too early, its module is to blame and a new child goes on."""
        content = os.read(self._answer_fd, 1 << 20)
        if not content:
            self._replace(selector, self._ended())
            return
        *messages, self._buffer = (self._buffer + content).split(b"\n")
        for text in messages:
            message = json.loads(text)
            if "begin" in message:
                self._current = message["begin"]
                self.deadline = time.monotonic() + self._project.discovery_timeout_seconds
            elif "done" in message:
                module = self._waiting[self._offset + message["done"]]
                self.answers.imported[module.name] = Imported.from_dict(message)
                self.answers.printed[module.name] = message["printed"]
            elif "ending" in message:
                self._ending = message["ending"]
            else:
                self._release(selector)
                self._offset = len(self._waiting)

    def enforce_deadline(self, selector: selectors.BaseSelector) -> None:
        """End a child whose module takes too long, and go on with the next module."""
        if self.child and time.monotonic() >= self.deadline:
            place = self._interrupted_place()
            seconds = self._project.discovery_timeout_seconds
            if self._current is None:
                raise self._broken("does not start")
            module = self._waiting[self._offset + self._current]
            self._replace(selector, module_timeout(module.name, seconds, place or Where(module.path)))

    def stop(self) -> None:
        """End the child and whatever user code started in its session."""
        if self.child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            self.child = None
            os.close(self._answer_fd)
            self._printed.close()
            self._trace.close()

    def _replace(self, selector: selectors.BaseSelector, problem: AiflowError) -> None:
        if self._current is None:
            raise self._broken("cannot import aiflow")
        module = self._waiting[self._offset + self._current]
        self.answers.imported[module.name] = Imported(problems=[problem])
        self.answers.printed[module.name] = ""
        self._offset += self._current + 1
        self._release(selector)
        self.start(selector)

    def _release(self, selector: selectors.BaseSelector) -> None:
        selector.unregister(self._answer_fd)
        self.stop()

    def _ended(self) -> AiflowError:
        """Return the problem of a module that has ended the process."""
        assert self.child
        status = self.child.wait()
        if self._current is None:
            raise self._broken("cannot import aiflow")
        module = self._waiting[self._offset + self._current]
        place = self._traced_place()
        if place is None and self._ending and self._ending[0]:
            place = Where(*self._ending)
        return module_crashed(module.name, status, place or Where(module.path), self._output())

    def _interrupted_place(self) -> Where | None:
        """Ask the child where it is, and return its innermost line of the project."""
        assert self.child
        if self._current is not None:
            with suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGUSR1)
            patience = time.monotonic() + _TRACE_SECONDS
            while time.monotonic() < patience and self._traced_place() is None:
                time.sleep(0.01)
        return self._traced_place()

    def _traced_place(self) -> Where | None:
        self._trace.seek(0)
        return traced_place(self._trace.read().decode("ascii", "replace"), self._project.root)

    def _output(self) -> list[str]:
        self._printed.seek(0)
        return self._printed.read()[-2000:].decode("utf-8", "replace").splitlines()

    def _broken(self, what: str) -> AiflowError:
        return broken_interpreter(self._project, what, self._output())

    def _request(self) -> Mapping[str, Any]:
        return {
            "root": str(self._project.root),
            "path": import_path(self._project),
            "pythonpath": os.environ.get("PYTHONPATH"),
            "modules": self._waiting[self._offset :],
            "clock": self._setup.clock,
            "timeout_seconds": self._project.discovery_timeout_seconds,
        }

    def _environment(self) -> dict[str, str]:
        environment = {**import_environment(self._project), "PYTHONHASHSEED": str(self._setup.hash_seed)}
        if self._setup.timezone:
            environment["TZ"] = self._setup.timezone
        return environment


def import_path(project: Project) -> list[str] | None:
    """Return the import path that a child takes over; None where another interpreter has one of its own."""
    return None if is_foreign(project) else path_of_others()


def import_environment(project: Project) -> dict[str, str]:
    """Return the environment variables with which a child can import aiflow before it takes over the import path."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    if not is_foreign(project):
        environment["PYTHONPATH"] = os.pathsep.join(path_of_others())
    return environment


def broken_interpreter(project: Project, what: str, output: Sequence[str] = ()) -> AiflowError:
    """Return the error of an interpreter that cannot do a child's work."""
    return ConfigurationError(
        "broken-interpreter",
        f"the interpreter {interpreter(project)} {what}",
        where=Where("aiflow.toml", about="python") if project.python else None,
        hint='correct python = "…" in aiflow.toml'
        if what.startswith("cannot be started")
        else "install aiflow-sdk and what the project needs in its environment",
        notes=output,
    )


def other_timezone() -> str:
    """Return a time zone in which it is another day now than here."""
    ahead, behind = "Etc/GMT-14", "Etc/GMT+12"
    hours = time.localtime().tm_gmtoff / 3600
    now = time.time()
    return ahead if _day(now, 14) != _day(now, hours) else behind


def _day(moment: float, hours: float) -> int:
    return int((moment + 3600 * hours) // 86400)
