"""Adds what events say to the runs that are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from msgspec import Struct

from aiflow_service.database.bulk import insert_rows, read_rows, select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import DEFAULT_TEAM_ID, runs
from aiflow_service.runs.fold import RunFold
from aiflow_service.runs.usage import usage_row, write_billed, write_usage

_NAMES = (
    "team_id",
    "job_id",
    "project_id",
    "parent_uid",
    "pipeline",
    "environment",
    "task_id",
    "partition",
    "cause",
    "version",
    "execution",
    "attempt",
    "state",
    "started_at",
    "ended_at",
    "error_code",
    "trace_id",
    "changed",
    "fold",
)
_MAX_TEXT = 500
_STORED = sa.select(runs.c.uid, runs.c.id, runs.c.team_id, runs.c.state, runs.c.fold)
_EACH_STORED = """
SELECT found.uid, found.id, found.team_id, found.state, found.fold FROM unnest(%(uids)s::text[]) AS given(uid)
CROSS JOIN LATERAL (SELECT uid, id, team_id, state, fold FROM runs WHERE uid = given.uid OFFSET 0) AS found
"""
"""For PostgreSQL: a plan for ``= ANY`` that was made while there were few runs, and is kept, reads all of them."""


class RunPart(Struct):
    """What a group of events says of one run; ``changed`` is the number of the last of them.

    The run is that of the events' team, whatever other teams have told under the same id.
    """

    uid: str
    team_id: int
    fold: RunFold
    changed: int
    speaks_for_all: bool = True
    """Whether claims, and not the sender, say whose the events are."""
    environment: str | None = None
    """The only one of which its sender may say anything."""


class Stored(NamedTuple):
    """A run that is stored."""

    id: int
    team_id: int
    state: str
    fold: RunFold


Place: TypeAlias = tuple[int, str]
"""A team, and a run's id in it."""


class RunChanges(Struct):
    """What a group of events changes of runs."""

    ended: list[tuple[str, RunFold]]
    """Those of whole pipelines and of others' jobs that have ended by it, with the pipeline or job."""
    taken_over: dict[str, tuple[int, int]]
    """By id those of the default team that became another's: its team and its job there."""
    new: list[tuple[Any, ...]]
    changed: list[tuple[Any, ...]]
    used: list[tuple[Any, ...]]
    billed: dict[int, RunFold]
    billed_before: list[int]

    def write(self, writing: Writing) -> None:
        """Store it; nothing is asked for."""
        update_rows(writing, runs, ("id", *_NAMES), self.changed)  # first: a row that is taken over leaves its place
        insert_rows(writing, runs, ("id", "uid", *_NAMES), self.new)
        write_usage(writing, self.used)
        write_billed(writing, self.billed, self.billed_before)


def merge_runs(
    writing: Writing,
    parts: Sequence[RunPart],
    job_id: Callable[[int, tuple[str, str]], int],
    project_id: Callable[[int, str], int],
) -> RunChanges:
    """Put what is said of runs together with what is stored, and return what that changes.

    ``job_id`` and ``project_id`` say, by team, which ones names stand for. A run belongs to the team whose events
    tell of it or of a part of it, so that of two teams with one id each has its own.
    """
    there = {
        (team_id, uid): Stored(number, team_id, state, RunFold.from_bytes(fold))
        for uid, number, team_id, state, fold in _stored(writing, sorted({one.uid for one in parts}))
    }
    taken = _take_over(parts, there)
    jobs: dict[Place, int] = {}
    changes = RunChanges([], {}, [], [], [], {}, [])
    for (team_id, uid), part in sorted(_together(parts, there).items()):
        row, fold = there.get((team_id, uid)) or taken.get((team_id, uid)), part.fold
        if row is not None and row.team_id == team_id:
            fold = row.fold.merge(part.fold)
            if fold == row.fold:
                continue
        values = _values(fold, team_id, part.changed, job_id, project_id)
        jobs[team_id, uid] = values[_NAMES.index("job_id")]
        number = writing.number("runs") if row is None else row.id
        if row is None:
            changes.new.append((number, uid, *values))
        else:
            changes.changed.append((number, *values))
        if (task_id := values[_NAMES.index("task_id")]) and (row is not None or fold.state != "running"):
            pipeline = values[_NAMES.index("pipeline")]
            changes.used.append(usage_row(fold, number, team_id, pipeline, task_id))
            changes.billed[number] = fold
            if row is not None:
                changes.billed_before.append(number)
        if not task_id and fold.state != "running" and (row is None or row.state == "running"):
            changes.ended.append((values[4], fold))
    changes.taken_over.update((uid, (team_id, jobs[team_id, uid])) for team_id, uid in taken)
    return changes


