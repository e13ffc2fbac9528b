"""Takes entries of an Airflow's event log into the chain, each once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from aiflow_service.audit.entries import Caller, Entry
from aiflow_service.audit.recording import record
from aiflow_service.database import Writing
from aiflow_service.database.bulk import insert_rows, select_in
from aiflow_service.database.tables import taken_entries
from aiflow_service.masking import hide_secrets, hide_secrets_in_bytes

AIRFLOW = "airflow"
"""Begins the actors and actions of what was taken in from an Airflow; nobody of the service is called so."""


class TakenEntry(Struct, frozen=True):
    """An entry of an Airflow's event log; ``number`` is its id there, ``moment`` in microseconds since 1970."""

    number: int
    moment: int
    event: str
    user: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    environment: str | None = None
    project: str | None = None
    pipeline: str | None = None
    """Environment, project and pipeline: of a DAG that is a pipeline of aiflow."""
    extra: str | None = None
    """What else Airflow notes, mostly JSON."""


def last_taken(connection: Connection, source: str) -> int | None:
    """Return when the newest entry was made that was taken in from a source; None where there is none."""
    newest = sa.select(sa.func.max(taken_entries.c.moment)).where(taken_entries.c.source == source)
    found: int | None = connection.execute(newest).scalar()
    return found


def take_entries(
    writing: Writing,
    caller: Caller,
    source: str,
    entries: Iterable[TakenEntry],
    team_of: Callable[[str, str], int],
) -> int:
    """Record the entries that were not taken in before and return how many these are.

    ``caller`` is who brings them, which each row tells; ``team_of`` says whose a project's pipelines are in an
    environment. Rows without a pipeline are about the whole Airflow, and seen by whoever sees all teams.
    """
    given = {one.number: one for one in entries}
    numbers = sa.select(taken_entries.c.number).where(taken_entries.c.source == source)
    for row in select_in(writing.connection, numbers, taken_entries.c.number, given):
        del given[row.number]
    fresh = [given[number] for number in sorted(given)]
    if not fresh:
        return 0
    last = record(writing, *(_entry(caller, source, one, team_of) for one in fresh))
    first = last - len(fresh) + 1
    rows = [(source, one.number, one.moment, first + place) for place, one in enumerate(fresh)]
    insert_rows(writing, taken_entries, ("source", "number", "moment", "seq"), rows)
    return len(fresh)


def _entry(caller: Caller, source: str, one: TakenEntry, team_of: Callable[[str, str], int]) -> Entry:
    is_ours = bool(one.environment and one.project and one.pipeline)
    details = {
        "taken_from": source,
        "entry": one.number,
        "dag_id": one.dag_id,
        "run_id": one.run_id,
        "task_id": one.task_id,
        "extra": _read(one.extra),
    }
    return Entry(
        Caller(f"{AIRFLOW}:{one.user or 'nobody'}", caller.origin, caller.trace_id, caller.by),
        f"{AIRFLOW}.{one.event}",
        "pipeline" if is_ours else "dag" if one.dag_id else AIRFLOW,
        f"{one.project}/{one.pipeline}" if is_ours else one.dag_id or source,
        team_id=team_of(one.project or "", one.environment or "") if is_ours else None,
        environment=one.environment,
        details={name: value for name, value in details.items() if value is not None},
        moment=one.moment,
    )


def _read(extra: str | None) -> Any:
    """Return what Airflow notes as what it says, without secrets; what is nested deeper than people do is hidden."""
    if not extra:
        return None
    try:
        return hide_secrets(json.loads(extra))
    except (ValueError, RecursionError):  # it may have been cut
        return hide_secrets_in_bytes(extra.encode("utf-8", "replace")).decode()
