"""Adds what events say to the makings that are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from aiflow_service.database.bulk import is_among, select_in, upsert_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import DEFAULT_TEAM_ID, makings, runs
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.openlineage import Event
from aiflow_service.openlineage.events import Name

_RUNS = sa.select(runs.c.uid, runs.c.team_id, runs.c.environment)
_STORED = sa.select(makings.c.run_uid, makings.c.team_id, makings.c.fold)


class MakingPart(NamedTuple):
    """What one event says of the making of a run."""

    run_uid: str
    team_id: int
    job: Name
    """The pipeline's."""
    fold: MakingFold
    environment: str | None = None
    """The only one of which its sender may say anything."""


class Sent(Protocol):
    """An event with its sender."""

    event: Event
    team_id: int
    environment: str | None


def making_parts(sent: Iterable[Sent]) -> Iterator[MakingPart]:
    """Yield what events say of makings: those of runs of aiflow and of their tasks."""
    for one in sent:
        event = one.event
        fold = MakingFold.of_event(event) if event.run_id and event.job else None
        if fold is None or event.run_id is None or event.job is None:
            continue
        is_task = event.run_facets["aiflow_run"].get("task_id") is not None
        if not is_task:
            yield MakingPart(event.run_id, one.team_id, event.job, fold, one.environment)
        elif event.parent:
            parent = event.parent
            yield MakingPart(parent.run_id, one.team_id, parent.job, fold, one.environment)


def write_makings(
    writing: Writing,
    parts: Sequence[MakingPart],
    job_id: Callable[[int, Name], int],
    taken_over: Mapping[str, tuple[int, int]],
) -> None:
    """Store what is said of makings, once the runs themselves are stored; each team's run has its own.

    ``job_id`` says, by team, which job a name stands for; ``taken_over`` which runs of the default team have become
    another's, with what they made: that team, and its job.
    """
    uids = {part.run_uid for part in parts} | taken_over.keys()
    found = select_in(writing.connection, _RUNS, runs.c.uid, uids)
    environments = {(row.team_id, row.uid): row.environment for row in found}
    stored = select_in(writing.connection, _STORED, makings.c.run_uid, uids)
    there = {(row.team_id, row.run_uid): MakingFold.from_bytes(row.fold) for row in stored}
    rows: dict[tuple[int, str], tuple[str, int, int, bytes]] = {}
    moved = []
    for uid, (team_id, job) in taken_over.items():
        if (left := there.pop((DEFAULT_TEAM_ID, uid), None)) is not None:
            moved.append(uid)
            place = team_id, uid
            there[place] = left.merge(there[place]) if place in there else left
            rows[place] = (uid, team_id, job, there[place].to_bytes())
    if moved:
        mine = is_among(writing.connection, makings.c.run_uid, moved)
        writing.connection.execute(makings.delete().where(makings.c.team_id == DEFAULT_TEAM_ID, mine))
    together: dict[tuple[int, str], MakingPart] = {}
    for part in parts:
        place = part.team_id, part.run_uid
        if place not in environments:
            continue
        if part.environment is not None and environments[place] not in (None, part.environment):
            continue
        known = together.get(place)
        together[place] = part if known is None else part._replace(fold=known.fold.merge(part.fold))
    for (team_id, uid), part in sorted(together.items()):
        before = there.get((team_id, uid))
        fold = part.fold if before is None else before.merge(part.fold)
        if fold != before:
            rows[team_id, uid] = (uid, team_id, job_id(team_id, part.job), fold.to_bytes())
    told = list(rows.values())
    upsert_rows(writing, makings, ("run_uid", "team_id", "job_id", "fold"), told, {"job_id": "new", "fold": "new"})
