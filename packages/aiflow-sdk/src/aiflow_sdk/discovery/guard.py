"""Watches user code while it is imported and built: reads of the clock and of the network are found and refused.

What is seen: Python's own clock functions called directly from a file of the project, and Python's sockets used
anywhere below one. Not seen: a clock read inside a library or an extension module, one whose name is put together at
run time, an extension's own sockets. For those there is the double build: its second child lives in another time zone
and has another hash seed.
"""

from __future__ import annotations

import builtins
import dis
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple, Self

from aiflow_sdk.errors import AiflowError, DefinitionError, Where

_AIFLOW = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# A clock function's name → with how many arguments it reads the clock (None: with any).
_CLOCK_METHODS: dict[str, int | None] = {"now": None, "utcnow": None, "today": None}
_CLOCK_FUNCTIONS: dict[str, int | None] = {
    "time": None,
    "time_ns": None,
    "clock_gettime": None,
    "clock_gettime_ns": None,
    "localtime": 0,
    "gmtime": 0,
    "ctime": 0,
    "asctime": 0,
    "strftime": 1,
}
_SUSPECT = re.compile(
    rb"\b(?:now|utcnow|today|time_ns|localtime|gmtime|ctime|asctime|strftime|clock_gettime\w*|_exit|abort)\b"
    rb"|\btime\b(?!\s*=[^=])"
)
_MANY_SUSPECTS = 50
_NETWORK = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_RESOLUTION = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_LISTINGS = frozenset({"os.listdir", "os.scandir"})
_ENDINGS = frozenset({"_exit", "abort"})


class Finding(NamedTuple):
    """One read of the clock or of the network, and what was being done: ``import``, or building a pipeline."""

    code: str
    what: str
    path: str
    line: int
    during: str

    def to_error(self) -> AiflowError:
        """Return the problem that is told of it."""
        about = None if self.during == "import" else f"pipeline '{self.during}'"
        where = Where(self.path, self.line, about=about)
        if self.code == "clock-at-build-time":
            return DefinitionError(
                "clock-at-build-time",
                f"{self.what} reads the clock while the pipeline is built, so every build would mean something else",
                where=where,
                hint='write p.vars["run_date"] or "{{ ds }}", or read the clock in the function that runs',
            )
        return DefinitionError(
            "network-at-build-time",
            f"{self.what} uses the network while the pipeline is built",
            where=where,
            hint="read it with a source or in the function that runs, or keep it in a file of the project",
        )


