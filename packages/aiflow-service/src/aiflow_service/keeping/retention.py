"""For how long things are kept: the settings, and the thread that makes months ahead and lets go what is too old."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from aiflow_sdk.errors import did_you_mean
from aiflow_service.audit import Caller, Entry, record
from aiflow_service.audit.entries import SERVICE, Result
from aiflow_service.database import MICROSECONDS, Database, Writing
from aiflow_service.database.partitions import REST, are_partitioned, day_text, drop_months, make_months_ahead, today
from aiflow_service.database.tables import events, refusals, runs, teams, usage

_LOG = logging.getLogger("aiflow_service.keeping")
_DAY = 24 * 3600 * MICROSECONDS
_LOOK_SECONDS = 3600.0
_BATCH = 1_000
"""Rows of a transaction: who sends events meanwhile waits for it."""
_PAUSE_SECONDS = 0.05
_REST = sa.table(
    REST, sa.column("id", sa.BigInteger), sa.column("event_day", sa.Integer), sa.column("team_id", sa.BigInteger)
)


class TeamRetention(BaseModel):
    """For how many days a team's things are kept; None: for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)  # else `true` would be one day

    events_days: int | None = Field(None, ge=1, le=100_000)
    """Events as they came, by their own time, and what was refused."""
    runs_days: int | None = Field(None, ge=1, le=100_000)
    """Runs that ended, by their end, with what they used."""


class Retention(TeamRetention):
    """The same for all teams, and what is otherwise for some, by their names."""

    teams: dict[str, TeamRetention] = Field(default_factory=dict)

    def of_team(self, name: str) -> TeamRetention:
        """Return what holds for a team: what it says of its own, else what is said for all."""
        own = self.teams.get(name, TeamRetention())
        return TeamRetention(**{**self.model_dump(exclude={"teams"}), **own.model_dump(exclude_unset=True)})


FOR_EVER = Retention()
"""Nothing is removed."""


