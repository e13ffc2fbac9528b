"""The one thread of a process that writes: collects what waits, writes it as a group, then acknowledges.

While one group is being written the next one gathers, so that groups grow with the load and a commit is shared by all
that waited for it. What is acknowledged is durable and to be seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from aiflow_service.database import UnfitDatabase, Writing, now
from aiflow_service.events import RefusedEvent
from aiflow_service.ingest.group import GroupWriter, Outcome, Submission
from aiflow_service.ingest.repeats import LATER_SECONDS
from aiflow_service.masking import hide_secrets_in_bytes
from aiflow_service.openlineage import Refusal

_LOG = logging.getLogger("aiflow_service.ingest")
_GROUP_EVENTS = 400
_LINGER_SECONDS = 0.002
"""A group waits for more while more comes in so long, and no longer than:"""
_LINGER_MOST_SECONDS = 0.02
_MAX_WAITING_EVENTS = 20_000
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_PATIENCE_SECONDS = 8.0
"""How long a database that does not answer is tried again before senders hear of it."""


_UNSTORABLE = (SQLAlchemyError, ValueError, TypeError, KeyError, OverflowError, AssertionError)
"""What is raised where the database answers, and will not hold an event."""


class Overloaded(Exception):  # noqa: N818 it is an answer
    """More waits than may: come again in a second."""


class Unwritable(Exception):  # noqa: N818 it is an answer
    """The database does not answer: come again later; what was sent may or may not be there, and counts once."""


class Waiting(Struct):
    """What one request has sent, and whom to tell."""

    submissions: list[Submission]
    refused: list[RefusedEvent]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Written]


class Written(Struct):
    """What became of what a request sent."""

    outcome: Outcome
    unstorable: dict[bytes, Refusal]
    """Events that the database would not hold, by digest: they are refused after all."""


class EventWriter:
    """Owns the thread. ``on_written`` hears every outcome, in the thread, after the senders."""

    def __init__(self, groups: GroupWriter, on_written: Callable[[Outcome, int, float], None]) -> None:
        self._groups = groups
        self._on_written = on_written
        self._waiting: deque[Waiting] = deque()
        self._events = 0
        self._bytes = 0
        self._condition = threading.Condition()
        self._is_closing = False
        self._is_lingering = False
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()

    @property
    def waiting_events(self) -> int:
        """How many events wait to be written."""
        return self._events

    async def write(self, submissions: list[Submission], refused: list[RefusedEvent]) -> Written:
        """Hand over what a request has sent and return once it is durable.

        Raises :class:`Overloaded` or :class:`UnfitDatabase` at once, or :class:`Unwritable` after some seconds.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(submissions, refused, loop, loop.create_future())
        count, size = _weight(waiting)
        with self._condition:
            full = self._events + count > _MAX_WAITING_EVENTS or self._bytes + size > _MAX_WAITING_BYTES
            if self._is_closing or (full and self._waiting):
                raise Overloaded
            self._waiting.append(waiting)
            self._events += count
            self._bytes += size
            # Whoever lingers is not woken by each: it would take the interpreter's lock only to go on waiting.
            if not self._is_lingering or self._events >= _GROUP_EVENTS:
                self._condition.notify()
        return await waiting.answer

    def write_together(self, submissions: Sequence[Submission], then: Callable[[Writing], None]) -> None:
        """Write events and what ``then`` does in one transaction, in the caller's thread; durable when it returns.

        Raises :class:`Refusal` for what the database will not hold, and what it does where it does not answer; then
        nothing of it is there.
        """
        began = time.perf_counter()
        try:
            groups = self._groups.apart()
            outcome = groups.write(submissions, (), then)
            if not groups.is_settled:
                groups.settle()
        except UnfitDatabase:
            raise  # no event is to blame
        except _UNSTORABLE as error:
            if _is_outage(error):
                raise
            raise _unstorable(error) from error
        self._on_written(outcome, len(submissions), time.perf_counter() - began)

    def close(self) -> None:
        """Write what waits, then end."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            if not (group := self._collect()):
                self._settle()
                if self._is_closing:
                    return
                continue
            began = time.perf_counter()
            submissions = [one for waiting in group for one in waiting.submissions]
            refused = [one for waiting in group for one in waiting.refused]
            unstorable: dict[bytes, Refusal] = {}
            try:
                outcome = self._write(submissions, refused, unstorable)
            except Exception as error:  # noqa: BLE001 whoever waits has to hear of it, and the thread goes on
                _LOG.exception("a group of %d events could not be written", len(submissions))
                _answer(group, None, error if isinstance(error, UnfitDatabase) else Unwritable(str(error)))
                continue
            _answer(group, Written(outcome, unstorable), None)
            try:
                self._on_written(outcome, len(submissions), time.perf_counter() - began)
            except Exception:  # noqa: BLE001 figures are not worth the thread, for which everybody waits
                _LOG.exception("a group was written, and not counted")

    def _settle(self) -> None:
        """Write what was left for later, since nothing else waits; where that fails it is tried again."""
        if self._groups.is_settled:
            return
        try:
            self._groups.settle()
        except Exception as error:  # noqa: BLE001 the thread goes on, and it comes with the next group
            _LOG.warning("what was said again could not be written: %s", str(error).splitlines()[0])

    def _collect(self) -> list[Waiting]:
        """Wait for something to write and return it; nothing when it is time to end, or to write what was left."""
        with self._condition:
            while not self._waiting and not self._is_closing:
                if not self._condition.wait(None if self._groups.is_settled else LATER_SECONDS):
                    return []
            if self._events < _GROUP_EVENTS and not self._is_closing:
                self._is_lingering = True
                latest, before = time.monotonic() + _LINGER_MOST_SECONDS, 0
                while before < self._events < _GROUP_EVENTS and time.monotonic() < latest:
                    before = self._events
                    self._condition.wait(_LINGER_SECONDS)
                self._is_lingering = False
            group: list[Waiting] = []
            taken = 0
            while self._waiting and (not group or taken + _weight(self._waiting[0])[0] <= _GROUP_EVENTS):
                one = self._waiting.popleft()
                count, size = _weight(one)
                taken += count
                self._events -= count
                self._bytes -= size
                group.append(one)
            return group

    def _write(
        self, submissions: Sequence[Submission], refused: list[RefusedEvent], unstorable: dict[bytes, Refusal]
    ) -> Outcome:
        """Write a group. An event that the database will not hold is searched out and refused; the others land."""
        try:
            return self._patiently(submissions, refused)
        except UnfitDatabase:
            raise  # no event is to blame
        except _UNSTORABLE as error:
            if _is_outage(error) or not submissions:
                raise
            if len(submissions) == 1:
                one = submissions[0]
                _LOG.error("event %s cannot be stored", one.event.digest.hex(), exc_info=error)
                refusal = _unstorable(error)
                unstorable[one.event.digest] = refusal
                return self._patiently([], [*refused, refusal_of(one.event.raw, refusal, one.team_id)])
        middle = len(submissions) // 2
        first = self._write(submissions[:middle], refused, unstorable)
        second = self._write(submissions[middle:], [], unstorable)
        return Outcome(
            first.numbers | second.numbers,
            first.refused | second.refused,
            first.ended + second.ended,
            max(first.last_number, second.last_number),
            first.ungranted | second.ungranted,
        )

    def _patiently(self, submissions: Sequence[Submission], refused: Sequence[RefusedEvent]) -> Outcome:
        """Write, again while the database does not answer: what was written after all is known by its digest."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = 0.05
        while True:
            try:
                return self._groups.write(submissions, refused)
            except (SQLAlchemyError, OSError) as error:
                if not _is_outage(error) or time.monotonic() + pause > deadline:
                    raise
                _LOG.warning("the database does not answer: %s", str(error).splitlines()[0])
                time.sleep(pause)
                pause = min(pause * 2, 1.0)


