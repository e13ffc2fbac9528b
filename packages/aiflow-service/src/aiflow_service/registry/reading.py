"""Lists pipelines and releases, tells the history of a pipeline, and compares its versions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_sdk.difference import Difference, compare_pipelines, effect_of
from aiflow_sdk.ir import read_pipeline
from aiflow_sdk.plan import Plan, read_plan
from aiflow_service.access import Scope
from aiflow_service.database.compression import decompress
from aiflow_service.database.memory import SizedMemory
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import (
    documents,
    pipeline_releases,
    pipelines,
    projects,
    releases,
    teams,
    versions,
)

Place = tuple[int, int]
"""Where a page of releases ended: moment and id of its last one."""
_GROWTH = 10
"""How many bytes of objects a byte of JSON becomes, or somewhat fewer."""
_PLANS: SizedMemory[bytes, Plan] = SizedMemory(16 * 1024 * 1024)
_COMPARED: SizedMemory[tuple[bytes, bytes, bytes, bytes], tuple[Difference, ...]] = SizedMemory(16 * 1024 * 1024)
_ORDER = (releases.c.at.desc(), releases.c.number.desc(), releases.c.key.desc())


def list_pipelines(
    connection: Connection,
    scope: Scope,
    *,
    after: int,
    limit: int,
    project: str | None = None,
    name: str | None = None,
    q: str | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return pipelines in the order of their recording, each with what is current, and where to go on."""
    statement = _pipelines(scope).where(pipelines.c.id > after).order_by(pipelines.c.id).limit(limit + 1)
    if project is not None:
        statement = statement.where(projects.c.name == project)
    if name is not None:
        statement = statement.where(pipelines.c.name == name)
    if q is not None:
        statement = statement.where(pipelines.c.name.contains(q, autoescape=True))
    rows = connection.execute(statement).all()
    current = _current(connection, [row.id for row in rows[:limit]])
    told = [_told(row, current.get(row.id, {})) for row in rows[:limit]]
    return told, rows[limit - 1].id if len(rows) > limit else None


def find_pipeline(connection: Connection, scope: Scope, pipeline_id: int) -> dict[str, Any] | None:
    """Return a pipeline with what is current in each environment; None where there is none that the caller sees."""
    row = connection.execute(_pipelines(scope).where(pipelines.c.id == pipeline_id)).first()
    return None if row is None else _told(row, _current(connection, [row.id]).get(row.id, {}))


def find_version(
    connection: Connection, scope: Scope, pipeline_id: int, version: str, environment: str | None = None
) -> tuple[dict[str, Any], bytes, bytes] | None:
    """Return a version with the texts of its definition and plan; the newest of those that begin so."""
    row = _version(connection, scope, pipeline_id, version, environment)
    if row is None:
        return None
    first = connection.execute(
        _releases()
        .join(pipeline_releases, pipeline_releases.c.release_id == releases.c.id)
        .where(pipeline_releases.c.version_id == row.id)
        .order_by(releases.c.at, releases.c.number, releases.c.key)
        .limit(1)
    ).first()
    told = {**_version_told(row), "environment": row.environment, "released": _release_told(first) if first else None}
    ir = _document(connection, row.team_id, row.ir_digest)
    return told, ir, _document(connection, row.team_id, row.plan_digest)


def compare_versions(
    connection: Connection, scope: Scope, pipeline_id: int, before: str, after: str, environment: str | None = None
) -> dict[str, Any] | None:
    """Return how two versions of a pipeline differ; None where one of them is not there."""
    old = _version(connection, scope, pipeline_id, before, environment)
    new = _version(connection, scope, pipeline_id, after, environment)
    if old is None or new is None:
        return None
    differences = _differences(connection, old, new)
    return {"before": _version_told(old), "after": _version_told(new), **_differences_told(differences)}


def current_plan(
    connection: Connection, scope: Scope, team_id: int, project: str, name: str, environment: str
) -> Plan | None:
    """Return the plan of the version of a pipeline that is current in an environment; None where none is."""
    mine = sa.select(pipelines.c.id).join(projects, projects.c.id == pipelines.c.project_id)
    mine = mine.where(
        scope.sees(pipelines.c.team_id),
        pipelines.c.team_id == team_id,
        pipelines.c.name == name,
        projects.c.name == project,
    )
    newest = (
        sa.select(pipeline_releases.c.version_id)
        .join(releases, releases.c.id == pipeline_releases.c.release_id)
        .where(pipeline_releases.c.pipeline_id.in_(mine), releases.c.environment == environment)
        .order_by(*_ORDER)
        .limit(1)
    )
    version_id = connection.execute(newest).scalar()
    if version_id is None:
        return None
    row = connection.execute(sa.select(versions).where(versions.c.id == version_id)).one()
    return _plan(_document(connection, row.team_id, row.plan_digest))


