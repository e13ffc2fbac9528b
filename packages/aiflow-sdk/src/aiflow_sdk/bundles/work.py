"""Keeps apart who publishes and who removes what is old.

Who does either says so first, in a key of its own (``work/publishing-…``, ``work/collecting-…``), and only then looks
whether somebody is at the other. So one of the two always sees the other: who collects goes home, who publishes waits
for that. Without this somebody who collects could remove an object that nobody needed when it looked, just after a
publisher had written it again or had seen it there, and before that one's release said so; stores cannot delete on the
condition that nothing has changed.
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
_TRIES = 5
_T = TypeVar("_T")


@contextmanager
def publishing(store: Store) -> Iterator[None]:
    """While the block runs, nobody removes an object or a release."""
    key = f"{_PUBLISHING}{uuid.uuid4().hex}"
    _say(store, key)
    try:
        while _is_done(store, _COLLECTING, _COLLECTING_SECONDS):
            time.sleep(_LOOK_AGAIN_SECONDS)
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
        oldest = time.time() - _PUBLISHING_SECONDS
        with suppress(StoreError):
            store.delete([collection.key, *(key for key, moment in store.moments(_WORK) if moment < oldest)])


@dataclass
class Collection:
    """What one who collects may do."""

    store: Store
    key: str
    _asked_at: float = 0.0

    def may_go_on(self) -> bool:
        """Say again that we collect, so that nobody thinks us dead, and tell whether nobody publishes."""
        self._asked_at = time.monotonic()
        _say(self.store, self.key)
        return not _is_done(self.store, _PUBLISHING, _PUBLISHING_SECONDS)

    @property
    def is_late(self) -> bool:
        """Whether so much time has gone by since that somebody may think us dead, because this machine slept."""
        return time.monotonic() - self._asked_at > _COLLECTING_SECONDS / 2


def _is_done(store: Store, prefix: str, seconds: float) -> bool:
    """Tell whether somebody has said, not longer ago than so many seconds, that it does this."""
    oldest = time.time() - seconds
    return any(key.startswith(prefix) and moment >= oldest for key, moment in store.moments(_WORK))


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
