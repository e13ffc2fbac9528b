"""Lists runs and tells one whole: its tasks, their attempts, their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.bulk import given_ids, is_given
from aiflow_service.database.tables import jobs, namespaces, projects, runs, teams
from aiflow_service.runs.telling import is_told_of, tell_run, tell_story

_MAX_PARTS = 5_000
_MAX_TEAMS = 40
"""Of more the list is looked through, the newest first, until there are enough."""
_NEWEST_FIRST = (runs.c.started_at.desc(), runs.c.id.desc())


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
    conditions: list[sa.ColumnElement[bool]] = [] if wanted.parts else [runs.c.parent_uid.is_(None)]
    conditions += _narrowed_by(wanted)
    if wanted.job_id is not None:
        conditions.append(runs.c.job_id == wanted.job_id)
    if wanted.since is not None:
        conditions.append(runs.c.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(runs.c.started_at < wanted.until)
    if before is not None:
        conditions.append(sa.tuple_(runs.c.started_at, runs.c.id) < sa.tuple_(*map(sa.literal, before)))
    numbers = [
        row.id for row in connection.execute(_newest(_narrowings(connection, scope, wanted), conditions, limit + 1))
    ]
    is_postgres = connection.dialect.name == "postgresql"
    given = {"among": given_ids(numbers[:limit], is_postgres=is_postgres)}
    rows = connection.execute(_page(is_postgres, scope.team_ids), given).all()
    last = rows[-1] if len(numbers) > limit and rows else None
    return [tell_run(row) for row in rows], (last.started_at, last.id) if last else None


@lru_cache(maxsize=256)
def _page(is_postgres: bool, team_ids: frozenset[int] | None) -> sa.Select[Any]:
    """Return the statement for the runs of a page, put together once for whoever sees the things of these teams."""
    among = is_given(runs.c.id, "among", is_postgres=is_postgres)
    return _selected(Scope(team_ids)).where(among).order_by(*_NEWEST_FIRST)


def _narrowed_by(wanted: RunFilter) -> Iterable[sa.ColumnElement[bool]]:
    """Yield the conditions of a filter; by all but the first no index can be taken, as by the first few are left."""
    given: list[tuple[sa.Column[Any], str | None]] = [
        (runs.c.pipeline, wanted.pipeline),
        (runs.c.environment, wanted.environment),
        (runs.c.state, wanted.state),
    ]
    if wanted.state != "succeeded":  # what most are is the last to narrow by
        given[1:] = given[:0:-1]
    said = [(column, value) for column, value in given if value is not None]
    for number, (column, value) in enumerate(said):
        yield column == value if number == 0 else column.concat("") == value


def _narrowings(connection: Connection, scope: Scope, wanted: RunFilter) -> list[list[sa.ColumnElement[bool]]]:
    """Return the conditions of which one holds for every run that the caller sees and asks for.

    Each is one that an index begins with, so that the newest runs are found without looking at all: the indexes begin
    with a team, and "one of these teams" is none of them.
    """
    if wanted.job_id is not None:
        return [[scope.sees(runs.c.team_id + 0)]]  # the job's own index; the sum keeps the database from a team's
    if wanted.project is not None:
        named = sa.select(projects.c.id).where(projects.c.name == wanted.project, scope.sees(projects.c.team_id))
        found = connection.execute(named).scalars().all()
        return [[runs.c.project_id == number, scope.sees(runs.c.team_id + 0)] for number in found]
    if scope.team_ids is not None:
        team_ids = sorted(scope.team_ids)
    else:
        team_ids = list(connection.execute(sa.select(teams.c.id).limit(_MAX_TEAMS + 1)).scalars())
    if len(team_ids) > _MAX_TEAMS:
        return [[scope.sees(runs.c.team_id)]]
    return [[runs.c.team_id == number] for number in team_ids]


def _newest(
    narrowings: Sequence[Sequence[sa.ColumnElement[bool]]], conditions: Sequence[sa.ColumnElement[bool]], limit: int
) -> sa.Select[Any]:
    """Return the statement for the newest runs of all that one of the narrowings lets through."""
    if not narrowings:
        return sa.select(runs.c.id).where(sa.false())
    each = [
        sa.select(runs.c.id, runs.c.started_at).where(*narrowing, *conditions).order_by(*_NEWEST_FIRST).limit(limit)
        for narrowing in narrowings
    ]
    found = sa.union_all(*(sa.select(one.subquery()) for one in each)).subquery()
    return sa.select(found.c.id).order_by(found.c.started_at.desc(), found.c.id.desc()).limit(limit)


class SeveralTeams(Exception):  # noqa: N818 it is an answer
    """Several of the caller's teams have a run of this id: it has to be said whose is meant."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"several of your teams have a run of this id: {', '.join(names)}; name one with team=")


