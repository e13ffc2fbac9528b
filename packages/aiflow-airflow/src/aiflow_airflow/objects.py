"""The objects of a bundle store that this machine keeps: each once for all versions, known by its content.

``<folder>/<aa>/<sha256>``; the time of a file says, to a day, when it was last used. One that is damaged or gone is
fetched again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from aiflow_sdk.bundles import digest

_DAY_SECONDS = 86_400.0
_LOCK = "use.lock"


class KeptObjects:
    """A folder of objects. Any number of processes may read, add and collect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha: str) -> Path:
        """Return where the object lies, or would."""
        return self.folder / sha[:2] / sha

    def find(self, sha: str) -> bytes | None:
        """Return the object, or None where it is not there whole; for a day nobody removes what was found."""
        path = f"{self.folder}/{sha[:2]}/{sha}"  # half of the price of a Path, for each DAG of a file
        try:
            with open(path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_mtime < time.time() - _DAY_SECONDS:
                    with self._locked(fcntl.LOCK_SH):
                        os.utime(path)
                content = file.read()
        except OSError:
            return None
        return content if digest(content) == sha else None

    def keep(self, sha: str, content: bytes) -> None:
        """Add an object, in one step."""
        path = self.path(sha)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        beside.write_bytes(content)
        os.replace(beside, path)

    def collect(self, keep_days: float) -> int:
        """Remove what nobody has used for so many days (at least two), and return how many they were."""
        oldest = time.time() - max(2.0, keep_days) * _DAY_SECONDS
        removed = 0
        for path in self.folder.glob("??/*"):
            # Who uses an old one says so first, under the lock: what is still old then is in nobody's hands.
            if _time_of(path) < oldest:
                with self._locked(fcntl.LOCK_EX):
                    if _time_of(path) < oldest:
                        path.unlink()
                        removed += 1
        return removed

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self.folder / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _time_of(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()
