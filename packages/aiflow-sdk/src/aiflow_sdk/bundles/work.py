"""Keeps apart who publishes and who removes what is old.

Who does either says so first, in a key of its own (``work/publishing-…``, ``work/collecting-…``), and only then looks
whether somebody is at the other. So one of the two always sees the other: who collects goes home, who publishes waits
for that. Without this somebody who collects could remove an object that nobody needed when it looked, just after a
publisher had written it again or had seen it there, and before that one's release said so; stores cannot delete on the
condition that nothing has changed.

How old a key is, is told by the store's moments alone: those of two machines' clocks are not compared.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from aiflow_sdk.errors import StoreError
from aiflow_sdk.stores import Store

_WORK = "work"
_PUBLISHING, _COLLECTING = f"{_WORK}/publishing-", f"{_WORK}/collecting-"
_PUBLISHING_SECONDS = 86_400.0
"""A publisher's key that is older is a dead one's."""
_COLLECTING_SECONDS = 600.0
"""The same of one who collects: that one writes it anew before each batch, and removes none after half of that time."""
_LOOK_AGAIN_SECONDS = 0.5
_SAY_AGAIN_SECONDS = 60.0
_TRIES = 5
_T = TypeVar("_T")
Clock = Callable[[], tuple[float, ...]]
"""Tells the time in one or several ways, each in seconds; what went by is the most that one of them says."""


def since_boot() -> tuple[float, ...]:
    """Tell the time by clocks of which one at least has gone on while the machine slept.

    Python's monotonic clock stands still then, and the wall's may be set; a guest that was halted has only that one.
    """
    return (time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)), time.time())


def _gone_by(since: tuple[float, ...], now: tuple[float, ...]) -> float:
    return max(late - early for early, late in zip(since, now, strict=True))


@contextmanager
def publishing(
    store: Store,
    waits: Callable[[], None] | None = None,
    *,
    clock: Clock = since_boot,
    pause: float = _LOOK_AGAIN_SECONDS,
) -> Iterator[None]:
    """While the block runs, nobody removes an object or a release.

    ``waits`` is called where somebody who removes what is old is waited for: of one that died that takes minutes.
    """
    key = f"{_PUBLISHING}{uuid.uuid4().hex}"
    try:
        said = clock()
        _say(store, key)
        is_told = False
        while _is_done(store, key, _COLLECTING, _COLLECTING_SECONDS, since=_gone_by(said, clock())):
            if waits and not is_told:
                waits()
                is_told = True
            time.sleep(pause)
            if _gone_by(said, clock()) > _SAY_AGAIN_SECONDS:
                said = clock()
                _say(store, key)
        yield
    finally:
        with suppress(StoreError):  # what remains is taken for a dead one's tomorrow
            store.delete([key])


@contextmanager
def collecting(store: Store) -> Iterator[Collection]:
    """Collect while the block runs, as far as the collection lets it."""
    collection = Collection(store, f"{_COLLECTING}{uuid.uuid4().hex}")
    try:
        yield collection
    finally:
        with suppress(StoreError):
            moments = dict(store.moments(_WORK))
            oldest = moments.get(collection.key, 0.0) - _PUBLISHING_SECONDS
            store.delete([collection.key, *(key for key, moment in moments.items() if moment < oldest)])


@dataclass
class Collection:
    """What one who collects may do."""

    store: Store
    key: str
    clock: Clock = since_boot
    _asked_at: tuple[float, ...] | None = None

    def may_go_on(self) -> bool:
        """Say again that we collect, so that nobody thinks us dead, and tell whether nobody publishes."""
        self._asked_at = self.clock()
        _say(self.store, self.key)
        return not _is_done(self.store, self.key, _PUBLISHING, _PUBLISHING_SECONDS)

    @property
    def is_late(self) -> bool:
        """Whether so much time has gone by since that somebody may think us dead, because this machine slept."""
        return self._asked_at is None or _gone_by(self._asked_at, self.clock()) > _COLLECTING_SECONDS / 2


def _is_done(store: Store, own: str, prefix: str, seconds: float, *, since: float = 0.0) -> bool:
    """Tell whether somebody has said, not longer ago than so many seconds, that it does this.

    Now is the moment that the store gave to our ``own`` key, which was written ``since`` seconds ago.
    """
    moments = dict(store.moments(_WORK))
    if own not in moments:  # somebody took us for dead; who waits says it anew
        return True
    oldest = moments[own] + since - seconds
    return any(key.startswith(prefix) and moment >= oldest for key, moment in moments.items())


def _say(store: Store, key: str) -> None:
    again(lambda: store.put(key, b""))


def again(write: Callable[[], _T]) -> _T:
    """Write once more where, in a folder, a collection removed the empty folder that was about to be written to."""
    for _ in range(_TRIES - 1):
        try:
            return write()
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    return write()
