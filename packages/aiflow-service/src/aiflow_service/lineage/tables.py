"""Walks from datasets and jobs along the edges, breadth first, two queries a level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.lineage.levels import OTHER, EdgeReader, EdgeRow, Kind, NodeReader, Sight
from aiflow_service.lineage.telling import tell_walk

Direction: TypeAlias = Literal["up", "down", "both"]
Basis: TypeAlias = Literal["all", "observed", "declared", "undeclared", "unobserved"]
"""Which edges: those that runs told of, those that are deployed; told of and not deployed, deployed and not told of."""

_READS, _WRITES = 0, 1


@dataclass
class TableWalk:
    """What a walk has found."""

    limit: int
    sight: Sight
    found: dict[Kind, dict[int, int]] = field(default_factory=lambda: {"job": {}, "dataset": {}})
    """Jobs and datasets by their ids, with their distance."""
    edges: dict[tuple[int, int, int], EdgeRow] = field(default_factory=dict)
    """By job, is_write, dataset."""
    hidden: set[tuple[Kind, int, int]] = field(default_factory=set)
    """Where a stranger's node begins: its visible neighbour's kind and id, and ``is_write``."""
    truncated: bool = False

    @property
    def room(self) -> int:
        """How many nodes more may be told."""
        return self.limit - len(self.found["job"]) - len(self.found["dataset"])

    @property
    def is_cut(self) -> bool:
        """Whether it is full and that has been said: there is nothing more to find."""
        return self.truncated and not self.room


def walk_tables(
    connection: Connection,
    scope: Scope,
    *,
    dataset_ids: Iterable[int] = (),
    job_ids: Iterable[int] = (),
    direction: Direction,
    depth: int,
    limit: int,
    basis: Basis = "all",
    as_of: int | None = None,
    since: int | None = None,
) -> dict[str, Any]:
    """Return the graph around datasets and jobs: up is what they are made from, down what is made from them.

    ``depth`` counts jobs passed through. ``limit`` bounds datasets and jobs together; where it cut anything off,
    ``truncated`` says so, and edges between what is told may be missing too. Only edges first seen by ``as_of``, and
    seen at or after ``since``, count, both to five minutes, and those declared at ``as_of``. What the caller may not
    see is told as ``hidden``: that something reads or writes a dataset, or that a job reads or writes something, and
    neither what nor how many; the walk ends there.
    """
    walk = TableWalk(limit, Sight(NodeReader(connection, scope)))
    walker = _Walker(walk, EdgeReader(connection, as_of, since), basis)
    starts: dict[Kind, list[int]] = {"dataset": sorted(dataset_ids), "job": sorted(job_ids)}
    for kind, ids in starts.items():
        walk.sight.learn(kind, ids)
        walk.found[kind].update((number, 0) for number in ids if number in walk.sight.nodes[kind])
    for way in ("up", "down") if direction == "both" else (direction,):
        walker.go(starts, way == "up", depth)
    told = tell_walk(connection, walk, walker.edges.at, only=basis if basis in ("undeclared", "unobserved") else None)
    return {"direction": direction, "depth": depth, "truncated": walk.truncated, **told}


class _Walker:
    """Goes along the edges in one direction, then perhaps in the other."""

    def __init__(self, walk: TableWalk, edges: EdgeReader, basis: Basis) -> None:
        self.edges = edges
        self._walk = walk
        self._first = {"observed": 2, "declared": 4}.get(basis)
        """The place in a row of what has to be there for the edge to count; none: each counts."""

    def go(self, starts: dict[Kind, list[int]], goes_up: bool, depth: int) -> None:
        """Add one direction to the walk. Levels take turns: from datasets to jobs, from jobs to datasets."""
        into, out_of = (_WRITES, _READS) if goes_up else (_READS, _WRITES)
        reached: dict[Kind, set[int]] = {kind: set(ids) for kind, ids in starts.items()}
        here, at_jobs = starts["dataset"], starts["job"]
        for distance in range(depth + 1):
            if here and distance < depth:
                at_jobs = self._step("dataset", here, into, distance + 1, reached["job"]) + at_jobs
            if not at_jobs or self._walk.is_cut:
                return
            here = self._step("job", at_jobs, out_of, distance + 1, reached["dataset"])
            at_jobs = []
            if not here or self._walk.is_cut:
                return

    def _step(self, kind: Kind, ids: list[int], is_write: int, distance: int, reached: set[int]) -> list[int]:
        """Note the edges of nodes, and return the nodes at their other side that are new: as many as are allowed."""
        walk, other = self._walk, OTHER[kind]
        found, nodes, strangers = walk.found[other], walk.sight.nodes[other], walk.sight.strangers[other]
        fresh: list[int] = []
        for rows in self.edges.read(kind, ids, is_write):
            room = walk.room
            ordered = self._in_order(rows)
            unknown = walk.sight.unknown(other, (row[1] for row in ordered))
            for row in ordered:
                number = row[1]
                key = (row[0], is_write, number) if kind == "job" else (number, is_write, row[0])
                known = walk.edges.get(key)
                if known is not None:
                    walk.edges[key] = _joined(known, row)
                elif self._first is not None and row[self._first] is None:
                    continue
                if known is None:
                    while number not in nodes and number not in strangers and (room or not walk.truncated):
                        walk.sight.learn(other, islice(unknown, room + 10))
                    if number in strangers:
                        walk.hidden.add((kind, row[0], is_write))
                        continue
                    if number not in found:
                        if not room or number not in nodes:
                            walk.truncated = True
                            continue
                        found[number] = distance
                        room -= 1
                    walk.edges[key] = row
                if number not in reached:
                    reached.add(number)
                    fresh.append(number)
            if walk.is_cut:
                break
        return fresh

    def _in_order(self, rows: Sequence[EdgeRow]) -> Sequence[EdgeRow]:
        """Return the rows, those that count first: what is said beside them of the same edge is noted with it.

        Where not all can be told, those of the least ids are, whatever the order in which the database has them.
        """
        if len(rows) > self._walk.room:
            rows = sorted(rows, key=itemgetter(0, 1))
        first = self._first
        return rows if first is None else sorted(rows, key=lambda row: row[first] is None)


def _joined(one: EdgeRow, other: EdgeRow) -> EdgeRow:
    """Return what two rows say of one edge."""
    first, last, since = (mine if mine is not None else more for mine, more in zip(one[2:], other[2:], strict=True))
    return one[0], one[1], first, last, since
