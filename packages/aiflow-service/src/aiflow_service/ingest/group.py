"""Writes a group of events in one transaction: the events themselves, and all that is derived from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from aiflow_service.access.teams import Claims
from aiflow_service.catalog import CatalogMemory, Names, write_schemas
from aiflow_service.catalog.facts import DATASET_FACETS, JOB_FACETS, write_facts
from aiflow_service.database import Database, Writing
from aiflow_service.database.compression import compress_all
from aiflow_service.database.tables import datasets, jobs
from aiflow_service.events import EventRow, RefusedEvent, known_digests, write_events, write_refusals
from aiflow_service.events.writing import day_of
from aiflow_service.ingest.merging import join_symlinks
from aiflow_service.ingest.repeats import Repeats, job_of_edges, newest_mentions
from aiflow_service.ingest.sender import Rights, Sent, sort_by_claims
from aiflow_service.ledger import making_parts, write_makings
from aiflow_service.lineage import ColumnEdge, LineageMemory, write_column_edges, write_edges
from aiflow_service.openlineage import DatasetMention, Event, EventKind
from aiflow_service.openlineage.events import Name
from aiflow_service.runs import RunFold, RunPart, merge_runs

_T = TypeVar("_T")
Place: TypeAlias = tuple[int | None, int, DatasetMention, int]
"""The job that reads or writes (none in a dataset's own event) and the dataset, by their ids; what is said; when."""


class Submission(msgspec.Struct):
    """An event that waits to be written."""

    event: Event
    team_id: int
    received_at: int
    speaks_for_all: bool = True
    """See :class:`~aiflow_service.ingest.sender.Sender`."""
    environment: str | None = None
    """Likewise."""


class Outcome(msgspec.Struct):
    """What became of a group."""

    numbers: dict[bytes, int]
    """The numbers of the events that were new, by digest; those that are absent had been stored before."""
    refused: dict[bytes, int]
    """The numbers of what was refused, by digest."""
    ended: list[tuple[str, RunFold]]
    """The pipelines (or jobs) of runs that have ended, and the runs."""
    last_number: int
    """Of all events that are stored."""
    ungranted: dict[bytes, list[Name]]
    """The datasets that an event says it writes, by digest, where they are another team's that has not granted it."""


class GroupWriter:
    """Writes groups, one after the other, and remembers between them what is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._catalog = CatalogMemory()
        self._lineage = LineageMemory()
        self._repeats = Repeats()
        self._claims = Claims()
        self._state = (0, 0)
        """How many merges of datasets and changes of claims there were."""

    def apart(self) -> GroupWriter:
        """Return a writer on the same database that another thread may use."""
        return GroupWriter(self._database)

    def write(
        self,
        submissions: Sequence[Submission],
        refused: Sequence[RefusedEvent] = (),
        then: Callable[[Writing], None] = lambda writing: None,
    ) -> Outcome:
        """Write a group; when it returns, all of it is durable and to be seen. Raises what the database does.

        ``then`` does what belongs into the same transaction. That something was said again, and how lately, is written
        within seconds (:data:`~aiflow_service.ingest.repeats.LATER_SECONDS`), or by :meth:`settle`.
        """

        def write_all(writing: Writing) -> tuple[Outcome, Sequence[Sent]]:
            written = self._write(writing, submissions, refused)
            then(writing)
            return written

        return self._transact(write_all)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left for :meth:`settle`."""
        return not self._repeats.is_waiting

    def settle(self) -> None:
        """Write what was left for later. Raises what the database does."""
        self._transact(lambda writing: (None, self._write_later(writing, self._repeats.later)))

    def _transact(self, write: Callable[[Writing], tuple[_T, Sequence[Sent]]]) -> _T:
        try:
            with self._database.writing() as writing:
                self._refresh(writing)
                outcome, later = write(writing)
                state = _state(writing)
        except BaseException:  # whatever ended it, what was learnt in it may not be so; it goes on up
            for memory in self._memories():
                memory.drop()
            self._repeats.drop()
            raise
        for memory in self._memories():
            memory.keep()
        self._repeats.keep(later)
        if state != self._state:
            self._forget(state)
        return outcome

    def _refresh(self, writing: Writing) -> None:
        if (state := _state(writing)) != self._state:
            self._forget(state)
        self._claims.refresh(writing)

    def _write(
        self, writing: Writing, submissions: Sequence[Submission], refused: Sequence[RefusedEvent]
    ) -> tuple[Outcome, Sequence[Sent]]:
        sort_by_claims(self._claims, submissions)
        new = _first_of_each(submissions)
        stored = known_digests(writing, ((day_of(one.event.time), digest) for digest, one in new.items()))
        for digest in stored:
            del new[digest]
        numbers = {digest: writing.number("events") for digest in new}
        ended, later, ungranted = self._derive(writing, new, numbers) if new else ([], [], {})
        kept = write_refusals(writing, refused)
        outcome = Outcome(numbers, kept, ended, writing.last_number("events"), ungranted)
        return outcome, later

    def _derive(
        self, writing: Writing, new: dict[bytes, Submission], numbers: dict[bytes, int]
    ) -> tuple[list[tuple[str, RunFold]], Sequence[Sent], dict[bytes, list[Name]]]:
        names = Names(writing, self._catalog, self._claims)
        told = list(new.values())
        names.prepare_jobs((one.team_id, name) for one in told for name in _jobs_of(one.event))
        fresh = self._repeats.sort(told)
        later = self._repeats.take_later(fresh)
        ungranted = self._describe(writing, names, fresh, later) if fresh or later else {}
        bodies = compress_all([one.event.raw for one in told])
        rows = [
            self._row(names, numbers[digest], digest, one, body)
            for (digest, one), body in zip(new.items(), bodies, strict=True)
        ]
        changes = merge_runs(writing, list(_run_parts(new, numbers)), names.job, names.project)
        with writing.ahead():
            write_events(writing, rows)
            changes.write(writing)
        write_makings(writing, list(making_parts(told)), names.job, changes.taken_over)
        return changes.ended, later, ungranted

    def _write_later(self, writing: Writing, later: Sequence[Sent]) -> Sequence[Sent]:
        names = Names(writing, self._catalog, self._claims)
        names.prepare_jobs((one.team_id, one.event.job) for one in later if one.event.job)
        self._describe(writing, names, (), later)
        return later

    def _describe(
        self, writing: Writing, names: Names, fresh: Sequence[Sent], later: Sequence[Sent]
    ) -> dict[bytes, list[Name]]:
        """Write what events say of jobs and datasets: all that is new, and the times of what was said again.

        Return, by digest, what they write and may not: that they do is noted, and nothing else that they say of it.
        """
        for team_id, outputs in _written(fresh, with_symlinks=True):
            names.own_datasets(team_id, outputs)
        told = [(one, mention, one.event.time) for one in fresh for mention in one.event.datasets]
        join_symlinks(writing, names, Rights(writing, names).may_describe, ((one, mention) for one, mention, _ in told))
        for team_id, outputs in _written(fresh, with_symlinks=False):
            names.own_datasets(team_id, outputs)
            names.prepare_datasets(team_id, outputs, is_written=True)
        again = list(newest_mentions(later))
        for team_id in sorted({one.team_id for one in (*fresh, *later)}):
            new = (name for one in fresh if one.team_id == team_id for name in _datasets_of(one.event))
            known = (mention.name for one, mention, _ in again if one.team_id == team_id)
            names.prepare_datasets(team_id, {*new, *known})
        rights = Rights(writing, names)
        places = list(_places(names, fresh))
        self._write_facts(writing, names, rights, [*told, *again], [*fresh, *later])
        write_edges(
            writing,
            self._lineage,
            (((job, int(mention.is_output), number), time) for job, number, mention, time in places if job is not None),
        )
        names.prepare_columns(
            pair
            for _, number, mention, _ in places
            for source in mention.sources
            for pair in ((number, source.target), (names.dataset(source.dataset), source.field))
        )
        write_column_edges(writing, self._lineage, _column_edges(names, places))
        for one in fresh:
            # What a grant allows may be forbidden the next time, so that it is looked at each time.
            if one.speaks_for_all or all(
                names.owner(names.dataset(mention.name)) == one.team_id for mention in one.event.datasets
            ):
                self._repeats.learn(one)
        return _ungranted(names, rights, fresh)

    def _write_facts(
        self,
        writing: Writing,
        names: Names,
        rights: Rights,
        told: Sequence[tuple[Sent, DatasetMention, int]],
        sent: Sequence[Sent],
    ) -> None:
        places = [
            (number, mention, time)
            for one, mention, time in told
            if rights.may_describe(one, number := names.dataset(mention.name))
        ]
        schemas = ((number, time, mention.schema) for number, mention, time in places if mention.schema)
        write_schemas(writing, names, self._catalog, schemas)
        of_jobs = (
            (names.job(one.team_id, one.event.job), one.event.time, one.event.job_facets)
            for one in sent
            if one.event.job and one.event.job_facets
        )
        write_facts(writing, self._catalog, jobs, JOB_FACETS, of_jobs)
        of_datasets = ((number, time, mention.facets) for number, mention, time in places if mention.facets)
        write_facts(writing, self._catalog, datasets, DATASET_FACETS, of_datasets)

    @staticmethod
    def _row(names: Names, number: int, digest: bytes, one: Submission, body: bytes) -> EventRow:
        event = one.event
        return EventRow(
            id=number,
            event_day=day_of(event.time),
            digest=digest,
            team_id=one.team_id,
            kind=event.kind.value,
            event_type=event.event_type,
            event_time=event.time,
            received_at=one.received_at,
            run_uid=event.run_id,
            job_id=names.job(one.team_id, event.job) if event.job else None,
            dataset_id=names.dataset(event.datasets[0].name) if event.kind is EventKind.DATASET else None,
            size=len(event.raw),
            body=body,
        )

    def _memories(self) -> Iterable[Any]:
        return (*self._catalog.all(), *self._lineage.all())

    def _forget(self, state: tuple[int, int]) -> None:
        """Forget ids: two datasets have become one, or another team's, here or at another replica."""
        for memory in self._memories():
            memory.forget()
        self._repeats.forget()
        self._state = state


def _state(writing: Writing) -> tuple[int, int]:
    return writing.last_number("dataset_merges"), writing.last_number("claim_changes")


def _first_of_each(submissions: Sequence[Submission]) -> dict[bytes, Submission]:
    found: dict[bytes, Submission] = {}
    for one in submissions:
        found.setdefault(one.event.digest, one)
    return found


def _jobs_of(event: Event) -> Iterable[Name]:
    if event.job:
        yield event.job
    for mention in (event.parent, event.root):
        if mention:
            yield mention.job


def _datasets_of(event: Event) -> Iterable[Name]:
    for mention in event.datasets:
        yield mention.name
        for source in mention.sources:
            yield source.dataset


def _written(told: Sequence[Sent], *, with_symlinks: bool) -> list[tuple[int, set[Name]]]:
    """Return by team the names under which it writes datasets."""
    found: dict[int, set[Name]] = {}
    for one in told:
        for mention in one.event.datasets:
            if mention.is_output:
                found.setdefault(one.team_id, set()).update(
                    (mention.name, *(mention.symlinks if with_symlinks else ()))
                )
    return sorted(found.items())


def _ungranted(names: Names, rights: Rights, told: Sequence[Sent]) -> dict[bytes, list[Name]]:
    found: dict[bytes, list[Name]] = {}
    for one in told:
        for mention in one.event.datasets:
            if mention.is_output and not rights.may_describe(one, names.dataset(mention.name)):
                found.setdefault(one.event.digest, []).append(mention.name)
    return found


def _places(names: Names, told: Sequence[Sent]) -> Iterable[Place]:
    for one in told:
        event = one.event
        job = job_of_edges(event)
        job_id = names.job(one.team_id, job) if job else None
        for mention in event.datasets:
            yield job_id, names.dataset(mention.name), mention, event.time


def _column_edges(names: Names, places: Sequence[Place]) -> Iterable[tuple[ColumnEdge, int, str]]:
    for job_id, number, mention, time in places:
        for source in mention.sources if job_id is not None else ():
            made_from = names.column(names.dataset(source.dataset), source.field)
            yield (names.column(number, source.target), made_from, job_id), time, source.kind  # type: ignore[misc]  # columns are prepared


def _run_parts(new: dict[bytes, Submission], numbers: dict[bytes, int]) -> Iterable[RunPart]:
    for digest, one in new.items():
        event = one.event
        if event.run_id is None:
            continue
        parent, root = event.parent, event.root
        folds = [(event.run_id, RunFold.of_event(event))]
        if parent and parent.run_id != event.run_id:
            folds.append((parent.run_id, RunFold.of_part(event, parent, root.run_id if root else None)))
        if root and root.run_id not in (event.run_id, parent.run_id if parent else None):
            folds.append((root.run_id, RunFold.of_part(event, root)))
        for uid, fold in folds:
            yield RunPart(uid, one.team_id, fold, numbers[digest], one.speaks_for_all, one.environment)
