"""Walks from a column along what it is made from, or what is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import column_edges, columns, jobs
from aiflow_service.lineage.levels import ColumnEdgeRow, EdgeReader, NodeReader, Side, Sight
from aiflow_service.lineage.tables import Direction
from aiflow_service.lineage.telling import names_of, node_fields


class ColumnTold(msgspec.Struct, gc=False):
    """A column."""

    id: int
    dataset: dict[str, Any]
    name: str
    type: str | None
    distance: int


class ColumnEdgeTold(msgspec.Struct, gc=False):
    """That a job makes one column from another."""

    target: int
    source: int
    job: int
    kind: str | None
    first_seen: str | None
    last_seen: str | None


@dataclass
class ColumnWalk:
    """What a walk has found."""

    limit: int
    sight: Sight
    found: dict[int, int] = field(default_factory=dict)
    """Columns by their ids, with their distance."""
    columns: dict[int, Any] = field(default_factory=dict)
    """The rows of those that the caller sees, found or not."""
    strangers: set[int] = field(default_factory=set)
    edges: dict[tuple[int, int, int], ColumnEdgeRow] = field(default_factory=dict)
    """By target, source, job."""
    hidden: set[tuple[int, str]] = field(default_factory=set)
    """Columns with a neighbour that the caller may not see, and whether that is ``up`` or ``down``."""
    truncated: bool = False

    @property
    def room(self) -> int:
        """How many columns more may be told."""
        return self.limit - len(self.found)

    @property
    def is_cut(self) -> bool:
        """Whether it is full and that has been said: there is nothing more to find."""
        return self.truncated and not self.room

    def unknown(self, ids: Iterable[int]) -> Iterator[int]:
        """Yield those of the columns of which it is not known whether the caller sees them, each once."""
        return (number for number in dict.fromkeys(ids) if number not in self.columns and number not in self.strangers)

    def learn(self, ids: Iterable[int]) -> None:
        """Find out which of the columns the caller sees, and what they are called."""
        unknown = list(self.unknown(ids))
        if not unknown:
            return
        rows = self.sight.reader.read_columns(unknown)
        self.sight.learn("dataset", {row[1] for row in rows})
        seen = self.sight.nodes["dataset"]
        self.columns.update((row[0], row) for row in rows if row[1] in seen)
        self.strangers.update(number for number in unknown if number not in self.columns)


def find_columns(connection: Connection, scope: Scope, dataset_id: int, name: str | None) -> list[int]:
    """Return the ids of a dataset's columns, or of the one that is named.

    A column that is in no schema, and of which only jobs tell that the caller does not see, is told where it is named:
    else whoever says that they touch the dataset could put any words among its columns.
    """
    statement = sa.select(columns.c.id).where(columns.c.dataset_id == dataset_id)
    if name is not None:
        statement = statement.where(columns.c.name == name)
    elif scope.team_ids is not None:
        is_told = [
            sa.exists().where(side == columns.c.id, jobs.c.id == column_edges.c.job_id, scope.sees(jobs.c.team_id))
            for side in (column_edges.c.target_id, column_edges.c.source_id)
        ]
        statement = statement.where(sa.or_(columns.c.name == "*", columns.c.ordinal.is_not(None), *is_told))
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
    walk = ColumnWalk(limit, Sight(NodeReader(connection, scope)))
    edges = EdgeReader(connection, as_of, since)
    starts = sorted(column_ids)
    walk.learn(starts)
    walk.found.update((number, 0) for number in starts if number in walk.columns)
    for way in ("up", "down") if direction == "both" else (direction,):
        reached, here = set(starts), starts
        for distance in range(1, depth + 1):
            if not here:
                break
            here = _step(walk, edges, way, here, distance, reached)
    return {"direction": direction, "depth": depth, "truncated": walk.truncated, **_tell(connection, walk)}


def _step(walk: ColumnWalk, edges: EdgeReader, way: str, ids: list[int], distance: int, reached: set[int]) -> list[int]:
    """Note the edges of columns, and return the columns at their other side that are new."""
    side: Side = "target" if way == "up" else "source"
    found, jobs_seen, jobs_unseen = walk.found, walk.sight.nodes["job"], walk.sight.strangers["job"]
    fresh: list[int] = []
    for rows in edges.read_columns(side, ids):
        room = walk.room
        ordered = rows if len(rows) <= room else sorted(rows, key=itemgetter(0, 1, 2))
        unknown = walk.unknown(row[1] for row in ordered)
        jobs = walk.sight.unknown("job", (row[2] for row in ordered))
        for row in ordered:
            near, number, job = row[:3]
            while job not in jobs_seen and job not in jobs_unseen:
                walk.sight.learn("job", islice(jobs, room + 10))
            while number not in walk.columns and number not in walk.strangers and (room or not walk.truncated):
                walk.learn(islice(unknown, room + 10))
            if job in jobs_unseen or number in walk.strangers:
                walk.hidden.add((near, way))
                continue
            if number not in found:
                if not room or number not in walk.columns:
                    walk.truncated = True
                    continue
                found[number] = distance
                room -= 1
            walk.edges[(near, number, job) if way == "up" else (number, near, job)] = row
            if number not in reached:
                reached.add(number)
                fresh.append(number)
        if walk.is_cut:
            return []
    return fresh


def _tell(connection: Connection, walk: ColumnWalk) -> dict[str, Any]:
    rows = [walk.columns[number] for number in walk.found]
    datasets = {row[1]: walk.sight.nodes["dataset"][row[1]] for row in rows}
    jobs = [walk.sight.nodes["job"][number] for number in sorted({job for _, _, job in walk.edges})]
    spaces, teams = names_of(connection, [*datasets.values(), *jobs])
    names = ("id", "namespace", "name", "team", "owners")
    told = {number: dict(zip(names, node_fields(row, spaces, teams), strict=True)) for number, row in datasets.items()}
    return {
        "columns": [
            ColumnTold(number, told[dataset_id], name, kind, walk.found[number])
            for number, dataset_id, name, kind in sorted(rows, key=lambda row: (walk.found[row[0]], row[0]))
        ],
        "jobs": [dict(zip(names, node_fields(row, spaces, teams), strict=True)) for row in jobs],
        "edges": [
            ColumnEdgeTold(target, source, job, row[3] or None, moment_text(row[4]), moment_text(row[5]))
            for (target, source, job), row in sorted(walk.edges.items())
        ],
        "hidden": [{"column": number, "direction": way} for number, way in sorted(walk.hidden)],
    }
