"""What an attempt used, read off its fold: final facts, so that late and repeated events change and never add."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from aiflow_service.database.bulk import Change, insert_rows, upsert_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import billed_units, usage
from aiflow_service.runs.fold import RunFold

NAMES = (
    "run_id",
    "team_id",
    "project",
    "pipeline",
    "environment",
    "task_id",
    "nodes",
    "ended_at",
    "seconds",
    "cpu_seconds",
    "memory_gib_seconds",
)
_GIB = 2**30
_MAX_TEXT = 500
_MOST = 1e15
_MOST_UNITS = 50
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


def usage_row(fold: RunFold, number: int, team_id: int, pipeline: str, task_id: str) -> tuple[Any, ...]:
    """Return the row of an attempt; one that runs (again) has used nothing yet."""
    facts = fold.facet("aiflow_run")
    who = (number, team_id, _text(facts.get("project")), pipeline, _text(facts.get("environment")), task_id)
    ended = fold.ended_at
    if ended is None:
        return (*who, "", fold.started_at, 0.0, 0.0, 0.0)
    told = fold.facet_at_end("aiflow_usage")
    cpu, memory = _figure(told, "cpu_seconds"), _figure(told, "memory_byte_seconds")
    if billed_of(fold):  # what is billed is not estimated once more from how long it took
        cpu, memory = cpu or 0.0, memory or 0.0
    if (server := told.get("server")) is not None:  # it computed for the attempt: without its figures the sum is none
        more = server if isinstance(server, dict) else {}
        cpu, memory = _sum(cpu, _figure(more, "cpu_seconds")), _sum(memory, _figure(more, "memory_byte_seconds"))
    seconds = _figure(told, "seconds")
    nodes = fold.facet_at_end("aiflow_nodes").get("nodes")
    names = [str(one.get("node_id")) for one in nodes if isinstance(one, dict)] if isinstance(nodes, list) else []
    return (
        *who,
        _text(",".join(names)) or "",
        ended,
        seconds if seconds is not None else fold.seconds or 0.0,
        cpu,
        None if memory is None else memory / _GIB,
    )


def billed_of(fold: RunFold) -> list[tuple[str, str, float, int]]:
    """Return what clusters billed for an attempt that has ended: kind of cluster, unit, amount, whether estimated.

    What is told twice of one unit counts once, the later.
    """
    told = fold.facet_at_end("aiflow_usage").get("billed")
    found: dict[tuple[str, str], tuple[str, str, float, int]] = {}
    for one in told[:_MOST_UNITS] if isinstance(told, list) else ():
        cluster, unit = (one.get("cluster"), one.get("unit")) if isinstance(one, dict) else (None, None)
        amount = _figure(one, "amount") if isinstance(one, dict) else None
        if isinstance(cluster, str) and isinstance(unit, str) and amount is not None and _are_words(cluster, unit):
            found[cluster, unit] = (cluster, unit, amount, int(one.get("estimated") is True))
    return list(found.values())


def write_billed(writing: Writing, runs: Mapping[int, RunFold], stored: Collection[int]) -> None:
    """Store what was billed for attempts, in place of what was stored of those that were known before."""
    if stored:
        writing.connection.execute(sa.delete(billed_units).where(billed_units.c.run_id.in_(sorted(stored))))
    rows = [(number, *one) for number, fold in runs.items() for one in billed_of(fold)]
    insert_rows(writing, billed_units, ("run_id", "cluster", "unit", "amount", "estimated"), rows)


def write_usage(writing: Writing, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store what attempts used, in place of what was stored of them."""
    changes: dict[str, Change] = dict.fromkeys(NAMES[1:], "new")
    upsert_rows(writing, usage, NAMES, rows, changes)


def _figure(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < _MOST else None


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _text(value: Any) -> str | None:
    return value[:_MAX_TEXT].replace("\0", "�") if isinstance(value, str) and value else None


def _are_words(*texts: str) -> bool:
    return all(_WORD.fullmatch(one) for one in texts)
