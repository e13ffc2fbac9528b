"""Writes what facets say of jobs and datasets: owners, tags, kind, description and the like."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
import sqlalchemy as sa

from aiflow_service.catalog.memory import CatalogMemory
from aiflow_service.database.bulk import select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.openlineage.events import Facets

JOB_FACETS = frozenset({"jobType", "ownership", "tags", "documentation", "sql", "sourceCodeLocation", "sourceCode"})
DATASET_FACETS = frozenset({"ownership", "tags", "documentation", "dataSource", "storage", "datasetType", "catalog"})

_MAX_BYTES = 16_384
_ENCODER = msgspec.json.Encoder(order="deterministic")

Facts = dict[str, tuple[int, str, Any]]
"""By facet: the time it is of, its digest, and it."""


def write_facts(
    writing: Writing,
    memory: CatalogMemory,
    table: sa.Table,
    wanted: frozenset[str],
    said: Iterable[tuple[int, int, Facets]],
) -> None:
    """Store facets of jobs or datasets, each given with the row's id and the time; the newest of each facet stays."""
    newest: dict[int, Facts] = {}
    for number, time, facets in said:
        for name in facets.keys() & wanted:
            text = _ENCODER.encode(facets[name])
            digest = sha256(text).hexdigest()[:16]
            known = memory.facts.get((table.name, number, name))
            if known is not None and (time, digest) <= known:
                continue
            facts = newest.setdefault(number, {})
            if len(text) <= _MAX_BYTES and (name not in facts or facts[name][:2] < (time, digest)):
                facts[name] = (time, digest, facets[name])
    statement = _stored_of(table)
    changed = []
    for number, stored in sorted(map(tuple, select_in(writing.connection, statement, table.c.id, newest))):
        facts = facts_of(stored)
        for name, fact in newest[number].items():
            if name not in facts or tuple(facts[name][:2]) < fact[:2]:
                facts[name] = fact
            memory.facts.learn((table.name, number, name), tuple(facts[name][:2]))  # type: ignore[arg-type]  # a pair
        changed.append((number, _ENCODER.encode(facts)))
    update_rows(writing, table, ("id", "facts"), changed)


@cache
def _stored_of(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table.c.id, table.c.facts)


def facts_of(stored: bytes) -> Facts:
    """Return the facts of a row."""
    return msgspec.json.decode(stored) if stored else {}


def facets_of(stored: bytes) -> dict[str, Any]:
    """Return the facets of a row without their times, and without what only a machine wants to know of them."""
    found = {}
    for name, (_, _, value) in sorted(facts_of(stored).items()):
        if not value.get("_deleted"):
            found[name] = {key: one for key, one in value.items() if not key.startswith("_")}
    return found
