"""Stores events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from aiflow_service.database.bulk import insert_rows, read_rows, select_in
from aiflow_service.database.connection import Writing
from aiflow_service.database.moments import MICROSECONDS
from aiflow_service.database.tables import events

_DAY = 24 * 3600 * MICROSECONDS
_OF_DAY = sa.select(events.c.digest).where(events.c.event_day == sa.bindparam("day"))

_EACH_OF_DAY = """
SELECT found.digest FROM unnest(%(digests)b::bytea[]) AS given(digest) CROSS JOIN LATERAL
(SELECT digest FROM events WHERE event_day = %(day)s AND digest = given.digest LIMIT 1) AS found
"""
"""For PostgreSQL: a plan for ``= ANY`` that was made while there were few events, and is kept, reads the whole day."""


class EventRow(NamedTuple):
    """An event as it is stored; ``body`` is compressed."""

    id: int
    event_day: int
    digest: bytes
    team_id: int
    kind: int
    event_type: str
    event_time: int
    received_at: int
    run_uid: str | None
    job_id: int | None
    dataset_id: int | None
    size: int
    body: bytes


def day_of(moment: int) -> int:
    """Return the number of the day since 1970 that a moment lies in."""
    return moment // _DAY


def known_digests(writing: Writing, digests: Iterable[tuple[int, bytes]]) -> set[bytes]:
    """Return which events, given by their day and digest, are stored already."""
    by_day: dict[int, list[bytes]] = {}
    for day, digest in digests:
        by_day.setdefault(day, []).append(digest)
    found: set[bytes] = set()
    for day, wanted in by_day.items():
        if writing.is_postgres:
            rows = read_rows(writing.connection, _EACH_OF_DAY, {"digests": wanted, "day": day})
        else:
            rows = list(select_in(writing.connection, _OF_DAY, events.c.digest, wanted, {"day": day}))
        found.update(bytes(row[0]) for row in rows)
    return found


def write_events(writing: Writing, rows: Sequence[EventRow]) -> None:
    """Store events, none of which is stored already."""
    insert_rows(writing, events, EventRow._fields, rows)