def _stored(writing: Writing, uids: list[str]) -> Sequence[Any]:
    if writing.is_postgres:
        return read_rows(writing.connection, _EACH_STORED, {"uids": uids})
    return select_in(writing.connection, _STORED, runs.c.uid, uids)


def _take_over(parts: Sequence[RunPart], there: dict[Place, Stored]) -> dict[Place, Stored]:
    """Take out of what is there the rows that become another team's, and return them by their new places.

    A run that nobody claims and of which parts alone have told becomes the claiming team's once who speaks for all
    tells of it; the lesser id counts where two do so at once. It stays where the default team tells of it itself.
    """
    claiming: dict[str, set[int]] = {}
    for part in parts:
        row = there.get((DEFAULT_TEAM_ID, part.uid))
        counts = part.fold.is_own and (part.speaks_for_all or part.team_id == DEFAULT_TEAM_ID)
        if counts and row is not None and not row.fold.is_own:
            claiming.setdefault(part.uid, set()).add(part.team_id)
    taken: dict[Place, Stored] = {}
    for uid, teams in claiming.items():
        free = [team_id for team_id in sorted(teams) if (team_id, uid) not in there]
        if DEFAULT_TEAM_ID not in teams and free:
            taken[free[0], uid] = there.pop((DEFAULT_TEAM_ID, uid))
    return taken


def _together(parts: Sequence[RunPart], there: Mapping[Place, Stored]) -> dict[Place, RunPart]:
    """Return, by run, what those say together who may say anything of it."""
    together: dict[Place, RunPart] = {}
    told = {uid for (_, uid), row in there.items() if row.fold.is_own}
    for part in sorted(parts, key=lambda one: not one.fold.is_own):
        place = part.team_id, part.uid
        row, known = there.get(place), together.get(place)
        if part.fold.is_own:
            told.add(part.uid)
        elif part.speaks_for_all and row is None and known is None and part.uid in told:
            continue  # claims say that the whole is another team's than its part
        environment = known.fold.environment if known else None
        if row is not None:
            environment = row.fold.environment or environment
        if part.environment is not None and environment not in (None, part.environment):
            continue
        if known is None:
            together[place] = part
        else:
            known.fold = known.fold.merge(part.fold)
            known.changed = max(known.changed, part.changed)
    return together


def _values(
    fold: RunFold,
    team_id: int,
    changed: int,
    job_id: Callable[[int, tuple[str, str]], int],
    project_id: Callable[[int, str], int],
) -> tuple[Any, ...]:
    facts: Mapping[str, Any] = fold.facet("aiflow_run")
    assert fold.job is not None
    namespace, name = fold.job[1]
    project = _text(facts.get("project"))
    return (
        team_id,
        job_id(team_id, (namespace, name)),
        project_id(team_id, project) if project else None,
        fold.parent[1] if fold.parent else None,
        _text(facts.get("pipeline_id")) or name,
        _text(facts.get("environment")),
        _text(facts.get("task_id")),
        _text(facts.get("partition")),
        _text(facts.get("cause")),
        _text(facts.get("version")),
        _whole(facts.get("execution")),
        _whole(facts.get("attempt")),
        fold.state,
        fold.started_at,
        fold.ended_at,
        _text(fold.facet_at_end("aiflow_error").get("code")),
        _text(facts.get("trace_id")),
        changed,
        fold.to_bytes(),
    )


def _text(value: Any) -> str | None:
    return value[:_MAX_TEXT].replace("\0", "�") if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
