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
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORK, LOAD = b"F", b"L"
"""What a server of forks may be asked."""


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
