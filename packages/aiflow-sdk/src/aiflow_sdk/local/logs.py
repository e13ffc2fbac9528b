"""Sends what user code prints and logs to the file of the task that it belongs to, although tasks share a process."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from aiflow_sdk.local.records import OnRecord, Record, task_record
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.stores import writing

Stream = Literal["stdout", "stderr"]


class AttemptLog:
    """The log of one attempt: a file of ``log`` records, one a line, written at once so that a kill loses none."""

    def __init__(self, path: Path, run: Mapping[str, Any], task_id: str, attempt: int, emit: OnRecord) -> None:
        self._run, self._task_id, self._attempt, self._emit = run, task_id, attempt, emit
        self._rest: dict[str, str] = {}
        self._lock = threading.RLock()
        with writing(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def add(self, stream: str, message: str, *, level: str = "info", **facts: Any) -> None:
        """Add one line, the values of secrets hidden."""
        record = task_record(
            "log",
            self._run,
            self._task_id,
            self._attempt,
            stream=stream,
            level=level,
            message=REDACTOR.hide(message),
            **facts,
        )
        append_log(self._handle, record)
        self._emit(record)

    def write(self, stream: Stream, text: str) -> None:
        """Add text as it is printed: each line when it is complete."""
        with self._lock:
            *lines, rest = (self._rest.pop(stream, "") + text).split("\n")
            if rest:
                self._rest[stream] = rest
            for line in lines:
                self.add(stream, line)

    def close(self) -> None:
        """Add what was printed without a line end. What a thread left behind prints later is lost."""
        with self._lock:
            for stream, rest in self._rest.items():
                self.add(stream, rest)
            self._rest = {}
            os.close(self._handle)
            self._handle = -1


def append_log(handle: int, record: Record) -> None:
    """Write one record to an open log file; a full disk loses the line and not the task."""
    if handle >= 0:
        with suppress(OSError):
            os.write(handle, (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace"))


class OutputRouter:
    """Knows which thread works for which attempt. A thread that user code starts works for its starter's."""

    def __init__(self) -> None:
        self._logs: dict[threading.Thread, AttemptLog] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Route ``sys.stdout``, ``sys.stderr`` and logging of the whole process."""
        router, stdout, stderr, start = self, sys.stdout, sys.stderr, threading.Thread.start

        def start_routed(thread: threading.Thread) -> None:
            log = router.current()
            if log is not None:
                router._logs[thread] = log
            start(thread)

        handler = _Handler(self)
        root = logging.getLogger()
        level = root.level
        sys.stdout, sys.stderr = _Routed(self, "stdout", stdout), _Routed(self, "stderr", stderr)
        # A thread has no other link to the one that started it.
        threading.Thread.start = start_routed  # type: ignore[method-assign, assignment]
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = stdout, stderr
            threading.Thread.start = start  # type: ignore[method-assign]  # as it was
            root.removeHandler(handler)
            root.setLevel(level)

    @contextmanager
    def bound(self, log: AttemptLog) -> Iterator[None]:
        """Let this thread work for the attempt."""
        thread = threading.current_thread()
        self._logs[thread] = log
        try:
            yield
        finally:
            for other in [other for other, owner in list(self._logs.items()) if owner is log]:
                self._logs.pop(other, None)
            log.close()

    def current(self) -> AttemptLog | None:
        """Return the attempt that this thread works for."""
        return self._logs.get(threading.current_thread())


class _Routed(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, router: OutputRouter, stream: Stream, original: TextIO) -> None:
        self._router, self._stream, self._original = router, stream, original

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        log = self._router.current()
        if log is None:
            return self._original.write(text)
        log.write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        self._original.flush()

    def fileno(self) -> int:
        return self._original.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property in the base's stub, an attribute in its users'
        return "utf-8"

    @property
    def buffer(self) -> io.RawIOBase:
        return _Bytes(self)


class _Bytes(io.RawIOBase):
    def __init__(self, text: _Routed) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "replace"))
        return len(raw)


class _Handler(logging.Handler):
    def __init__(self, router: OutputRouter) -> None:
        super().__init__()
        self._router = router
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        log = self._router.current()
        if log is None:
            return
        try:
            facts = {"logger": record.name} | ({"node_id": node} if (node := getattr(record, "node_id", None)) else {})
            log.add("log", self.format(record), level=record.levelname.lower(), **facts)
        except Exception:  # noqa: BLE001 logging must never break what it watches; the standard handlers do the same
            self.handleError(record)
