"""Walks from a dataset or job along the edges, breadth first, a query a level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.bulk import select_in
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import datasets, edges, jobs, namespaces
from aiflow_service.lineage.writing import GRAIN

Direction: TypeAlias = Literal["up", "down", "both"]
_READS, _WRITES = 0, 1


@dataclass
class TableWalk:
    """What a walk found: ids of datasets and jobs with their distance, and the edges between them."""

    datasets: dict[int, int] = field(default_factory=dict)
    jobs: dict[int, int] = field(default_factory=dict)
    edges: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    hidden: set[tuple[str, int, int]] = field(default_factory=set)
    """Where a stranger's node begins: its visible neighbour's kind (``job``, ``dataset``) and id, and ``is_write``."""
    truncated: bool = False


def walk_tables(
    connection: Connection,
    scope: Scope,
    *,
    dataset_ids: Iterable[int] = (),
    job_ids: Iterable[int] = (),
    direction: Direction,
    depth: int,
    limit: int,
    as_of: int | None = None,
    since: int | None = None,
) -> dict[str, Any]:
    """Return the graph around datasets and jobs: up is what they are made from, down what is made from them.

    ``depth`` counts jobs passed through. ``limit`` bounds datasets and jobs together; where it cut anything off,
    ``truncated`` says so. Only edges first seen by ``as_of``, and seen at or after ``since``, count; both to five
    minutes. What the caller may not see is told as ``hidden``: that something reads or writes a dataset, or that a job
    reads or writes something, and neither what nor how many; the walk ends there.
    """
    walk = TableWalk()
    starts = (sorted(dataset_ids), sorted(job_ids))
    for way in ("up", "down") if direction == "both" else (direction,):
        _walk(connection, scope, walk, starts, way == "up", depth, limit, as_of, since)
    return {
        "direction": direction,
        "depth": depth,
        "truncated": walk.truncated,
        "datasets": _tell_datasets(connection, walk),
        "jobs": _tell_jobs(connection, walk),
        "edges": [
            {
                "job": job,
                "dataset": dataset,
                "writes": bool(is_write),
                "first_seen": moment_text(first),
                "last_seen": moment_text(last),
            }
            for (job, is_write, dataset), (first, last) in sorted(walk.edges.items())
            if job in walk.jobs and dataset in walk.datasets
        ],
        "hidden": [{kind: number, "writes": bool(is_write)} for kind, number, is_write in sorted(walk.hidden)],
    }


def _walk(
    connection: Connection,
    scope: Scope,
    walk: TableWalk,
    starts: tuple[list[int], list[int]],
    goes_up: bool,
    depth: int,
    limit: int,
    as_of: int | None,
    since: int | None,
) -> None:
    """Add one direction to a walk. Levels take turns: from datasets to jobs, from jobs to datasets."""
    into, out_of = (_WRITES, _READS) if goes_up else (_READS, _WRITES)
    reached_datasets, reached_jobs = set(starts[0]), set(starts[1])
    for number in starts[0]:
        walk.datasets.setdefault(number, 0)
    for number in starts[1]:
        walk.jobs.setdefault(number, 0)
    here, at_jobs = starts
    for distance in range(depth + 1):
        if here and distance < depth:
            rows = _edges(connection, scope, edges.c.dataset_id, here, into, limit, as_of, since)
            _note_hidden(connection, scope, walk, "dataset", here, into, as_of, since)
            at_jobs = _reach(walk, rows, 0, reached_jobs, walk.jobs, distance + 1, limit) + at_jobs
        if not at_jobs:
            return
        rows = _edges(connection, scope, edges.c.job_id, at_jobs, out_of, limit, as_of, since)
        _note_hidden(connection, scope, walk, "job", at_jobs, out_of, as_of, since)
        here = _reach(walk, rows, 2, reached_datasets, walk.datasets, distance + 1, limit)
        at_jobs = []
        if not here:
            return


def _edges(
    connection: Connection,
    scope: Scope,
    column: sa.Column[int],
    ids: list[int],
    is_write: int,
    limit: int,
    as_of: int | None,
    since: int | None,
) -> Iterable[Any]:
    statement = sa.select(edges.c.job_id, edges.c.is_write, edges.c.dataset_id, edges.c.first_seen, edges.c.last_seen)
    statement = statement.where(edges.c.is_write == is_write)
    if scope.team_ids is not None:
        statement = statement.join(jobs, jobs.c.id == edges.c.job_id).where(scope.sees(jobs.c.team_id))
        statement = statement.join(datasets, datasets.c.id == edges.c.dataset_id).where(scope.sees_dataset())
    if as_of is not None:
        statement = statement.where(edges.c.first_seen <= as_of)
    if since is not None:
        statement = statement.where(edges.c.last_seen >= since - since % GRAIN)
    # A node with a thousand times more neighbours than may be told is not read to its end.
    return select_in(connection, statement.limit(limit * 4 + 1000), column, ids)


def _note_hidden(
    connection: Connection,
    scope: Scope,
    walk: TableWalk,
    kind: Literal["job", "dataset"],
    ids: list[int],
    is_write: int,
    as_of: int | None,
    since: int | None,
) -> None:
    """Note which of these nodes have an edge to what the caller may not see."""
    if scope.team_ids is None:
        return
    column = edges.c.job_id if kind == "job" else edges.c.dataset_id
    if kind == "job":
        seen = sa.select(datasets.c.id).where(datasets.c.id == edges.c.dataset_id, scope.sees_dataset())
    else:
        seen = sa.select(jobs.c.id).where(jobs.c.id == edges.c.job_id, scope.sees(jobs.c.team_id))
    # Row-level security hides the stranger's row itself: that it is not there says the same as that it is not seen.
    statement = sa.select(column).distinct().where(edges.c.is_write == is_write, ~seen.correlate(edges).exists())
    if as_of is not None:
        statement = statement.where(edges.c.first_seen <= as_of)
    if since is not None:
        statement = statement.where(edges.c.last_seen >= since - since % GRAIN)
    walk.hidden.update((kind, row[0], is_write) for row in select_in(connection, statement, column, ids))


def _reach(
    walk: TableWalk,
    rows: Iterable[Any],
    side: int,
    reached: set[int],
    found: dict[int, int],
    distance: int,
    limit: int,
) -> list[int]:
    """Note the edges of a level and return the nodes at their far side that are new, as many as the limit allows."""
    fresh: list[int] = []
    read = 0
    for job, is_write, dataset, first, last in rows:
        read += 1
        number = job if side == 0 else dataset
        if number not in reached:
            if number not in found and len(walk.datasets) + len(walk.jobs) >= limit:
                walk.truncated = True
                continue
            reached.add(number)
            found.setdefault(number, distance)
            fresh.append(number)
        walk.edges[job, is_write, dataset] = (first, last)
    if read >= limit * 4 + 1000:
        walk.truncated = True
    return fresh


def _tell_datasets(connection: Connection, walk: TableWalk) -> list[dict[str, Any]]:
    statement = sa.select(datasets.c.id, namespaces.c.name.label("namespace"), datasets.c.name)
    statement = statement.join(namespaces, namespaces.c.id == datasets.c.namespace_id)
    rows = select_in(connection, statement, datasets.c.id, walk.datasets)
    return [
        {"id": row.id, "namespace": row.namespace, "name": row.name, "distance": walk.datasets[row.id]}
        for row in sorted(rows, key=lambda row: (walk.datasets[row.id], row.id))
    ]


def _tell_jobs(connection: Connection, walk: TableWalk) -> list[dict[str, Any]]:
    statement = sa.select(jobs.c.id, namespaces.c.name.label("namespace"), jobs.c.name)
    statement = statement.join(namespaces, namespaces.c.id == jobs.c.namespace_id)
    rows = select_in(connection, statement, jobs.c.id, walk.jobs)
    return [
        {"id": row.id, "namespace": row.namespace, "name": row.name, "distance": walk.jobs[row.id]}
        for row in sorted(rows, key=lambda row: (walk.jobs[row.id], row.id))
    ]
