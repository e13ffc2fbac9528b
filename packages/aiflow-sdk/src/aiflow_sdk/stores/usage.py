"""How much lies in a part of a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """How much lies in a part of a store."""

    objects: int = 0
    bytes: int = 0
    changed: float = 0.0
    """The moment (seconds since 1970) at which one of them was written last; 0 where there is none."""

    @classmethod
    def of(cls, found: Iterable[tuple[int, float]]) -> Usage:
        """Return the usage of objects, each given by its bytes and the moment of its writing."""
        objects, total, changed = 0, 0, 0.0
        for size, moment in found:
            objects, total, changed = objects + 1, total + size, max(changed, moment)
        return cls(objects, total, changed)