def list_history(
    connection: Connection, scope: Scope, pipeline_id: int, *, environment: str, before: Place | None, limit: int
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return the releases in which something became of a pipeline, the newest first, and where to go on.

    Each with how its version differs from the one before; ``changed`` is ``first``, ``changed`` or ``removed``.
    """
    statement = (
        _releases()
        .add_columns(pipeline_releases.c.version_id)
        .join(pipeline_releases, pipeline_releases.c.release_id == releases.c.id)
        .where(
            pipeline_releases.c.pipeline_id == pipeline_id,
            releases.c.environment == environment,
            scope.sees(releases.c.team_id),
        )
        .order_by(*_ORDER)
    )
    # One more than is shown, which is what the last one is compared with, and one to see whether there are more.
    rows = connection.execute(_behind(statement, scope, before).limit(limit + 1)).all()
    shown = rows[:limit]
    known = {
        row.id: row for row in connection.execute(sa.select(versions).where(versions.c.pipeline_id == pipeline_id))
    }
    told = []
    for index, row in enumerate(shown):
        older = rows[index + 1] if index + 1 < len(rows) else None
        new = known.get(row.version_id)
        old = known.get(older.version_id) if older else None
        compared = _differences(connection, old, new) if old is not None and new is not None else None
        told.append(
            {
                "release": _release_told(row),
                "version": _version_told(new) if new is not None else None,
                "changed": "removed" if new is None else "first" if compared is None else "changed",
                **_differences_told(compared or ()),
            }
        )
    return told, (shown[-1].at, shown[-1].id) if len(rows) > limit else None


def list_releases(
    connection: Connection,
    scope: Scope,
    *,
    project: str | None,
    environment: str | None,
    before: Place | None,
    limit: int,
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return releases of projects, the newest first, and where to go on."""
    statement = _releases().where(scope.sees(releases.c.team_id)).order_by(*_ORDER)
    if project is not None:
        statement = statement.where(projects.c.name == project)
    if environment is not None:
        statement = statement.where(releases.c.environment == environment)
    rows = connection.execute(_behind(statement, scope, before).limit(limit + 1)).all()
    place = (rows[limit - 1].at, rows[limit - 1].id) if len(rows) > limit else None
    return [_release_told(row) for row in rows[:limit]], place


def _behind(statement: sa.Select[Any], scope: Scope, place: Place | None) -> sa.Select[Any]:
    """Return a statement for what follows a place in the order of :data:`_ORDER`; behind a stranger's is nothing."""
    if place is None:
        return statement
    there = (releases.c.id == place[1]) & scope.sees(releases.c.team_id)
    last = sa.select(releases.c.at, releases.c.number, releases.c.key).where(there).subquery()
    order = sa.tuple_(releases.c.at, releases.c.number, releases.c.key)
    return statement.join(last, sa.true()).where(order < sa.tuple_(last.c.at, last.c.number, last.c.key))


def _pipelines(scope: Scope) -> sa.Select[Any]:
    return (
        sa.select(pipelines, projects.c.name.label("project"), teams.c.name.label("team"))
        .join(projects, projects.c.id == pipelines.c.project_id)
        .join(teams, teams.c.id == pipelines.c.team_id)
        .where(scope.sees(pipelines.c.team_id))
    )


def _releases() -> sa.Select[Any]:
    return (
        sa.select(releases, projects.c.name.label("project"), teams.c.name.label("team"))
        .select_from(releases)
        .join(projects, projects.c.id == releases.c.project_id)
        .join(teams, teams.c.id == releases.c.team_id)
    )


def _current(connection: Connection, pipeline_ids: list[int]) -> dict[int, dict[str, Any]]:
    """Return, by pipeline and environment, what the newest release has made of it."""
    rank = (
        sa.func.row_number()
        .over(partition_by=(pipeline_releases.c.pipeline_id, releases.c.environment), order_by=_ORDER)
        .label("rank")
    )
    ranked = (
        sa.select(pipeline_releases.c.pipeline_id, pipeline_releases.c.version_id, releases.c.id, rank)
        .join(releases, releases.c.id == pipeline_releases.c.release_id)
        .where(pipeline_releases.c.pipeline_id.in_(pipeline_ids))
        .subquery()
    )
    statement = (
        _releases()
        .add_columns(ranked.c.pipeline_id, versions.c.version, versions.c.definition, versions.c.plan_digest)
        .join(ranked, ranked.c.id == releases.c.id)
        .join(versions, versions.c.id == ranked.c.version_id)
        .where(ranked.c.rank == 1)
        .order_by(releases.c.environment)
    )
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(statement):
        told = {**_version_told(row), "release": _release_told(row)}
        found.setdefault(row.pipeline_id, {})[row.environment] = told
    return found


def _version(
    connection: Connection, scope: Scope, pipeline_id: int, beginning: str, environment: str | None
) -> Any | None:
    """Return the newest version whose fingerprint begins so (its ``sha256:`` may be left out), else the project's."""
    begins = versions.c.version.startswith(beginning, autoescape=True)
    begins |= versions.c.version.contains(f":{beginning}", autoescape=True)
    statement = sa.select(versions).where(versions.c.pipeline_id == pipeline_id, scope.sees(versions.c.team_id), begins)
    if environment is not None:
        statement = statement.where(versions.c.environment == environment)
    found = connection.execute(statement.order_by(versions.c.id.desc()).limit(1)).first()
    return found or _version_of_project(connection, scope, pipeline_id, beginning, environment)


def _version_of_project(
    connection: Connection, scope: Scope, pipeline_id: int, beginning: str, environment: str | None
) -> Any | None:
    """Return what the newest release of a version of the project, given by its beginning, has of the pipeline."""
    order = (releases.c.at, releases.c.number, releases.c.key)
    touched = (
        sa.select(releases.c.project_id)
        .join(pipeline_releases, pipeline_releases.c.release_id == releases.c.id)
        .where(pipeline_releases.c.pipeline_id == pipeline_id)
    )
    named = sa.select(releases).where(
        releases.c.project_id.in_(touched),
        releases.c.project_version.startswith(beginning, autoescape=True),
        scope.sees(releases.c.team_id),
    )
    if environment is not None:
        named = named.where(releases.c.environment == environment)
    release = connection.execute(named.order_by(*_ORDER).limit(1)).first()
    if release is None:
        return None
    until = sa.tuple_(*map(sa.literal, (release.at, release.number, release.key)))
    last = (
        sa.select(pipeline_releases.c.version_id)
        .join(releases, releases.c.id == pipeline_releases.c.release_id)
        .where(
            pipeline_releases.c.pipeline_id == pipeline_id,
            releases.c.environment == release.environment,
            sa.tuple_(*order) <= until,
        )
        .order_by(*_ORDER)
        .limit(1)
    )
    version_id = connection.execute(last).scalar()
    return connection.execute(sa.select(versions).where(versions.c.id == version_id)).first() if version_id else None


def _document(connection: Connection, team_id: int, digest: str) -> bytes:
    mine = (documents.c.team_id == team_id) & (documents.c.digest == digest)
    return decompress(bytes(connection.execute(sa.select(documents.c.body).where(mine)).scalar_one()))


def _differences(connection: Connection, old: Any, new: Any) -> tuple[Difference, ...]:
    if (old.ir_digest, old.plan_digest) == (new.ir_digest, new.plan_digest):
        return ()
    texts = [
        _document(connection, row.team_id, digest) for row in (old, new) for digest in (row.ir_digest, row.plan_digest)
    ]
    return _compared(*texts)


def _plan(text: bytes) -> Plan:
    found = _PLANS.get(text)
    if found is None:
        found = read_plan(text)
        _PLANS.put(text, found, len(text) * _GROWTH)
    return found


def _compared(old_ir: bytes, old_plan: bytes, new_ir: bytes, new_plan: bytes) -> tuple[Difference, ...]:
    key = old_ir, old_plan, new_ir, new_plan
    found = _COMPARED.get(key)
    if found is None:
        plans = read_plan(old_plan), read_plan(new_plan)
        found = compare_pipelines(read_pipeline(old_ir), read_pipeline(new_ir), plans)
        _COMPARED.put(key, found, sum(map(len, key)) * _GROWTH)
    return found


def _differences_told(differences: tuple[Difference, ...]) -> dict[str, Any]:
    return {"effect": effect_of(differences), "differences": [one.to_dict() for one in differences]}


def _told(row: Any, current: dict[str, Any]) -> dict[str, Any]:
    return {"id": row.id, "team": row.team, "project": row.project, "pipeline": row.name, "current": current}


def _version_told(row: Any) -> dict[str, Any]:
    return {"version": row.version, "definition": row.definition, "plan": row.plan_digest}


def _release_told(row: Any) -> dict[str, Any]:
    return {
        "key": row.key,
        "number": row.number,
        "team": row.team,
        "project": row.project,
        "environment": row.environment,
        "project_version": row.project_version,
        "action": row.action,
        "by": row.author,
        "at": moment_text(row.at),
        "message": row.message,
        "commit": row.commit,
        "dirty": None if row.is_dirty is None else bool(row.is_dirty),
    }
