"""Who does a run. ``owner.lock`` in its folder is locked by the process that does it, and names that one's session.

While the session goes on the run is nobody else's: where the process is lost, the session starts the next one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from aiflow_sdk.errors import RunError
from aiflow_sdk.local.session import SESSION_DIR, is_going_on
from aiflow_sdk.stores import try_lock, writing

LETTING_GO_SECONDS = 10.0
"""How long a run may be held by what a killed process had forked, or by who tells the end of it."""
LOCK = "owner.lock"
_LOOK_SECONDS = 0.01
_MOST_BYTES = 4096
"""Of the name of a session."""


class Ownership:
    """The lock in a run's folder, and whether this process has it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._lock: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether this process does the run, or holds it."""
        return self._lock is not None

    def take(self, run_id: str, *, wait_seconds: float = LETTING_GO_SECONDS) -> None:
        """Do the run, until :meth:`leave` or the end of this process. Raises ``StoreError``.

        Raises ``RunError`` where it is of another session, or another process has it after ``wait_seconds``.
        """
        mine = os.environ.get(SESSION_DIR, "")
        deadline = time.monotonic() + wait_seconds
        with writing(self._path.parent):
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                while True:
                    is_free, another = try_lock(handle), _session_of(handle, but=mine)
                    if is_free and another is None:
                        break
                    if another is not None or time.monotonic() >= deadline:
                        raise RunError(
                            "run-in-progress",
                            f"run {run_id} is being done by another process",
                            hint="wait for it, or cancel it there",
                        )
                    time.sleep(_LOOK_SECONDS)
                os.ftruncate(handle, 0)
                os.pwrite(handle, os.fsencode(mine), 0)
            except BaseException:  # whatever it is, Ctrl-C too: nobody has it
                os.close(handle)
                raise
        self._lock = handle

    def hold(self) -> bool:
        """Keep everybody from doing the run, until :meth:`leave`; False where somebody does it. Raises ``OSError``."""
        handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        is_free = False
        try:
            is_free = try_lock(handle) and not _session_of(handle)
        finally:
            if not is_free:
                os.close(handle)
        self._lock = handle if is_free else None
        return is_free

    def leave(self) -> None:
        """Let the run go: its session does not go on with it either."""
        if self._lock is not None:
            with suppress(OSError):  # whoever wants it then waits for the session
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def is_taken(self) -> bool:
        """Whether a process does the run, or will, as its session goes on. Raises ``OSError``."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(handle, shared=True) or _session_of(handle) is not None
        finally:
            os.close(handle)


def _session_of(handle: int, *, but: str = "") -> str | None:
    """Return the session that a lock names, if it goes on and is another than ``but``."""
    session = os.fsdecode(os.pread(handle, _MOST_BYTES, 0))
    return session if session not in ("", but) and is_going_on(session) else None
