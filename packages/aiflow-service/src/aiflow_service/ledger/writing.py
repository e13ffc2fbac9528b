"""Adds what events say to the makings that are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

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


def making_parts(events: Iterable[tuple[Event, int]]) -> Iterator[MakingPart]:
    """Yield what events, each given with its team, say of makings: those of runs of aiflow and of their tasks."""
    for event, team_id in events:
        fold = MakingFold.of_event(event) if event.run_id and event.job else None
        if fold is None or event.run_id is None or event.job is None:
            continue
        is_task = event.run_facets["aiflow_run"].get("task_id") is not None
        if not is_task:
            yield MakingPart(event.run_id, team_id, event.job, fold)
        elif event.parent:
            yield MakingPart(event.parent.run_id, team_id, event.parent.job, fold)


def write_makings(writing: Writing, parts: Sequence[MakingPart], job_id: Callable[[int, Name], int]) -> None:
    """Store what is said of makings; ``job_id`` says, by team, which job a name stands for."""
    together: dict[str, MakingPart] = {}
    for part in parts:
        known = together.get(part.run_uid)
        together[part.run_uid] = part if known is None else known._replace(fold=known.fold.merge(part.fold))
    stored = sa.select(makings.c.run_uid, makings.c.fold)
    there = {row.run_uid: row.fold for row in select_in(writing.connection, stored, makings.c.run_uid, together)}
    new, changed = [], []
    for uid, part in sorted(together.items()):
        if uid not in there:
            new.append((uid, part.team_id, job_id(part.team_id, part.job), part.fold.to_bytes()))
            continue
        before = MakingFold.from_bytes(there[uid])
        after = before.merge(part.fold)
        if after != before:
            changed.append((uid, after.to_bytes()))
    insert_rows(writing, makings, ("run_uid", "team_id", "job_id", "fold"), new)
    update_rows(writing, makings, ("run_uid", "fold"), changed)
