"""Takes what lies in the runs' spools to a listener, in a thread of its own: a slow one keeps no task waiting.

How far it has come stands beside each spool, in ``events.<environment>.<listener>.position`` (bytes, as text). A run
that has such a file which is behind its spool has events that the listener has not heard; the next process sends them
first. An event may come twice where a process dies between telling and noting; it never goes missing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.lineage import begin_hearing, position_in, position_of
from aiflow_sdk.plugins import Listener
from aiflow_sdk.stores import try_lock

_LONGEST_PAUSE_SECONDS = 60.0
_DIGITS = 20


class Delivery:
    """One listener, the thread that tells it, and how far it has come."""

    def __init__(
        self,
        name: str,
        listener: Listener,
        environment: str,
        say: Callable[[str], None],
        earlier: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        """``say`` is told, in words, what went wrong; ``earlier`` gives the spools that others may have left behind."""
        self.name = name
        self._listener = listener
        self._environment = environment
        self._say = say
        self._earlier = earlier
        self._noticed: SimpleQueue[Path | None] = SimpleQueue()
        self._pending: dict[Path, None] = {}
        """Spools, in order, that hold something it has not heard."""
        self._failures = 0
        self._pause_seconds = 0.0
        """How long it is left alone, because it could not be reached; 0: it could."""
        self._retry_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name=f"listener-{name}", daemon=True)
        self._thread.start()

    def begin(self, spool: Path) -> None:
        """Note that the run's events are for this listener, from the first one on."""
        begin_hearing(spool, self._environment, self.name)

    def notice(self, spool: Path) -> None:
        """Say that an event was added to the spool; returns at once."""
        self._noticed.put(spool)

    def end(self) -> None:
        """Say that no event follows."""
        self._closing.set()
        self._noticed.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until all was told; say what was not within so many seconds, and is told by the next process."""
        self._thread.join(max(0.0, seconds))
        if left := self._untold():
            why = "could not be reached" if self._pause_seconds else "is too slow"
            events = "1 event is" if left == 1 else f"{left} events are"
            self._say(f"the listener '{self.name}' {why}: {events} kept and sent with the next run")
        elif self._thread.is_alive():
            self._say(f"the listener '{self.name}' did not close in time")
        if self._failures > 1:
            self._say(f"the listener '{self.name}' failed {self._failures} times in all")

    def _deliver(self) -> None:
        for earlier in self._earlier():
            # Once this process is about to end, its own events come first.
            if not self._closing.is_set() and self.is_behind(earlier):
                self._pending[earlier] = None
                self._send_pending()
        while (spool := self._noticed.get()) is not None:
            self._pending[spool] = None
            if time.monotonic() >= self._retry_at:
                self._send_pending()
        self._send_pending()
        if not self._pause_seconds:
            self._call(self._listener.close)

    def _send_pending(self) -> None:
        for spool in list(self._pending):
            if not self._send(spool):
                self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds or 1)
                self._retry_at = time.monotonic() + self._pause_seconds
                return
            self._pending.pop(spool)
            self._pause_seconds = 0.0

    def _send(self, spool: Path) -> bool:
        """Tell, in order, what was added to the spool since; return False where the listener cannot be reached."""
        try:
            handle = os.open(self._position_of(spool), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return True  # the run was removed
        try:
            if not try_lock(handle):
                return True  # another process tells it just now
            position = position_in(os.pread(handle, _DIGITS, 0))
            with spool.open("rb") as file:
                file.seek(position)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written; whoever writes it says so when it is whole
                    event = _parsed(line)
                    if event is not None and not self._call(partial(self._listener.on_event, event)):
                        return False
                    position += len(line)
                    os.pwrite(handle, b"%0*d\n" % (_DIGITS, position), 0)
        finally:
            os.close(handle)
        return True

    def _call(self, call: Callable[[], object]) -> bool:
        """Call the listener; return False where it could not be reached, so that the same is to be told again."""
        try:
            call()
        except AiflowError as error:
            return self._fail(error) or not error.retryable
        except OSError as error:
            # A service that answers "no" (urllib's HTTPError below 500) would say it again.
            return self._fail(error) or 400 <= getattr(error, "code", 0) < 500
        except Exception as error:  # noqa: BLE001 a stranger's code: it may fail, the run may not; the spool keeps the event
            self._fail(error)
        return True

    def _fail(self, error: Exception) -> bool:
        self._failures += 1
        if self._failures == 1:
            self._say(f"the listener '{self.name}' failed: {type(error).__name__}: {error}")
        return False

    def is_behind(self, spool: Path) -> bool:
        """Tell whether there is something in the spool that the listener is meant to hear and has not."""
        try:
            return position_in(self._position_of(spool).read_bytes()) < spool.stat().st_size
        except OSError:
            return False

    def _untold(self) -> int:
        """Return how many events were not told."""
        while not self._noticed.empty():
            if (spool := self._noticed.get()) is not None:
                self._pending[spool] = None
        left = 0
        for spool in list(self._pending):
            with suppress(OSError):
                left += spool.read_bytes()[position_in(self._position_of(spool).read_bytes()) :].count(b"\n")
        return left

    def _position_of(self, spool: Path) -> Path:
        return position_of(spool, self._environment, self.name)


def close_all(deliveries: list[Delivery], seconds: float) -> None:
    """Let every listener hear what is left and close, all within so many seconds."""
    deadline = time.monotonic() + seconds
    for delivery in deliveries:
        delivery.end()
    for delivery in deliveries:
        delivery.wait(deadline - time.monotonic())


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # a process died in the middle of it
    return event if isinstance(event, dict) else None