def refusal_of(raw: bytes, refusal: Refusal, team_id: int, size: int | None = None) -> RefusedEvent:
    """Return what is kept of something that was refused; ``size`` where ``raw`` is only its beginning."""
    size = len(raw) if size is None else size
    raw = hide_secrets_in_bytes(raw)
    return RefusedEvent(
        team_id=team_id,
        digest=hashlib.sha256(b"%d:%b" % (team_id, raw)).digest(),  # what two teams send alike is of each
        code=refusal.code,
        reason=refusal.reason,
        place=refusal.place,
        moment=now(),
        size=size,
        raw=raw,
    )


def _unstorable(error: BaseException) -> Refusal:
    reason = f"the event cannot be stored: {getattr(error, 'orig', None) or type(error).__name__}"
    return Refusal("event-unstorable", reason.splitlines()[0])


def _weight(waiting: Waiting) -> tuple[int, int]:
    events = len(waiting.submissions) + len(waiting.refused)
    size = sum(len(one.event.raw) for one in waiting.submissions) + sum(len(one.raw) for one in waiting.refused)
    return events, size


def _is_outage(error: BaseException) -> bool:
    """Tell whether trying again may help: the connection is gone, the server begins, the disk is full."""
    if isinstance(error, OSError):
        return True
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _answer(group: Sequence[Waiting], written: Written | None, error: Exception | None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
    for waiting in group:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer_all, some, written, error)
        except RuntimeError:
            continue  # the server has ended; nobody waits any more


def _answer_all(group: Sequence[Waiting], written: Any, error: Exception | None) -> None:
    for waiting in group:
        if waiting.answer.done():
            continue  # the sender has gone
        if error is not None:
            waiting.answer.set_exception(error)
        else:
            waiting.answer.set_result(written)
