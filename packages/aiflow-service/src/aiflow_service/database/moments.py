"""Moments as whole numbers: microseconds since 1970 in UTC, the same in both databases, ordered and exact."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROSECONDS = 1_000_000
"""How many make a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """Return the present moment."""
    return time.time_ns() // 1000


def moment_of(value: datetime) -> int:
    """Return the moment of a time that knows its zone."""
    return (value - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=20_000)
def moment_text(moment: int | None) -> str | None:
    """Return a moment as ISO 8601 in UTC with microseconds, or None of None."""
    if moment is None:
        return None
    value = _EPOCH + timedelta(microseconds=moment)
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
