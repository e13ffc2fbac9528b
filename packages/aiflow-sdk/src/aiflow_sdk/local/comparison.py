"""How the tables of two environments differ, as their logs tell it; no row is read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from aiflow_sdk.config import Environment
from aiflow_sdk.local.environments import catalog
from aiflow_sdk.plugins import TableFacts

_AT_ONCE = 8


@dataclass(frozen=True)
class TableDifference:
    """One table that one of two environments has, or both."""

    table: str
    place: Literal["here", "there", "both", "through"]
    """``through``: only there, and here it is read there."""
    here: TableFacts | None
    there: TableFacts | None
    added: Mapping[str, str] = field(default_factory=dict)
    """Column that only here has → its type."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Column that only there has → its type."""
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Column of two types → that of there, that of here."""
    partitions: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Partition (``column=value/…``) whose rows or bytes differ → rows there and here; None: absent, or not known."""

    @property
    def is_alike(self) -> bool:
        """Whether readers in both find the same columns, and as many rows and bytes in each partition."""
        differs = self.added or self.removed or self.changed or self.partitions
        return self.place == "through" or (self.place == "both" and not differs)

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON-ready data."""
        return {
            **asdict(self),
            "here": _shown(self.here),
            "there": _shown(self.there),
            "alike": self.is_alike,
        }


def compare_environments(here: Environment, there: Environment) -> list[TableDifference]:
    """Return every table that the lake of one of them has, sorted. Raises ``StoreError``, ``DataError``."""
    known = catalog()
    mine, theirs = set(known.tables(here)), set(known.tables(there))
    through = theirs - mine if here.reads and here.reads[0].environment == there.name else set()

    def compare(table: str) -> TableDifference:
        found = _difference(
            table,
            known.table_facts(here, table) if table in mine else None,
            known.table_facts(there, table) if table in theirs else None,
        )
        return replace(found, place="through") if table in through else found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(compare, sorted(mine | theirs)))


def _difference(table: str, here: TableFacts | None, there: TableFacts | None) -> TableDifference:
    if here is None or there is None:
        return TableDifference(table, "there" if here is None else "here", here, there)
    mine, theirs = dict(here.columns), dict(there.columns)
    return TableDifference(
        table,
        "both",
        here,
        there,
        added={name: kind for name, kind in mine.items() if name not in theirs},
        removed={name: kind for name, kind in theirs.items() if name not in mine},
        changed={name: (theirs[name], kind) for name, kind in mine.items() if theirs.get(name, kind) != kind},
        partitions={
            one: (there.partitions.get(one, (None, 0))[0], here.partitions.get(one, (None, 0))[0])
            for one in sorted({*here.partitions, *there.partitions})
            if here.partitions.get(one) != there.partitions.get(one)
        },
    )


def _shown(facts: TableFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "version": facts.version,
        "rows": facts.rows,
        "bytes": facts.bytes,
        "columns": dict(facts.columns),
        "partitions": len(facts.partitions),
    }
