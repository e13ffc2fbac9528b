"""Adds what events say to the makings that are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from aiflow_service.database.bulk import insert_rows, select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import makings, runs
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
    environment: str | None = None
    """The only one of which its sender may say anything."""


class Sent(Protocol):
    """An event with its sender."""

    event: Event
    team_id: int
    speaks_for_all: bool
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
            yield MakingPart(event.run_id, one.team_id, event.job, fold, one.speaks_for_all, one.environment)
        elif event.parent:
            parent = event.parent
            yield MakingPart(parent.run_id, one.team_id, parent.job, fold, one.speaks_for_all, one.environment)


def write_makings(writing: Writing, parts: Sequence[MakingPart], job_id: Callable[[int, Name], int]) -> None:
    """Store what is said of makings, once the runs themselves are stored: whose a run is, its making is too.

    ``job_id`` says, by team, which job a name stands for.
    """
    uids = {part.run_uid for part in parts}
    owned = sa.select(runs.c.uid, runs.c.team_id, runs.c.environment)
    owners = {row.uid: row for row in select_in(writing.connection, owned, runs.c.uid, uids)}
    stored = sa.select(makings.c.run_uid, makings.c.team_id, makings.c.fold)
    there = {row.run_uid: row for row in select_in(writing.connection, stored, makings.c.run_uid, uids)}
    together: dict[str, MakingPart] = {}
    for part in parts:
        run, known = owners.get(part.run_uid), together.get(part.run_uid)
        if run is None or not (part.speaks_for_all or run.team_id == part.team_id):
            continue
        if part.environment is not None and run.environment not in (None, part.environment):
            continue
        fold = part.fold if known is None else known.fold.merge(part.fold)
        together[part.run_uid] = part._replace(team_id=run.team_id, fold=fold)
    new: list[tuple[str, int, int, bytes]] = []
    changed: list[tuple[str, int, int, bytes]] = []
    for uid, part in sorted(together.items()):
        row, fold = there.get(uid), part.fold
        if row is not None and row.team_id == part.team_id:
            before = MakingFold.from_bytes(row.fold)
            fold = before.merge(part.fold)
            if fold == before:
                continue
        (new if row is None else changed).append((uid, part.team_id, job_id(part.team_id, part.job), fold.to_bytes()))
    insert_rows(writing, makings, ("run_uid", "team_id", "job_id", "fold"), new)
    update_rows(writing, makings, ("run_uid", "team_id", "job_id", "fold"), changed)