class Guard:
    """Watches this thread inside ``with``; what it saw is collected until it is taken.

    ``clock=False`` leaves out the clock. To watch it makes building some three times slower, so it is only done where
    the text of a file could read it, or names a file that could. ``on_ending`` is told the place where user code is
    about to end the process without any exception.
    """

    def __init__(self, root: Path, *, clock: bool = True, on_ending: Callable[[str, int], None] | None = None) -> None:
        self.findings: list[Finding] = []
        self.reads: set[tuple[str, str]] = set()
        """(project file, path): what was opened or listed below the project by code of that file."""
        self.during = "import"
        self._root = str(root) + os.sep
        self._clock = clock
        self._on_ending = on_ending
        self._thread = threading.get_ident()
        self._known: dict[str, str | None] = {}
        self._import = builtins.__import__
        self._is_suspect = False
        self._is_watching_clock = False
        self._suspects: set[bytes] = set()
        self._looked_at: set[str] = set()
        _add_audit_hook()

    def __enter__(self) -> Self:
        global _watching
        _watching = self
        self._thread = threading.get_ident()
        if self._is_suspect:
            self._watch_clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _watching
        if self._is_watching_clock:
            sys.setprofile(None)
            builtins.__import__ = self._import
            self._is_watching_clock = False
        _watching = None

    def begin(self, filename: str) -> None:
        """Look at the module that comes next, whose import and pipelines are watched as its text demands."""
        self.during = "import"
        self._is_suspect = False
        self._look_at(filename)

    def on_execution(self, filename: str) -> None:
        """Look at a file of the project before it is executed for the first time."""
        if filename not in self._looked_at and self._thread == threading.get_ident():
            self._look_at(filename)
            if self._is_suspect and not self._is_watching_clock:
                self._watch_clock()

    def _look_at(self, filename: str) -> None:
        self._looked_at.add(filename)
        if not self._clock or self.project_path(filename) is None:
            return
        try:
            with open(filename, "rb") as file:
                content = file.read()
        except OSError:
            return
        is_named = len(self._suspects) > _MANY_SUSPECTS or any(name in content for name in self._suspects)
        if is_named or _SUSPECT.search(content):
            self._is_suspect = True
            path = Path(filename)
            self._suspects.add((path.parent.name if path.stem == "__init__" else path.stem).encode())

    def _watch_clock(self) -> None:
        self._is_watching_clock = True
        self._import, builtins.__import__ = builtins.__import__, self._import_unwatched
        sys.setprofile(self._on_event)

    def take(self) -> list[Finding]:
        """Return what was seen, each place once, and forget it."""
        findings = list(dict.fromkeys(self.findings))
        self.findings.clear()
        return findings

    def project_path(self, filename: str) -> str | None:
        """Return the path of a file of the project, relative and with ``/``; None for any other file."""
        if filename not in self._known:
            self._known[filename] = self._relative(filename)
        return self._known[filename]

    def _relative(self, filename: str) -> str | None:
        if not filename.startswith(self._root) or filename.startswith(_AIFLOW):
            return None
        path = filename[len(self._root) :].replace(os.sep, "/")
        foreign = any(part == "site-packages" or part.startswith(".") for part in path.split("/"))
        return None if foreign else path

    def _import_unwatched(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Import as usual; while a library's own module is executed, nothing is watched: that would only be slow."""
        if threading.get_ident() != self._thread or name in sys.modules or not arguments:
            return self._import(name, *arguments, **named)
        importer = (arguments[0] or {}).get("__file__") or ""
        if self.project_path(importer) is None or self._is_project_module(name):
            return self._import(name, *arguments, **named)
        sys.setprofile(None)
        try:
            return self._import(name, *arguments, **named)
        finally:
            sys.setprofile(self._on_event)

    def _is_project_module(self, name: str) -> bool:
        top = name.partition(".")[0]
        folder = self._root + top
        return not top or os.path.isdir(folder) or os.path.isfile(folder + ".py") or folder == self._root[:-1]

    def _on_event(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        name = function.__name__
        if name in _CLOCK_METHODS:
            owner = function.__self__
            if not (isinstance(owner, type) and issubclass(owner, date)):
                return
            what, wanted = f"{owner.__name__}.{name}()", _CLOCK_METHODS[name]
        elif name in _CLOCK_FUNCTIONS:
            if function.__self__ is not time:
                return
            what, wanted = f"time.{name}()", _CLOCK_FUNCTIONS[name]
        elif name in _ENDINGS and self._on_ending:
            path = self.project_path(frame.f_code.co_filename)
            self._on_ending(path or "", frame.f_lineno)
            return
        else:
            return
        path = self.project_path(frame.f_code.co_filename)
        if path and (wanted is None or _argument_count(frame.f_code, frame.f_lasti) == wanted):
            self.findings.append(Finding("clock-at-build-time", what, path, frame.f_lineno, self.during))

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LISTINGS or (event == "open" and arguments[2] & os.O_ACCMODE == os.O_RDONLY):
            self._note_read(arguments[0], event)
        elif event in _RESOLUTION or (event in _NETWORK and arguments[0].family in (socket.AF_INET, socket.AF_INET6)):
            place = self._place()
            if place:
                address = arguments[1] if event in _NETWORK else arguments[0]
                finding = Finding("network-at-build-time", f"a connection to {address!r}", *place, self.during)
                self.findings.append(finding)
                raise finding.to_error()

    def _note_read(self, named: Any, event: str) -> None:
        if not isinstance(named, str | bytes | os.PathLike):
            return
        name = os.path.abspath(os.fsdecode(named))
        path = self.project_path(name)
        if not path or path.endswith((".py", ".pyc")):
            return
        place = self._place(of_import=False)
        if place:
            self.reads.add((place[0], path + ("/" if event in _LISTINGS else "")))

    def _place(self, *, of_import: bool = True) -> tuple[str, int] | None:
        """Return the innermost line of the project that is being executed in this thread.

        ``of_import=False``: None where that line is but importing something, for which Python looks into folders.
        """
        frame: FrameType | None = sys._getframe(2)
        while frame:
            filename = frame.f_code.co_filename
            path = self.project_path(filename)
            if path:
                return path, frame.f_lineno
            if not of_import and filename.startswith("<frozen importlib"):
                return None
            frame = frame.f_back
        return None


def about_to_execute(filename: str) -> None:
    """Tell whoever watches that a file is executed next."""
    if _watching is not None:
        _watching.on_execution(filename)


_watching: Guard | None = None
_is_hooked = False


def _add_audit_hook() -> None:
    global _is_hooked
    if not _is_hooked:
        # A hook cannot be removed; while nobody watches it costs next to nothing.
        sys.addaudithook(_on_audit)
        _is_hooked = True


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is not None and (event == "open" or event in _LISTINGS or event.startswith("socket.")):
        _watching._on_audit(event, arguments)


def _argument_count(code: CodeType, instruction: int) -> int | None:
    """Return with how many arguments the instruction calls; None where that is not plain (``f(*args)``)."""
    content = code.co_code
    name = dis.opname[content[instruction]]
    return content[instruction + 1] if name in ("CALL", "PRECALL") else None
