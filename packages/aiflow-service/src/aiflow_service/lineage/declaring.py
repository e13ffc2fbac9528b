"""Keeps what pipelines declare that they read and write, with when each of it began and ended to hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from aiflow_service.database.bulk import insert_rows, is_among, select_in
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import declared_edges, declared_jobs

DeclaredTouch = tuple[int, int]
"""0 where it is read or 1 where it is written, and the dataset's id."""


@dataclass
class Declaration:
    """What a job declares from a moment on; nothing where it is deployed no more."""

    job_id: int
    at: int
    touches: frozenset[DeclaredTouch] | None
    knows_reads: bool = True
    knows_writes: bool = True


@dataclass
class _Told:
    """What holds of one job while its declarations are gone through, and what has held."""

    touches: dict[DeclaredTouch, int] = field(default_factory=dict)
    deployed: tuple[int, int, int] | None = None
    edges: list[tuple[int, int, int, int, int | None]] = field(default_factory=list)
    jobs: list[tuple[int, int, int | None, int, int]] = field(default_factory=list)


def write_declarations(
    writing: Writing, job_ids: Collection[int], declarations: Iterable[Declaration], *, anew: bool
) -> None:
    """Store declarations of jobs, given in the order of their moments.

    They follow what is stored of these jobs, or, ``anew``, are all that there ever were.
    """
    told = {job_id: _Told() for job_id in job_ids}
    for table in (declared_edges, declared_jobs):
        holds = sa.true() if anew else table.c.until.is_(None)
        for row in select_in(writing.connection, sa.select(table).where(holds), table.c.job_id, told):
            if anew:
                continue
            if table is declared_edges:
                told[row.job_id].touches[row.is_write, row.dataset_id] = row.since
            else:
                told[row.job_id].deployed = row.since, row.knows_reads, row.knows_writes
        mine = is_among(writing.connection, table.c.job_id, told)
        writing.connection.execute(table.delete().where(mine, holds))
    for one in declarations:
        _follow(told[one.job_id], one)
    for job_id, held in told.items():
        held.edges += [(job_id, *touch, since, None) for touch, since in held.touches.items()]
        if held.deployed is not None:
            since, reads, writes = held.deployed
            held.jobs.append((job_id, since, None, reads, writes))
    edges = [row for held in told.values() for row in held.edges]
    insert_rows(writing, declared_edges, ("job_id", "is_write", "dataset_id", "since", "until"), edges)
    jobs = [row for held in told.values() for row in held.jobs]
    insert_rows(writing, declared_jobs, ("job_id", "since", "until", "knows_reads", "knows_writes"), jobs)


def _follow(held: _Told, one: Declaration) -> None:
    """Let a declaration follow: what it no longer says ends, what it says anew begins; no moment, no row."""
    said = one.touches if one.touches is not None else frozenset()
    for touch in held.touches.keys() - said:
        since = held.touches.pop(touch)
        if since < one.at:
            held.edges.append((one.job_id, *touch, since, one.at))
    for touch in said - held.touches.keys():
        held.touches[touch] = one.at
    now = None if one.touches is None else (int(one.knows_reads), int(one.knows_writes))
    if held.deployed is not None and held.deployed[1:] != now:
        since, reads, writes = held.deployed
        if since < one.at:
            held.jobs.append((one.job_id, since, one.at, reads, writes))
        held.deployed = None
    if now is not None and held.deployed is None:
        held.deployed = (one.at, *now)
