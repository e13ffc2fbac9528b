"""Gives events back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.compression import decompress
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import dataset_names, edges, events, namespaces
from aiflow_service.openlineage import EventKind, Refusal, read_event

_SCANNED = 500


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

    Events of a dataset are looked for among those of the jobs that touch it: a page may hold fewer than ``limit``
    and still have one behind it.
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
        rows = connection.execute(statement.limit(limit + 1)).all()
        more = len(rows) > limit
        return [_told(row) for row in rows[:limit]], rows[limit - 1].id if more else None
    touching = sa.select(edges.c.job_id).where(edges.c.dataset_id == wanted.dataset_id)
    mine = (events.c.dataset_id == wanted.dataset_id) | events.c.job_id.in_(touching)
    names = _names_of(connection, wanted.dataset_id)
    found = []
    rows = connection.execute(statement.where(mine).limit(_SCANNED)).all()
    for row in rows:
        if row.dataset_id is not None or _touches(decompress(row.body), names):
            found.append(_told(row))
            if len(found) == limit:
                return found, row.id
    return found, rows[-1].id if len(rows) == _SCANNED else None


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
