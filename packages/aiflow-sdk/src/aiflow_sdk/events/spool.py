"""The spool: a file that each event lies in, safely on the disk, before anybody else hears of it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import StoreError

_LAST_BYTES = 8192
"""The last event mostly stands in so many."""


class Spool:
    """A file of JSON lines that is only ever added to, by any number of processes and threads."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    def append(self, event: Mapping[str, Any]) -> None:
        """Add the event and return when it is on the disk. Raises ``StoreError`` (retryable) where it cannot be."""
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        try:
            with self._lock, self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.seek(0, os.SEEK_END) and not self._ends_whole():
                    # A process died in the middle of a line; what it began must not swallow this event.
                    line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                "spool-not-writable",
                f"the event could not be written to {self.path}: {error}",
                hint="free some space, or mend the folder's rights",
                retryable=True,
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every whole event in order; a torn line is passed over."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event

    def last(self) -> dict[str, Any] | None:
        """Return the newest event, if there is one and what was added last is a whole one; nothing else is read."""
        try:
            size, length = self.path.stat().st_size, _LAST_BYTES
        except FileNotFoundError:
            return None
        while True:
            with self.path.open("rb") as file:
                file.seek(max(0, size - length))
                lines = file.read().rstrip(b"\n").split(b"\n")
            if len(lines) > 1 or length >= size:
                break
            length *= 4
        try:
            event = json.loads(lines[-1])
        except ValueError:
            return None
        return event if isinstance(event, dict) else None

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
