"""How a process and its child talk: an order down one pipe, records up another, a lifeline that says nothing.

And where a server that forks such children is found: see :mod:`aiflow_sdk.runtime.forkserver`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import termios
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FORK, LOAD = b"F", b"L"
"""What a server of forks may be asked."""
PROGRESS_SECONDS = 5.0
"""How often a line that is written over is told while it is: often enough to watch, seldom enough for a log."""
LONGEST_BYTES = 1 << 16
"""How long a line of output may be before it is cut."""


class RecordWriter:
    """Writes records, one JSON a line, to a file descriptor. Any thread may."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write one record; blocks while the reader is behind."""
        data = memoryview((json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace"))
        with self._lock:
            while data:
                data = data[os.write(self._handle, data) :]


class RecordReader:
    """Cuts what arrives on a file descriptor into lines."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._rest = b""
        os.set_blocking(handle, False)

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the complete lines that are there now, and whether the other side has closed the pipe."""
        chunks = [self._rest]
        closed = False
        while True:
            try:
                chunk = os.read(self.handle, 1 << 18)
            except BlockingIOError:
                break
            if not chunk:
                closed = True
                break
            chunks.append(chunk)
        *lines, self._rest = b"".join(chunks).split(b"\n")
        return lines, closed

    def rest(self) -> bytes:
        """Return what arrived after the last line end."""
        rest, self._rest = self._rest, b""
        return rest


def await_read(handle: int, patience_seconds: float) -> None:
    """Wait until the other side of a pipe has taken all that was written to it. For anything else nobody waits."""
    patience = time.monotonic() + patience_seconds
    with suppress(OSError):
        while stat.S_ISFIFO(os.fstat(handle).st_mode) and time.monotonic() < patience:
            (waiting,) = struct.unpack("i", fcntl.ioctl(handle, termios.FIONREAD, bytes(4)))
            if not waiting:
                return
            time.sleep(0.001)


class OutputReader(RecordReader):
    """Cuts what a process prints into lines, as somebody who looks at a terminal would read them.

    Of a line that is written over again and again (with carriage returns, as progress bars are) comes a state every
    :data:`PROGRESS_SECONDS`, and the last one. A line that does not end comes in pieces of :data:`LONGEST_BYTES`.
    """

    def __init__(self, handle: int) -> None:
        super().__init__(handle)
        self._shown = b""
        self._shown_at = 0.0

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the lines that are there now, and whether the other side has closed the pipe."""
        ended, closed = super().lines()
        found = [shown for line in ended for shown in self._last_states(line)]
        states = self._rest.split(b"\r")
        if len(states) > 2:
            # The last state may be the one that stays: what comes next can be the line's end.
            self._rest = b"\r".join(states[-2:])
            if states[-2] and time.monotonic() - self._shown_at >= PROGRESS_SECONDS:
                self._shown, self._shown_at = states[-2], time.monotonic()
                found.append(self._shown)
        while len(self._rest) > LONGEST_BYTES:
            # Between words where there are any: a value that is to be hidden is not seen in halves.
            end = self._rest.rfind(b" ", 0, LONGEST_BYTES) + 1 or LONGEST_BYTES
            found.append(self._rest[:end])
            self._rest = self._rest[end:]
        return found, closed

    def rest(self) -> bytes:
        """Return what arrived after the last line end."""
        return b"".join(self._last_states(super().rest()))

    def _last_states(self, line: bytes) -> list[bytes]:
        if b"\r" not in line:
            return [line]
        last = next((state for state in reversed(line.split(b"\r")) if state), b"")
        shown, self._shown = self._shown, b""
        return [] if shown and last == shown else [last]


def read_all(handle: int) -> Any:
    """Return the JSON value that is written to a file descriptor until it is closed."""
    with os.fdopen(handle, "rb") as stream:
        return json.loads(stream.read())


def die_with(lifeline: int) -> None:
    """End this process's whole group the moment the other end of ``lifeline`` is closed, however its owner ended.

    Where the kernel can (Linux), it does so by itself, even while a thread holds Python's lock; else a thread does.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def address_of(python: Path, variables: Mapping[str, str]) -> str:
    """Return the address of the server of forks for this user, interpreter and set of environment variables."""
    said = [os.getuid(), str(python), sorted(variables.items())]
    return "aiflow-" + hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]


def user_of(connection: socket.socket) -> int:
    """Return the user at the other end of a connection of this machine."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)
