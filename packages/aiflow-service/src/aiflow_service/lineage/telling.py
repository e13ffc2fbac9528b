"""Tells what a walk has found: nodes with their names, teams and owners, and what each edge rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.database.bulk import is_among, select_in
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import declared_edges, declared_jobs, namespaces, teams
from aiflow_service.lineage.writing import GRAIN

if TYPE_CHECKING:
    from aiflow_service.lineage.levels import Kind
    from aiflow_service.lineage.tables import TableWalk


class NodeTold(msgspec.Struct, gc=False):
    """A job or dataset."""

    id: int
    namespace: str | None
    name: str
    team: str | None
    owners: list[str]
    distance: int


class JobTold(NodeTold, gc=False):
    """A job; ``declares``: whether a release says what it reads and writes."""

    declares: bool


class EdgeTold(msgspec.Struct, gc=False):
    """An edge: seen by runs, declared by the current release, or both."""

    job: int
    dataset: int
    writes: bool
    basis: Literal["observed", "declared", "both"]
    undeclared: bool
    """Whether the job's release should have declared it."""
    first_seen: str | None
    last_seen: str | None
    declared_since: str | None


class _Owner(msgspec.Struct):
    name: str = ""


class _Ownership(msgspec.Struct):
    owners: list[_Owner] = []
    deleted: bool = msgspec.field(default=False, name="_deleted")


class _Facts(msgspec.Struct):
    ownership: tuple[int, str, _Ownership] | None = None


_FACTS = msgspec.json.Decoder(_Facts)


def tell_walk(
    connection: Connection, walk: TableWalk, at: int, *, only: Literal["undeclared", "unobserved"] | None
) -> dict[str, Any]:
    """Return the walk as data; ``only``: of the edges those, and the nodes at their ends."""
    declared = _declared_jobs(connection, walk, at)
    undeclared = _undeclared(connection, walk, declared, at)
    edges = [
        EdgeTold(
            job,
            dataset,
            is_write == 1,
            "declared" if first is None else "observed" if since is None else "both",
            (job, is_write, dataset) in undeclared,
            moment_text(first),
            moment_text(last),
            moment_text(since),
        )
        for (job, is_write, dataset), (_, _, first, last, since) in sorted(walk.edges.items())
    ]
    if only is not None:
        edges = [one for one in edges if (one.undeclared if only == "undeclared" else one.first_seen is None)]
        kept: dict[Kind, set[int]] = {"job": {one.job for one in edges}, "dataset": {one.dataset for one in edges}}
        for kind, found in walk.found.items():
            walk.found[kind] = {n: distance for n, distance in found.items() if n in kept[kind] or not distance}
    nodes = [walk.sight.nodes[kind][number] for kind, found in walk.found.items() for number in found]
    spaces, owners = names_of(connection, nodes)
    return {
        "datasets": [NodeTold(*fields) for fields in _nodes(walk, "dataset", spaces, owners)],
        "jobs": [JobTold(*fields, fields[0] in declared) for fields in _nodes(walk, "job", spaces, owners)],
        "edges": edges,
        "hidden": [{kind: number, "writes": bool(is_write)} for kind, number, is_write in sorted(walk.hidden)],
    }


def _nodes(
    walk: TableWalk, kind: Kind, spaces: Mapping[int, str], owners: Mapping[int, str]
) -> Iterable[tuple[int, str | None, str, str | None, list[str], int]]:
    rows = walk.sight.nodes[kind]
    for number, distance in sorted(walk.found[kind].items(), key=lambda one: (one[1], one[0])):
        yield *node_fields(rows[number], spaces, owners), distance


def names_of(connection: Connection, rows: Sequence[Any]) -> tuple[dict[int, str], dict[int, str]]:
    """Return the names of the namespaces and of the teams of jobs and datasets, by their ids."""
    told: dict[int, dict[int, str]] = {1: {}, 2: {}}
    if not rows:
        return told[1], told[2]
    of_each = [
        sa.select(sa.literal(place), table.c.id, table.c.name).where(
            is_among(connection, table.c.id, sorted({row[place] for row in rows}))
        )
        for place, table in ((1, namespaces), (2, teams))
    ]
    for place, number, name in connection.execute(sa.union_all(*of_each)):
        told[place][number] = name
    return told[1], told[2]


def node_fields(
    row: Any, spaces: Mapping[int, str], teams_named: Mapping[int, str]
) -> tuple[int, str | None, str, str | None, list[str]]:
    """Return what is told of a job or dataset: id, namespace, name, team, owners."""
    number, namespace_id, team_id, name, facts = row
    return number, spaces.get(namespace_id), name, teams_named.get(team_id), _owners(facts)


def _owners(facts: bytes) -> list[str]:
    if not facts:
        return []
    try:
        found = _FACTS.decode(facts).ownership
    except msgspec.ValidationError:
        return []  # a stranger's facet, kept as it came
    return [] if found is None or found[2].deleted else [one.name for one in found[2].owners if one.name]


def _declared_jobs(connection: Connection, walk: TableWalk, at: int) -> dict[int, tuple[int, bool, bool]]:
    """Return, of the jobs that are deployed at a moment: since when, and whether all reads and writes are named."""
    job = declared_jobs.c
    statement = sa.select(job.job_id, job.since, job.knows_reads, job.knows_writes).where(
        job.since <= at, job.until.is_(None) | (job.until > at)
    )
    rows = select_in(connection, statement, job.job_id, walk.found["job"])
    return {number: (since, bool(reads), bool(writes)) for number, since, reads, writes in rows}


def _undeclared(
    connection: Connection, walk: TableWalk, declared: Mapping[int, tuple[int, bool, bool]], at: int
) -> set[tuple[int, int, int]]:
    """Return the edges that runs told of although the release says all that the job reads or writes, and not this.

    What was last seen before the job was deployed, or while it was still declared, is past and not undeclared; when
    it was seen is known to five minutes.
    """
    beside = {
        (job, is_write, dataset): last
        for (job, is_write, dataset), (_, _, _, last, since) in walk.edges.items()
        if last is not None and since is None and job in declared and declared[job][1 + is_write]
    }
    if not beside:
        return set()
    edge = declared_edges.c
    ended = sa.select(edge.job_id, edge.is_write, edge.dataset_id, sa.func.max(edge.until)).where(edge.until <= at)
    ended = ended.group_by(edge.job_id, edge.is_write, edge.dataset_id)
    rows = select_in(connection, ended, edge.job_id, sorted({key[0] for key in beside}))
    until = {(job, is_write, dataset): moment for job, is_write, dataset, moment in rows}
    found = set()
    for key, last in beside.items():
        begins = max(declared[key[0]][0], until.get(key, 0))
        if last >= begins - begins % GRAIN:
            found.add(key)
    return found
