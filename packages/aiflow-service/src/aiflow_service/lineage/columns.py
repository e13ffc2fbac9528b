"""Walks from a column along what it is made from, or what is made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.bulk import select_in
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import column_edges, columns, datasets, jobs, namespaces
from aiflow_service.lineage.tables import Direction
from aiflow_service.lineage.writing import GRAIN


@dataclass
class ColumnWalk:
    """What a walk found: columns with their distance, and the edges between them."""

    columns: dict[int, int] = field(default_factory=dict)
    edges: dict[tuple[int, int, int], tuple[str, int, int]] = field(default_factory=dict)
    hidden: set[tuple[int, str]] = field(default_factory=set)
    """Columns with a neighbour that the caller may not see, and whether that is ``up`` or ``down``."""
    truncated: bool = False


def find_columns(connection: Connection, dataset_id: int, name: str | None) -> list[int]:
    """Return the ids of a dataset's columns, or of the one that is named."""
    statement = sa.select(columns.c.id).where(columns.c.dataset_id == dataset_id)
    if name is not None:
        statement = statement.where(columns.c.name == name)
    return list(connection.execute(statement.order_by(columns.c.id)).scalars())


def walk_columns(
    connection: Connection,
    scope: Scope,
    *,
    column_ids: Iterable[int],
    direction: Direction,
    depth: int,
    limit: int,
    as_of: int | None = None,
    since: int | None = None,
) -> dict[str, Any]:
    """Return the graph around columns; the column ``*`` of a dataset stands for all of its rows (filters, joins)."""
    walk = ColumnWalk()
    starts = sorted(column_ids)
    for way in ("up", "down") if direction == "both" else (direction,):
        near, far = (column_edges.c.target_id, 1) if way == "up" else (column_edges.c.source_id, 0)
        reached = set(starts)
        here = starts
        for number in starts:
            walk.columns.setdefault(number, 0)
        for distance in range(1, depth + 1):
            if not here:
                break
            _note_hidden(connection, scope, walk, way, here, as_of, since)
            here = _step(
                walk, _edges(connection, scope, near, here, limit, as_of, since), far, reached, distance, limit
            )
    return {"direction": direction, "depth": depth, "truncated": walk.truncated, **_tell(connection, walk)}


def _edges(
    connection: Connection,
    scope: Scope,
    near: sa.Column[int],
    ids: list[int],
    limit: int,
    as_of: int | None,
    since: int | None,
) -> Iterable[Any]:
    edge = column_edges.c
    statement = sa.select(edge.target_id, edge.source_id, edge.job_id, edge.kind, edge.first_seen, edge.last_seen)
    if scope.team_ids is not None:
        statement = statement.join(jobs, jobs.c.id == edge.job_id).where(scope.sees(jobs.c.team_id))
        for column_id in (edge.target_id, edge.source_id):
            column, dataset = columns.alias(), datasets.alias()
            statement = statement.join(column, column.c.id == column_id)
            statement = statement.join(dataset, dataset.c.id == column.c.dataset_id)
            statement = statement.where(scope.sees_dataset(dataset))
    if as_of is not None:
        statement = statement.where(edge.first_seen <= as_of)
    if since is not None:
        statement = statement.where(edge.last_seen >= since - since % GRAIN)
    return select_in(connection, statement.limit(limit * 4 + 1000), near, ids)


def _note_hidden(
    connection: Connection,
    scope: Scope,
    walk: ColumnWalk,
    way: str,
    ids: list[int],
    as_of: int | None,
    since: int | None,
) -> None:
    """Note which of these columns have an edge to what the caller may not see, or by a job that it may not see."""
    if scope.team_ids is None:
        return
    edge = column_edges.c
    near, far = (edge.target_id, edge.source_id) if way == "up" else (edge.source_id, edge.target_id)
    job = sa.select(jobs.c.id).where(jobs.c.id == edge.job_id, scope.sees(jobs.c.team_id)).correlate(column_edges)
    column = (
        sa.select(columns.c.id)
        .join(datasets, datasets.c.id == columns.c.dataset_id)
        .where(columns.c.id == far, scope.sees_dataset())
        .correlate(column_edges)
    )
    statement = sa.select(near).distinct().where(~(job.exists() & column.exists()))
    if as_of is not None:
        statement = statement.where(edge.first_seen <= as_of)
    if since is not None:
        statement = statement.where(edge.last_seen >= since - since % GRAIN)
    walk.hidden.update((row[0], way) for row in select_in(connection, statement, near, ids))


def _step(walk: ColumnWalk, rows: Iterable[Any], far: int, reached: set[int], distance: int, limit: int) -> list[int]:
    fresh: list[int] = []
    read = 0
    for row in rows:
        read += 1
        target, source, job, kind, first, last = row
        number = row[far]
        if number not in reached:
            if number not in walk.columns and len(walk.columns) >= limit:
                walk.truncated = True
                continue
            reached.add(number)
            walk.columns.setdefault(number, distance)
            fresh.append(number)
        walk.edges[target, source, job] = (kind, first, last)
    if read >= limit * 4 + 1000:
        walk.truncated = True
    return fresh


def _tell(connection: Connection, walk: ColumnWalk) -> dict[str, Any]:
    statement = (
        sa.select(columns.c.id, columns.c.name, columns.c.type, columns.c.dataset_id)
        .add_columns(datasets.c.name.label("dataset"), namespaces.c.name.label("namespace"))
        .join(datasets, datasets.c.id == columns.c.dataset_id)
        .join(namespaces, namespaces.c.id == datasets.c.namespace_id)
    )
    found = sorted(
        select_in(connection, statement, columns.c.id, walk.columns), key=lambda row: (walk.columns[row.id], row.id)
    )
    named = sa.select(jobs.c.id, namespaces.c.name, jobs.c.name).join(
        namespaces, namespaces.c.id == jobs.c.namespace_id
    )
    touched = select_in(connection, named, jobs.c.id, sorted({job for _, _, job in walk.edges}))
    return {
        "columns": [
            {
                "id": row.id,
                "dataset": {"id": row.dataset_id, "namespace": row.namespace, "name": row.dataset},
                "name": row.name,
                "type": row.type,
                "distance": walk.columns[row.id],
            }
            for row in found
        ],
        "jobs": [
            {"id": number, "namespace": namespace, "name": name}
            for number, namespace, name in sorted(map(tuple, touched))
        ],
        "edges": [
            {
                "target": target,
                "source": source,
                "job": job,
                "kind": kind or None,
                "first_seen": moment_text(first),
                "last_seen": moment_text(last),
            }
            for (target, source, job), (kind, first, last) in sorted(walk.edges.items())
        ],
        "hidden": [{"column": number, "direction": way} for number, way in sorted(walk.hidden)],
    }
