"""Lists jobs and datasets, and tells one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.catalog.facts import facets_of
from aiflow_service.database.bulk import KeptStatement
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import columns, dataset_names, datasets, edges, jobs, namespaces, teams


def list_jobs(
    connection: Connection,
    scope: Scope,
    *,
    after: int,
    limit: int,
    namespace: str | None,
    name: str | None,
    q: str | None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return jobs in the order in which they were first heard of, and where to go on; ``q`` is a part of the name."""
    return _list(connection, jobs, scope.sees(jobs.c.team_id), after, limit, namespace, name, q)


def list_datasets(
    connection: Connection,
    scope: Scope,
    *,
    after: int,
    limit: int,
    namespace: str | None,
    name: str | None,
    q: str | None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return datasets in the order in which they were first heard of, and where to go on.

    With ``namespace`` and ``name`` it is the dataset that is known by this name, whichever of its names that is.
    """
    mine = scope.sees_dataset() & datasets.c.merged_into.is_(None)
    if name is not None:
        known = sa.select(dataset_names.c.dataset_id).where(dataset_names.c.name == name)
        if namespace is not None:
            known = known.join(namespaces).where(namespaces.c.name == namespace)
        return _list(connection, datasets, mine & datasets.c.id.in_(known), after, limit, None, None, q)
    return _list(connection, datasets, mine, after, limit, namespace, None, q)


def datasets_named(
    connection: Connection, scope: Scope, *, namespace: str | None, name: str, limit: int
) -> Sequence[tuple[int, str]]:
    """Return the ids of the datasets that are known by a name, and their own namespaces, as :func:`list_datasets`."""
    statement = _named(connection.dialect.name == "postgresql", scope.team_ids, namespace is not None)
    return statement.read(connection, {"name": name, "namespace": namespace, "limit": limit})


@lru_cache(maxsize=256)
def _named(is_postgres: bool, team_ids: frozenset[int] | None, has_namespace: bool) -> KeptStatement:
    within = namespaces.alias()
    known = sa.select(dataset_names.c.dataset_id).join(within, within.c.id == dataset_names.c.namespace_id)
    known = known.where(dataset_names.c.name == sa.bindparam("name"))
    if has_namespace:
        known = known.where(within.c.name == sa.bindparam("namespace"))
    statement = (
        sa.select(datasets.c.id, namespaces.c.name)
        .join(namespaces, namespaces.c.id == datasets.c.namespace_id)
        .where(datasets.c.id.in_(known), datasets.c.merged_into.is_(None), Scope(team_ids).sees_dataset())
        .order_by(datasets.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
    return KeptStatement(statement, is_postgres=is_postgres)


def find_job(connection: Connection, scope: Scope, job_id: int) -> dict[str, Any] | None:
    """Return a job with what it reads and writes; None where there is none that the caller sees."""
    row = _find(connection, jobs, scope.sees(jobs.c.team_id), job_id)
    if row is None:
        return None
    statement = (
        sa.select(edges, datasets.c.name, namespaces.c.name.label("namespace"))
        .join(datasets, datasets.c.id == edges.c.dataset_id)
        .join(namespaces, namespaces.c.id == datasets.c.namespace_id)
        .where(edges.c.job_id == job_id, scope.sees_dataset())
        .order_by(edges.c.dataset_id)
    )
    touched = [
        {
            "dataset": {"id": edge.dataset_id, "namespace": edge.namespace, "name": edge.name},
            "is_output": bool(edge.is_write),
            "first_seen": moment_text(edge.first_seen),
            "last_seen": moment_text(edge.last_seen),
        }
        for edge in connection.execute(statement)
    ]
    return {**_told(row), "facets": facets_of(row.facts), "datasets": touched}


def known_dataset(connection: Connection, scope: Scope, dataset_id: int) -> int | None:
    """Return the id of a dataset, or of the one that it has become; None where there is none that the caller sees."""
    statement = sa.select(sa.func.coalesce(datasets.c.merged_into, datasets.c.id))
    into = connection.execute(statement.where(datasets.c.id == dataset_id)).scalar()
    seen = sa.select(datasets.c.id).where(datasets.c.id == into, scope.sees_dataset())
    return None if into is None else connection.execute(seen).scalar()


def find_dataset(connection: Connection, scope: Scope, dataset_id: int) -> dict[str, Any] | None:
    """Return a dataset with its names, columns, readers and writers; None where there is none that the caller sees.

    The id of a dataset that has become one with another leads to that one.
    """
    into = connection.execute(sa.select(datasets.c.merged_into).where(datasets.c.id == dataset_id)).scalar()
    row = _find(connection, datasets, scope.sees_dataset(), dataset_id if into is None else into)
    if row is None:
        return None
    names = (
        sa.select(namespaces.c.name.label("namespace"), dataset_names.c.name)
        .join(namespaces)
        .where(dataset_names.c.dataset_id == row.id)
        .order_by(namespaces.c.name, dataset_names.c.name)
    )
    current = (
        sa.select(columns)
        .where(columns.c.dataset_id == row.id, columns.c.ordinal.is_not(None))
        .order_by(columns.c.ordinal)
    )
    touching = (
        sa.select(edges, jobs.c.name, namespaces.c.name.label("namespace"))
        .join(jobs, jobs.c.id == edges.c.job_id)
        .join(namespaces, namespaces.c.id == jobs.c.namespace_id)
        .where(edges.c.dataset_id == row.id, scope.sees(jobs.c.team_id))
        .order_by(edges.c.job_id)
    )
    return {
        **_told(row),
        "names": [{"namespace": one.namespace, "name": one.name} for one in connection.execute(names)],
        "columns": [
            {"name": one.name, "type": one.type, "description": one.description} for one in connection.execute(current)
        ],
        "schema_of": moment_text(row.schema_time),
        "facets": facets_of(row.facts),
        "jobs": [
            {
                "job": {"id": edge.job_id, "namespace": edge.namespace, "name": edge.name},
                "writes": bool(edge.is_write),
                "first_seen": moment_text(edge.first_seen),
                "last_seen": moment_text(edge.last_seen),
            }
            for edge in connection.execute(touching)
        ],
    }


def _list(
    connection: Connection,
    table: sa.Table,
    mine: sa.ColumnElement[bool],
    after: int,
    limit: int,
    namespace: str | None,
    name: str | None,
    q: str | None,
) -> tuple[list[dict[str, Any]], int | None]:
    statement = _selected(table).where(mine, table.c.id > after).order_by(table.c.id).limit(limit + 1)
    if namespace is not None:
        statement = statement.where(namespaces.c.name == namespace)
    if name is not None:
        statement = statement.where(table.c.name == name)
    if q is not None:
        statement = statement.where(table.c.name.contains(q, autoescape=True))
    rows = connection.execute(statement).all()
    return [_told(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None


def _find(connection: Connection, table: sa.Table, mine: sa.ColumnElement[bool], number: int) -> Any:
    return connection.execute(_selected(table).where(table.c.id == number, mine)).first()


def _selected(table: sa.Table) -> sa.Select[Any]:
    return (
        sa.select(table, namespaces.c.name.label("namespace"), teams.c.name.label("team"))
        .join(namespaces, namespaces.c.id == table.c.namespace_id)
        .join(teams, teams.c.id == table.c.team_id)
    )


def _told(row: Any) -> dict[str, Any]:
    told = {"id": row.id, "namespace": row.namespace, "name": row.name, "team": row.team}
    # Of a job nobody has to ask: it is that of the team whose events tell of it.
    return told if "is_owned" not in row._fields else {**told, "is_owned": bool(row.is_owned)}
