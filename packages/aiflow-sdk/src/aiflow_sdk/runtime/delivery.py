"""Takes what lies in the runs' spools to a listener, in a thread of its own: a slow one keeps no task waiting.

A run's spool that is ahead of what the listener has heard (:mod:`aiflow_sdk.runtime.courier`) holds events of a process
that ended before it could tell them; the next process sends them first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue

from aiflow_sdk.lineage import refusals_of
from aiflow_sdk.plugins import Listener
from aiflow_sdk.runtime.courier import Courier, Outcome, Sent

_LONGEST_PAUSE_SECONDS = 60.0
_BUSY_SECONDS = 0.1
"""How soon is looked again at a spool that another process tells: it may not have seen the newest event."""
_SHOWN_REFUSALS = 3
_MOST_HELD = 3
"""After so many runs in a row whose next event is not taken no further one is tried just now."""


class Delivery:
    """One listener, the thread that tells it, and what it has not heard yet."""

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
        self._courier = Courier(name, listener, environment)
        self._say = say
        self._earlier = earlier
        self._noticed: SimpleQueue[Path | None] = SimpleQueue()
        self._pending: dict[Path, None] = {}
        """Spools, in order, that hold something it has not heard."""
        self._failures = 0
        self._refusals = 0
        self._outcome = Outcome.DONE
        """How the last sending has ended."""
        self._pause_seconds = 0.0
        """How long it is left alone, because it could not be reached; 0: it could."""
        self._is_asked_to_wait = False
        """Whether it was the listener that named the pause."""
        self._retry_at = 0.0
        self._deadline = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name=f"listener-{name}", daemon=True)
        self._thread.start()

    def begin(self, spool: Path) -> None:
        """Note that the run's events are for this listener, from the first one on."""
        self._courier.begin(spool)

    def notice(self, spool: Path) -> None:
        """Say that an event was added to the spool; returns at once."""
        self._noticed.put(spool)

    def end(self, deadline: float) -> None:
        """Say that no event follows, and until when (``time.monotonic``) there is time to tell the rest."""
        self._deadline = deadline
        self._closing.set()
        self._noticed.put(None)

    def wait(self) -> None:
        """Wait until all was told; say what was not in time, and is told by the next process."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if left := self._untold():
            why = "takes nothing now" if self._outcome in (Outcome.AWAY, Outcome.HELD) else "is too slow"
            events = "1 event is" if left == 1 else f"{left} events are"
            self._say(f"the listener '{self.name}' {why}: {events} kept and sent with the next run, or by: aiflow sync")
        elif self._thread.is_alive():
            self._say(f"the listener '{self.name}' did not close in time")
        if self._failures > 1:
            self._say(f"the listener '{self.name}' failed {self._failures} times in all")

    def is_behind(self, spool: Path) -> bool:
        """Tell whether there is something in the spool that the listener is meant to hear and has not."""
        return self._courier.is_behind(spool)

    def _deliver(self) -> None:
        for earlier in self._earlier():
            # Once this process is about to end, its own events come first.
            if not self._closing.is_set() and self.is_behind(earlier):
                self._pending[earlier] = None
                self._send_in_time()
        while self._take_noticed():
            self._send_in_time()
        self._finish()
        if self._outcome is not Outcome.AWAY:
            self._courier.seal()
            try:
                self._courier.listener.close()
            except Exception as error:  # noqa: BLE001 a stranger's code, and all was told
                self._fail(f"{type(error).__name__}: {error}")

    def _take_noticed(self) -> bool:
        """Wait until something was added, or until it is time to try again; False once nothing follows."""
        timeout = max(0.0, self._retry_at - time.monotonic()) if self._pending else None
        try:
            while (spool := self._noticed.get(timeout=timeout)) is not None:
                self._pending[spool] = None
                timeout = 0.0
        except Empty:
            return True
        return False

    def _finish(self) -> None:
        """Tell what is left while there is time: once, and again where another tells it or the listener asked so."""
        while self._pending:
            is_waiting = self._is_asked_to_wait or self._outcome is Outcome.BUSY
            pause = max(0.0, self._retry_at - time.monotonic()) if is_waiting else 0.0
            if time.monotonic() + pause >= self._deadline:
                return
            time.sleep(pause)
            if not self._send_pending() and not self._is_asked_to_wait:
                return

    def _send_in_time(self) -> None:
        if time.monotonic() >= self._retry_at:
            self._send_pending()

    def _send_pending(self) -> bool:
        """Send what is pending; False where trying again soon is of no use."""
        is_worth_while = True
        held = 0
        self._retry_at = 0.0
        for spool in list(self._pending):
            sent = self._courier.send(spool)
            self._tell_refusals(spool, sent)
            self._outcome = sent.outcome
            self._is_asked_to_wait = sent.pause_seconds is not None
            if sent.outcome is Outcome.BUSY:
                self._retry_at = time.monotonic() + _BUSY_SECONDS
                continue
            if sent.outcome is Outcome.DONE:
                self._pending.pop(spool)
                self._pause_seconds, held = 0.0, 0
                continue
            self._fail(str(sent.why or "it does not take the event"))
            self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds or 1)
            self._retry_at = time.monotonic() + max(self._pause_seconds, sent.pause_seconds or 0.0)
            is_worth_while = False
            held += 1
            if sent.outcome is Outcome.AWAY or held == _MOST_HELD:
                break
        return is_worth_while

    def _tell_refusals(self, spool: Path, sent: Sent) -> None:
        for why in sent.refused:
            self._failures += 1
            self._refusals += 1
            if self._refusals <= _SHOWN_REFUSALS:
                kept = refusals_of(spool, self._courier.environment, self.name)
                self._say(f"the listener '{self.name}' failed: it refuses an event, which is kept in {kept}: {why}")

    def _fail(self, why: str) -> None:
        self._failures += 1
        if self._failures == 1:
            self._say(f"the listener '{self.name}' failed: {why}")

    def _untold(self) -> int:
        """Return how many events were not told."""
        while not self._noticed.empty():
            if (spool := self._noticed.get()) is not None:
                self._pending[spool] = None
        return sum(map(self._courier.untold, list(self._pending)))


def close_all(deliveries: list[Delivery], seconds: float) -> None:
    """Let every listener hear what is left and close, all within so many seconds."""
    deadline = time.monotonic() + seconds
    for delivery in deliveries:
        delivery.end(deadline)
    for delivery in deliveries:
        delivery.wait()