def find_run(connection: Connection, scope: Scope, uid: str, team_id: int | None = None) -> dict[str, Any] | None:
    """Return a run with all its parts, None where there is none that the caller sees.

    A part's whole is of its own team; where that has none of this id, of whichever team the caller sees it in. Raises
    :class:`SeveralTeams` where no team is given and several have told of a run of this id.
    """
    row = _find(connection, scope, uid, team_id)
    if row is None:
        return None
    parts: list[Any] = []
    above = {row.id: uid}
    told = {row.id}
    whole = runs.alias()
    is_whole = (whole.c.uid == runs.c.parent_uid) & (whole.c.team_id == runs.c.team_id)
    while above and len(parts) < _MAX_PARTS:
        own = sa.select(whole.c.id).where(is_whole)
        below = connection.execute(
            _selected(scope)
            .where(runs.c.parent_uid.in_(sorted(above.values())))
            .where(own.where(whole.c.id.in_(sorted(above))).exists() | ~own.exists())
            .order_by(runs.c.started_at, runs.c.id)
            .limit(_MAX_PARTS - len(parts))
        ).all()
        fresh = [part for part in below if part.id not in told]
        told.update(part.id for part in fresh)
        parts += fresh
        above = {part.id: part.uid for part in fresh[:500]}
    return tell_story(row, parts, is_cut=len(parts) >= _MAX_PARTS)


def team_of_run(connection: Connection, scope: Scope, uid: str) -> int | None:
    """Return the team of the only run of this id that the caller sees. Raises what :func:`find_run` does."""
    row = _find(connection, scope, uid, None)
    return None if row is None else row.team_id


def _find(connection: Connection, scope: Scope, uid: str, team_id: int | None) -> Any:
    statement = _selected(scope).where(runs.c.uid == uid)
    if team_id is not None:
        statement = statement.where(runs.c.team_id == team_id)
    rows = connection.execute(statement).all()
    if len(rows) > 1:  # one that others alone have named is none beside one that was told of
        rows = [row for row in rows if is_told_of(row)] or rows
    if len(rows) > 1:
        raise SeveralTeams(sorted(row.team for row in rows))
    return rows[0] if rows else None


def changed_since(
    connection: Connection, scope: Scope, place: tuple[int, int], *, limit: int
) -> Iterable[tuple[tuple[int, int], dict[str, Any]]]:
    """Yield the runs that changed behind a place, in the order of their places.

    A place is the number of the last event that touched a run, and the run's id: one event may touch several.
    """
    behind = sa.tuple_(runs.c.changed, runs.c.id) > sa.tuple_(*map(sa.literal, place))
    statement = _selected(scope).where(behind).order_by(runs.c.changed, runs.c.id).limit(limit)
    for row in connection.execute(statement):
        yield (row.changed, row.id), tell_run(row)


def newest_change(connection: Connection) -> int:
    """Return the number of the last event that touched a run."""
    return connection.execute(sa.select(sa.func.max(runs.c.changed))).scalar() or 0


def _selected(scope: Scope) -> sa.Select[Any]:
    statement = sa.select(
        runs,
        jobs.c.name.label("job_name"),
        namespaces.c.name.label("job_namespace"),
        projects.c.name.label("project"),
        teams.c.name.label("team"),
    )
    joined = runs.join(jobs, jobs.c.id == runs.c.job_id).join(namespaces, namespaces.c.id == jobs.c.namespace_id)
    joined = joined.join(teams, teams.c.id == runs.c.team_id)
    joined = joined.outerjoin(projects, projects.c.id == runs.c.project_id)
    # Whoever asks knows a better way in than a team's index: the sum keeps the database from that one.
    return statement.select_from(joined).where(scope.sees(runs.c.team_id + 0))
