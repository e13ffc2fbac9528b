"""Adds what events say to the makings that are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from aiflow_service.database.bulk import insert_rows, select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import makings
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.openlineage import Event
from aiflow_service.openlineage.events import Name


class MakingPart(NamedTuple):
    """What one event says of the making of a run."""

    run_uid: str
    team_id: int
    job: Name
    """The pipeline's."""
    fold: MakingFold
    speaks_for_all: bool
    """Unless the sender does, what it says of another team's run changes nothing."""


class Sent(Protocol):
    """An event with its sender."""

    event: Event
    team_id: int
    speaks_for_all: bool


def making_parts(sent: Iterable[Sent]) -> Iterator[MakingPart]:
    """Yield what events say of makings: those of runs of aiflow and of their tasks."""
    for one in sent:
        event = one.event
        fold = MakingFold.of_event(event) if event.run_id and event.job else None
        if fold is None or event.run_id is None or event.job is None:
            continue
        is_task = event.run_facets["aiflow_run"].get("task_id") is not None
        if not is_task:
            yield MakingPart(event.run_id, one.team_id, event.job, fold, one.speaks_for_all)
        elif event.parent:
            yield MakingPart(event.parent.run_id, one.team_id, event.parent.job, fold, one.speaks_for_all)


def write_makings(writing: Writing, parts: Sequence[MakingPart], job_id: Callable[[int, Name], int]) -> None:
    """Store what is said of makings; ``job_id`` says, by team, which job a name stands for."""
    stored = sa.select(makings.c.run_uid, makings.c.team_id, makings.c.fold)
    found = select_in(writing.connection, stored, makings.c.run_uid, {part.run_uid for part in parts})
    there = {row.run_uid: row for row in found}
    together: dict[str, MakingPart] = {}
    for part in parts:
        known, row = together.get(part.run_uid), there.get(part.run_uid)
        owner = row.team_id if row is not None else known.team_id if known is not None else part.team_id
        if not part.speaks_for_all and owner != part.team_id:
            continue
        together[part.run_uid] = part if known is None else known._replace(fold=known.fold.merge(part.fold))
    new, changed = [], []
    for uid, part in sorted(together.items()):
        if uid not in there:
            new.append((uid, part.team_id, job_id(part.team_id, part.job), part.fold.to_bytes()))
            continue
        before = MakingFold.from_bytes(there[uid].fold)
        after = before.merge(part.fold)
        if after != before:
            changed.append((uid, after.to_bytes()))
    insert_rows(writing, makings, ("run_uid", "team_id", "job_id", "fold"), new)
    update_rows(writing, makings, ("run_uid", "fold"), changed)
