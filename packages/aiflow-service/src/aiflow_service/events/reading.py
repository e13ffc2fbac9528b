"""Gives events back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.compression import decompress
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import dataset_names, datasets, edges, events, namespaces
from aiflow_service.openlineage import EventKind, Refusal, read_event

_SCANNED = 500
_PAGE_BYTES = 32 * 1024 * 1024
"""How long the events of a page may be together, but for a single one."""


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events: of a run, a team, a job, a dataset, and between two moments (the second excluded)."""

    run_uid: str | None = None
    team_id: int | None = None
    job_id: int | None = None
    dataset_id: int | None = None
    since: int | None = None
    until: int | None = None


def list_events(
    connection: Connection, scope: Scope, wanted: EventFilter, *, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Return events in the order in which they arrived, those behind the number ``after``, and where to go on.

    A page may hold fewer than ``limit`` and still have one behind it: where its events are long, and of a dataset,
    whose events are looked for among those of the jobs that touch it.
    """
    statement = sa.select(events).where(scope.sees(events.c.team_id), events.c.id > after).order_by(events.c.id)
    if wanted.run_uid is not None:
        statement = statement.where(events.c.run_uid == wanted.run_uid)
    if wanted.team_id is not None:
        statement = statement.where(events.c.team_id == wanted.team_id)
    if wanted.job_id is not None:
        statement = statement.where(events.c.job_id == wanted.job_id)
    if wanted.since is not None:
        statement = statement.where(events.c.event_time >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(events.c.event_time < wanted.until)
    if wanted.dataset_id is None:
        rows, is_more = _first_of(connection, statement, limit)
        return [_told(row) for row in rows], rows[-1].id if is_more else None
    seen = sa.select(datasets.c.id).where(datasets.c.id == wanted.dataset_id, scope.sees_dataset())
    if connection.execute(seen).first() is None:
        return [], None  # else whoever names it in an event would learn by which number another team has it
    touching = sa.select(edges.c.job_id).where(edges.c.dataset_id == wanted.dataset_id)
    mine = (events.c.dataset_id == wanted.dataset_id) | events.c.job_id.in_(touching)
    names = _names_of(connection, wanted.dataset_id)
    found = []
    rows, is_more = _first_of(connection, statement.where(mine), _SCANNED)
    for row in rows:
        if row.dataset_id is not None or _touches(decompress(row.body), names):
            found.append(_told(row))
            if len(found) == limit:
                return found, row.id
    return found, rows[-1].id if is_more else None


def _first_of(connection: Connection, statement: sa.Select[Any], most: int) -> tuple[Sequence[Any], bool]:
    """Return the first rows of a statement, no more than are asked for and may be held, and whether there are more."""
    sizes = connection.execute(statement.with_only_columns(events.c.size).limit(most + 1)).scalars().all()
    count = total = 0
    for size in sizes[:most]:
        total += size
        if count and total > _PAGE_BYTES:
            break
        count += 1
    return connection.execute(statement.limit(count)).all(), len(sizes) > count


def event_body(connection: Connection, scope: Scope, event_id: int) -> bytes | None:
    """Return the bytes of an event, as they came; None where there is none that the caller sees."""
    mine = sa.select(events.c.body).where(events.c.id == event_id, scope.sees(events.c.team_id))
    body = connection.execute(mine).scalar()
    return None if body is None else decompress(body)


def _told(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": EventKind(row.kind).name.lower(),
        "event_type": row.event_type,
        "event_time": moment_text(row.event_time),
        "received_at": moment_text(row.received_at),
        "run_id": row.run_uid,
        "job_id": row.job_id,
        "size": row.size,
        "event": decompress(row.body),
    }


def _names_of(connection: Connection, dataset_id: int) -> set[tuple[str, str]]:
    statement = sa.select(namespaces.c.name, dataset_names.c.name).join_from(dataset_names, namespaces)
    rows = connection.execute(statement.where(dataset_names.c.dataset_id == dataset_id))
    return {(namespace, name) for namespace, name in rows}


def _touches(raw: bytes, names: set[tuple[str, str]]) -> bool:
    try:
        event = read_event(raw)
    except Refusal:  # it was taken by rules that have been changed since
        return False
    return any(name in names for one in event.datasets for name in (one.name, *one.symlinks))
