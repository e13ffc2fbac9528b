"""Adds what events say to the runs that are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from aiflow_service.database.bulk import insert_rows, select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import runs
from aiflow_service.runs.fold import RunFold
from aiflow_service.runs.usage import usage_row, write_usage

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


class RunPart(Struct):
    """What a group of events says of one run; ``changed`` is the number of the last of them.

    Unless the sender ``speaks_for_all``, what it says of another team's run changes nothing.
    """

    uid: str
    team_id: int
    fold: RunFold
    changed: int
    speaks_for_all: bool = True


def write_runs(
    writing: Writing,
    parts: Sequence[RunPart],
    job_id: Callable[[int, tuple[str, str]], int],
    project_id: Callable[[int, str], int],
) -> list[tuple[str, RunFold]]:
    """Store what is said of runs; returns those that have ended by it, as their project and pipeline with the fold.

    ``job_id`` and ``project_id`` say, by team, which ones names stand for.
    """
    stored = sa.select(runs.c.uid, runs.c.id, runs.c.team_id, runs.c.state, runs.c.fold)
    there = {row.uid: row for row in select_in(writing.connection, stored, runs.c.uid, {one.uid for one in parts})}
    together: dict[str, RunPart] = {}
    for part in parts:
        known, row = together.get(part.uid), there.get(part.uid)
        owner = row.team_id if row is not None else known.team_id if known is not None else part.team_id
        if not part.speaks_for_all and owner != part.team_id:
            continue
        if known is None:
            together[part.uid] = part
        else:
            known.fold = known.fold.merge(part.fold)
            known.changed = max(known.changed, part.changed)
    new, changed, ended, used = [], [], [], []
    for uid, part in sorted(together.items()):
        row = there.get(uid)
        if row is None:
            fold, team_id = part.fold, part.team_id
        else:
            before = RunFold.from_bytes(row.fold)
            fold, team_id = before.merge(part.fold), row.team_id
            if fold == before:
                continue
        values = _values(fold, team_id, part.changed, job_id, project_id)
        number = writing.number("runs") if row is None else row.id
        if row is None:
            new.append((number, uid, *values))
        else:
            changed.append((number, *values))
        if (task_id := values[_NAMES.index("task_id")]) and (row is not None or fold.state != "running"):
            used.append(usage_row(fold, number, team_id, values[_NAMES.index("pipeline")], task_id))
        if fold.state != "running" and (row is None or row.state == "running"):
            ended.append((values[4], fold))
    insert_rows(writing, runs, ("id", "uid", *_NAMES), new)
    update_rows(writing, runs, ("id", *_NAMES), changed)
    write_usage(writing, used)
    return ended


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
