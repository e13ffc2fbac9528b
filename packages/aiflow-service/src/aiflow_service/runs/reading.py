"""Lists runs and tells one whole: its tasks, their attempts, their nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.tables import jobs, namespaces, projects, runs
from aiflow_service.runs.telling import tell_run, tell_story

_MAX_PARTS = 5_000


@dataclass(frozen=True)
class RunFilter:
    """Which runs; started between two moments (the second excluded).

    ``parts`` lists runs that are part of others too.
    """

    pipeline: str | None = None
    project: str | None = None
    environment: str | None = None
    state: str | None = None
    job_id: int | None = None
    since: int | None = None
    until: int | None = None
    parts: bool = False


def list_runs(
    connection: Connection, scope: Scope, wanted: RunFilter, *, before: tuple[int, int] | None, limit: int
) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """Return runs, the newest start first, those behind the place ``before``, and where to go on."""
    statement = _selected(scope).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit + 1)
    if not wanted.parts:
        statement = statement.where(runs.c.parent_uid.is_(None))
    for column, value in (
        (runs.c.pipeline, wanted.pipeline),
        (runs.c.environment, wanted.environment),
        (runs.c.state, wanted.state),
        (runs.c.job_id, wanted.job_id),
        (projects.c.name, wanted.project),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.since is not None:
        statement = statement.where(runs.c.started_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(runs.c.started_at < wanted.until)
    if before is not None:
        started, number = before
        place = sa.tuple_(runs.c.started_at, runs.c.id)
        statement = statement.where(place < sa.tuple_(sa.literal(started), sa.literal(number)))
    rows = connection.execute(statement).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return [tell_run(row) for row in rows[:limit]], (last.started_at, last.id) if last else None


def find_run(connection: Connection, scope: Scope, uid: str) -> dict[str, Any] | None:
    """Return a run with all its parts, None where there is none that the caller sees."""
    row = connection.execute(_selected(scope).where(runs.c.uid == uid)).first()
    if row is None:
        return None
    parts: list[Any] = []
    above = {uid}
    while above and len(parts) < _MAX_PARTS:
        below = connection.execute(
            _selected(scope)
            .where(runs.c.parent_uid.in_(sorted(above)))
            .order_by(runs.c.started_at, runs.c.id)
            .limit(_MAX_PARTS - len(parts))
        ).all()
        told = {uid, *(part.uid for part in parts)}
        fresh = [part for part in below if part.uid not in told]
        parts += fresh
        above = {part.uid for part in fresh[:500]}
    return tell_story(row, parts, is_cut=len(parts) >= _MAX_PARTS)


def changed_since(
    connection: Connection, scope: Scope, number: int, *, limit: int
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the runs that events behind a number have touched, with the number of their last one, in its order."""
    statement = _selected(scope).where(runs.c.changed > number).order_by(runs.c.changed, runs.c.id).limit(limit)
    for row in connection.execute(statement):
        yield row.changed, tell_run(row)


def newest_change(connection: Connection) -> int:
    """Return the number of the last event that touched a run."""
    return connection.execute(sa.select(sa.func.max(runs.c.changed))).scalar() or 0


def _selected(scope: Scope) -> sa.Select[Any]:
    statement = sa.select(
        runs, jobs.c.name.label("job_name"), namespaces.c.name.label("job_namespace"), projects.c.name.label("project")
    )
    joined = runs.join(jobs, jobs.c.id == runs.c.job_id).join(namespaces, namespaces.c.id == jobs.c.namespace_id)
    joined = joined.outerjoin(projects, projects.c.id == runs.c.project_id)
    return statement.select_from(joined).where(scope.sees(runs.c.team_id))
