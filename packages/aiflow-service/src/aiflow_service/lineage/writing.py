"""Adds edges. When an edge was seen is kept to five minutes, and is written once in as many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from aiflow_service.database.bulk import upsert_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.memory import Memory
from aiflow_service.database.moments import MICROSECONDS
from aiflow_service.database.tables import column_edges, edges

GRAIN = 300 * MICROSECONDS
"""Times are rounded down to it: the least and the greatest of them do not depend on the order of arrival."""


Edge: TypeAlias = tuple[int, int, int]
"""Job, 0 where it reads or 1 where it writes, dataset: their ids."""

ColumnEdge: TypeAlias = tuple[int, int, int]
"""Target column, source column, job: their ids."""


class LineageMemory:
    """The edges that are known to be stored, and between which times."""

    def __init__(self) -> None:
        self.edges: Memory[Edge, tuple[int, int]] = Memory(300_000)
        self.column_edges: Memory[ColumnEdge, tuple[int, int, str]] = Memory(200_000)

    def all(self) -> tuple[Memory, ...]:  # type: ignore[type-arg]  # of keys of several kinds
        """Return each of them."""
        return tuple(vars(self).values())


def write_edges(writing: Writing, memory: LineageMemory, seen: Iterable[tuple[Edge, int]]) -> None:
    """Store edges with the times that they were seen."""
    news: dict[Edge, tuple[int, int]] = {}
    for edge, time in seen:
        time -= time % GRAIN
        first, last = news.get(edge) or memory.edges.get(edge) or (time + 1, time - 1)
        if first <= time <= last:
            continue
        news[edge] = (min(first, time), max(last, time))
    for edge, times in news.items():
        memory.edges.learn(edge, times)
    upsert_rows(
        writing,
        edges,
        ("job_id", "is_write", "dataset_id", "first_seen", "last_seen"),
        [(*edge, *times) for edge, times in sorted(news.items())],
        {"first_seen": "least", "last_seen": "greatest"},
    )


def write_column_edges(writing: Writing, memory: LineageMemory, seen: Iterable[tuple[ColumnEdge, int, str]]) -> None:
    """Store edges between columns with what is done and the times; the greatest kind stays, of those of one column."""
    news: dict[ColumnEdge, tuple[int, int, str]] = {}
    for edge, time, kind in seen:
        time -= time % GRAIN
        first, last, before = news.get(edge) or memory.column_edges.get(edge) or (time + 1, time - 1, "")
        if first <= time <= last and kind <= before:
            continue
        news[edge] = (min(first, time), max(last, time), max(kind, before))
    for edge, known in news.items():
        memory.column_edges.learn(edge, known)
    upsert_rows(
        writing,
        column_edges,
        ("target_id", "source_id", "job_id", "first_seen", "last_seen", "kind"),
        [(*edge, *known) for edge, known in sorted(news.items())],
        {"first_seen": "least", "last_seen": "greatest", "kind": "greatest"},
    )
