"""What a writer remembers of the database, so that it need not ask again."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """A bounded map that learns in a transaction and keeps what it learnt only once that is committed."""

    def __init__(self, most: int) -> None:
        self._most = most
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
            self._known[key] = value
        self._learnt.clear()
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def drop(self) -> None:
        """Forget what was learnt: it was rolled back."""
        self._learnt.clear()

    def forget(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._learnt.clear()
