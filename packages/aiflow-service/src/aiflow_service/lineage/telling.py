"""Tells what a walk has found: nodes with their names, teams and owners, and what each edge rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.database.bulk import KeptStatement, given_ids, is_given, select_in
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


class _Owner(msgspec.Struct, gc=False):
    name: str = ""


class _Ownership(msgspec.Struct, gc=False):
    owners: list[_Owner] = []
    deleted: bool = msgspec.field(default=False, name="_deleted")


class _Facts(msgspec.Struct, gc=False):
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
    rows, name_of, team_of = walk.sight.nodes[kind], spaces.get, owners.get
    for number, distance in sorted(walk.found[kind].items(), key=itemgetter(1, 0)):
        _, namespace_id, team_id, name, facts = rows[number]
        yield number, name_of(namespace_id), name, team_of(team_id), owners_in(facts), distance


def names_of(connection: Connection, rows: Sequence[Any]) -> tuple[dict[int, str], dict[int, str]]:
    """Return the names of the namespaces and of the teams of jobs and datasets, by their ids."""
    told: dict[int, dict[int, str]] = {1: {}, 2: {}}
    is_postgres = connection.dialect.name == "postgresql"
    asked = {
        name: given_ids({row[place] for row in rows}, is_postgres=is_postgres)
        for place, name in ((1, "spaces"), (2, "teams"))
    }
    for place, number, name in _names(is_postgres).read(connection, asked):
        told[place][number] = name
    return told[1], told[2]


@lru_cache(maxsize=2)
def _names(is_postgres: bool) -> KeptStatement:
    of_each = [
        sa.select(sa.literal_column(place), table.c.id, table.c.name).where(
            is_given(table.c.id, name, is_postgres=is_postgres)
        )
        for place, table, name in (("1", namespaces, "spaces"), ("2", teams, "teams"))
    ]
    return KeptStatement(sa.union_all(*of_each), is_postgres=is_postgres)


def node_fields(
    row: Any, spaces: Mapping[int, str], teams_named: Mapping[int, str]
) -> tuple[int, str | None, str, str | None, list[str]]:
    """Return what is told of a job or dataset: id, namespace, name, team, owners."""
    number, namespace_id, team_id, name, facts = row
    return number, spaces.get(namespace_id), name, teams_named.get(team_id), owners_in(facts)


def owners_in(facts: bytes) -> list[str]:
    """Return the names of the owners that the facts of a job or dataset tell of."""
    if not facts:
        return []
    try:
        found = _FACTS.decode(facts).ownership
    except msgspec.ValidationError:
        return []  # a stranger's facet, kept as it came
    return [] if found is None or found[2].deleted else [one.name for one in found[2].owners if one.name]


_AT = sa.bindparam("at", type_=sa.BigInteger)
_ENDED = (
    sa.select(
        declared_edges.c.job_id,
        declared_edges.c.is_write,
        declared_edges.c.dataset_id,
        sa.func.max(declared_edges.c.until),
    )
    .where(declared_edges.c.until <= _AT)
    .group_by(declared_edges.c.job_id, declared_edges.c.is_write, declared_edges.c.dataset_id)
)


def _declared_jobs(connection: Connection, walk: TableWalk, at: int) -> dict[int, tuple[int, bool, bool]]:
    """Return, of the jobs that are deployed at a moment: since when, and whether all reads and writes are named."""
    is_postgres = connection.dialect.name == "postgresql"
    asked = {"at": at, "jobs": given_ids(walk.found["job"], is_postgres=is_postgres)}
    rows = _deployed(is_postgres).read(connection, asked)
    return {number: (since, bool(reads), bool(writes)) for number, since, reads, writes in rows}


@lru_cache(maxsize=2)
def _deployed(is_postgres: bool) -> KeptStatement:
    job = declared_jobs.c
    statement = sa.select(job.job_id, job.since, job.knows_reads, job.knows_writes).where(
        job.since <= _AT,
        job.until.is_(None) | (job.until > _AT),
        is_given(job.job_id, "jobs", is_postgres=is_postgres),
    )
    return KeptStatement(statement, is_postgres=is_postgres)


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
    jobs = sorted({key[0] for key in beside})
    rows = select_in(connection, _ENDED, declared_edges.c.job_id, jobs, {"at": at})
    until = {(job, is_write, dataset): moment for job, is_write, dataset, moment in rows}
    found = set()
    for key, last in beside.items():
        begins = max(declared[key[0]][0], until.get(key, 0))
        if last >= begins - begins % GRAIN:
            found.add(key)
    return found
