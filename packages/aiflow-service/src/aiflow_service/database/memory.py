"""What a writer remembers of the database, so that it need not ask again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SizedMemory(Generic[K, V]):
    """A map whose entries together weigh no more than so many bytes; any thread may use it.

    What was put in first goes first, and what alone would fill a tenth of it is not kept at all.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._entries: dict[K, tuple[V, int]] = {}
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return what is remembered; never waits."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Remember a value that weighs so many bytes, unless there is one."""
        if weight * 10 > self._most:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = (value, weight)
            self._bytes += weight
            while self._bytes > self._most:
                self._bytes -= self._entries.pop(next(iter(self._entries)))[1]


TYPICAL_BYTES = 256
"""What a key weighs that nobody has made large on purpose; names may have 2,000 bytes, and keys hold several."""


class Memory(Generic[K, V]):
    """A bounded map that learns in a transaction and keeps what it learnt only once that is committed.

    It keeps so many entries with keys of :data:`TYPICAL_BYTES`, and of larger ones fewer; values are small.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        """What the keys of what is known weigh."""
        self._known: dict[K, V] = {}
        self._learnt: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what is known, of this transaction first."""
        found = self._learnt.get(key)
        return self._known.get(key) if found is None else found

    def learn(self, key: K, value: V) -> None:
        """Note what will be so when the transaction is committed."""
        self._learnt[key] = value

    def keep(self) -> None:
        """Keep what was learnt: it is committed. The oldest is forgotten where it becomes too much."""
        for key, value in self._learnt.items():
            if key not in self._known:
                self._bytes += weight_of(key)
            self._known[key] = value
        self._learnt.clear()
        while len(self._known) > self._most or self._bytes > self._most * TYPICAL_BYTES:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._bytes -= weight_of(oldest)

    def drop(self) -> None:
        """Forget what was learnt: it was rolled back."""
        self._learnt.clear()

    def forget(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._bytes = 0
        self._learnt.clear()


def weight_of(key: Hashable) -> int:
    """Return how many bytes a key takes: a text, a number, or a tuple of keys."""
    weight = sys.getsizeof(key)
    return weight + sum(map(weight_of, key)) if type(key) is tuple else weight
