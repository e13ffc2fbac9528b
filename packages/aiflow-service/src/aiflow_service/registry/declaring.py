"""What versions declare that they read and write, and since when each of them was current."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.database.bulk import select_in
from aiflow_service.database.compression import decompress
from aiflow_service.database.tables import documents, pipeline_releases, pipelines, projects, releases, versions

Name = tuple[str, str]
"""Of a dataset: namespace and name."""


class _Node(msgspec.Struct):
    type: str
    dataset: Name | None = None


class _Nodes(msgspec.Struct):
    nodes: list[_Node]


_DECODER = msgspec.json.Decoder(_Nodes)


@dataclass(frozen=True, slots=True)
class Declared:
    """The datasets that a plan names."""

    reads: frozenset[Name]
    writes: frozenset[Name]
    knows_reads: bool
    """Whether all that it reads is named; else a run decides some of the names."""
    knows_writes: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a release has made of a pipeline: its version, none where it was removed."""

    pipeline_id: int
    at: int
    version_id: int | None


def declared_of(plan: bytes) -> Declared:
    """Return what a plan declares: the datasets of its sources and sinks."""
    named: dict[str, list[Name | None]] = {"source": [], "sink": []}
    for node in _DECODER.decode(plan).nodes:
        if node.type in named:
            named[node.type].append(node.dataset)
    reads, writes = named["source"], named["sink"]
    return Declared(
        frozenset(one for one in reads if one), frozenset(one for one in writes if one), all(reads), all(writes)
    )


def declared_by(connection: Connection, version_ids: Collection[int]) -> dict[int, Declared]:
    """Return what versions declare."""
    statement = sa.select(versions.c.id, documents.c.body).join(
        documents, (documents.c.team_id == versions.c.team_id) & (documents.c.digest == versions.c.plan_digest)
    )
    rows = select_in(connection, statement, versions.c.id, sorted(version_ids))
    return {number: declared_of(decompress(bytes(body))) for number, body in rows}


def changes_of(connection: Connection, release_id: int) -> tuple[dict[int, tuple[str, str]], list[Change], bool]:
    """Return the pipelines of which something became in a release, by their ids, each with its project and name; what,
    in the order of releases; and whether the release is the newest of all.

    Where it is, the changes are its own; else they are all that ever became of these pipelines in its environment.
    """
    release = connection.execute(sa.select(releases).where(releases.c.id == release_id)).one()
    mine = (releases.c.project_id == release.project_id) & (releases.c.environment == release.environment)
    order = (releases.c.at, releases.c.number, releases.c.key)
    later = mine & (sa.tuple_(*order) > sa.tuple_(*map(sa.literal, (release.at, release.number, release.key))))
    is_newest = connection.execute(sa.select(releases.c.id).where(later).limit(1)).first() is None
    touched = sa.select(pipeline_releases.c.pipeline_id).where(pipeline_releases.c.release_id == release_id)
    named = (
        sa.select(pipelines.c.id, projects.c.name, pipelines.c.name).join(projects).where(pipelines.c.id.in_(touched))
    )
    names = {number: (project, name) for number, project, name in connection.execute(named)}
    changes = (
        sa.select(pipeline_releases.c.pipeline_id, releases.c.at, pipeline_releases.c.version_id)
        .join(releases, releases.c.id == pipeline_releases.c.release_id)
        .where(mine, pipeline_releases.c.pipeline_id.in_(touched))
        .order_by(*order)
    )
    if is_newest:
        changes = changes.where(releases.c.id == release_id)
    return names, [Change(*row) for row in connection.execute(changes)], is_newest