@dataclass(frozen=True)
class _Rule:
    """What holds for some teams: one, or all that have none of their own."""

    team_ids: tuple[int, ...]
    is_rest: bool
    """Whether it holds for all but those ids."""
    kept: TeamRetention
    name: str

    def mine(self, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Return the condition that a row is of these teams."""
        return column.not_in(self.team_ids) if self.is_rest else column.in_(self.team_ids)


class UnknownTeam(Exception):  # noqa: N818 it is a finding as much as an error
    """Settings say for how long a team's things are kept, and there is no such team."""


class RetentionKeeper:
    """Owns one thread; any number of replicas have one each, and who comes second finds it done."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention
        self._ending = threading.Event()
        self._failing: set[str] = set()
        self._attempt("make months", self._make_months)  # before the first event
        self._thread = threading.Thread(target=self._run, name="retention-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, in the middle of what is done if need be: it goes on the next time."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._attempt("make months", self._make_months)
            self._attempt("let go", self._let_go)
            self._ending.wait(_LOOK_SECONDS)

    @property
    def is_sound(self) -> bool:
        """Whether all that was to be made and let go was, when it was tried last."""
        return not self._failing

    def _attempt(self, step: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (SQLAlchemyError, UnknownTeam) as error:  # what is in no month lies in the rest, what is old goes later
            why = str(error).splitlines()[0]
            _LOG.warning("retention could not %s and waits for its next time: %s", step, why)
            if step not in self._failing:  # once, until it goes well again
                self._failing.add(step)
                self._tell(step, why)
        else:
            self._failing.discard(step)

    def _tell(self, step: str, why: str) -> None:
        try:
            with self._database.writing() as writing:
                _note(writing, "retention.failed", "*", {"step": step, "why": why}, "failed")
        except SQLAlchemyError:
            _LOG.exception("a failure of retention could not be recorded")

    def _let_go(self) -> None:
        if self._retention != FOR_EVER:
            let_go(self._database, self._retention, self._ending)

    def _make_months(self) -> None:
        if self._database.is_postgres:
            with self._database.writing() as writing:
                make_months_ahead(writing.connection)


def let_go(database: Database, retention: Retention, ending: threading.Event | None = None) -> None:
    """Remove what is older than it is to be kept, a little at a time, until ``ending``. The audit says that it was.

    Lineage, the catalog, versions, the ledger and the audit itself stay. Raises what the database does; what keeps a
    month from being dropped, once all else is done. Raises :class:`UnknownTeam`, and removes nothing, where a team's
    name is wrong: what that one wants to keep longer than others would go with theirs.
    """
    ending = ending or threading.Event()
    rules = list(_rules(database, retention))
    longest = _longest(rules)
    with database.reading() as connection:
        in_months = are_partitioned(connection)
    failed: SQLAlchemyError | None = None
    if in_months and longest is not None:
        try:
            _drop(database, today() - longest)
        except SQLAlchemyError as error:
            failed = error
    for rule in rules:
        if rule.kept.events_days is not None:
            # Of those who keep them longest, months go whole, once all of a month is too old.
            source = _REST if in_months and rule.kept.events_days == longest else events
            before = today() - rule.kept.events_days
            _repeat(database, rule, ending, "events.removed", before, source, source.c.event_day < before)
            _repeat(database, rule, ending, "refusals.removed", before, refusals, refusals.c.last_at < before * _DAY)
        if rule.kept.runs_days is not None:
            _let_runs_go(database, rule, ending, today() - rule.kept.runs_days)
    if failed is not None:
        raise failed


def _drop(database: Database, before: int) -> None:
    with database.writing() as writing:
        if months := drop_months(writing.connection, before):
            _note(writing, "events.dropped", "*", {"months": [f"{month:%Y-%m}" for month in months]})


def _rules(database: Database, retention: Retention) -> Iterator[_Rule]:
    with database.reading() as connection:
        ids = {row.name: row.id for row in connection.execute(sa.select(teams.c.name, teams.c.id))}
    if unknown := next((name for name in retention.teams if name not in ids), None):
        near = did_you_mean(unknown, ids)
        raise UnknownTeam(f"there is no team '{unknown}'" + (f": {near}" if near else ""))
    for name in retention.teams:
        yield _Rule((ids[name],), False, retention.of_team(name), name)
    yield _Rule(tuple(sorted(ids[name] for name in retention.teams)), True, retention, "*")


def _longest(rules: list[_Rule]) -> int | None:
    """Return for how many days events are kept for whoever keeps them longest."""
    kept = [rule.kept.events_days for rule in rules]
    known = [days for days in kept if days is not None]
    return max(known) if len(known) == len(kept) else None


def _let_runs_go(database: Database, rule: _Rule, ending: threading.Event, before: int) -> None:
    after = -1
    is_noted = False
    while not ending.is_set():
        with database.writing() as writing:
            run = writing.connection.execute
            old = (runs.c.id > after) & (runs.c.ended_at < before * _DAY) & rule.mine(runs.c.team_id)
            ids = list(run(sa.select(runs.c.id).where(old).order_by(runs.c.id).limit(_BATCH)).scalars())
            if not ids:
                return
            run(usage.delete().where(usage.c.run_id.in_(ids)))
            run(runs.delete().where(runs.c.id.in_(ids)))
            if not is_noted:
                _note(writing, "runs.removed", rule.name, {"before": day_text(before)})
            after, is_noted = ids[-1], True
        ending.wait(_PAUSE_SECONDS)


def _repeat(
    database: Database,
    rule: _Rule,
    ending: threading.Event,
    action: str,
    before: int,
    table: sa.TableClause,
    is_old: sa.ColumnElement[bool],
) -> None:
    old = sa.select(table.c.id).where(is_old, rule.mine(table.c.team_id)).limit(_BATCH)
    removal = sa.delete(table).where(table.c.id.in_(old), is_old)
    is_noted = False
    while not ending.is_set():
        with database.writing() as writing:
            count = writing.connection.execute(removal).rowcount
            if count and not is_noted:
                _note(writing, action, rule.name, {"before": day_text(before)})
                is_noted = True
        if count < _BATCH:
            return
        ending.wait(_PAUSE_SECONDS)


def _note(writing: Writing, action: str, team: str, details: dict[str, object], result: Result = "done") -> None:
    record(writing, Entry(Caller(SERVICE), action, "retention", team, result=result, details=details))
