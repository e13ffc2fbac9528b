"""Reads a level of a walk: the edges of many nodes at once, and the nodes at their other side.

The statements are texts, made once for each form: a walk has up to a hundred of them, and building them each time would
take longer than the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database import now
from aiflow_service.database.bulk import KeptStatement, given_ids, is_given, read_rows
from aiflow_service.database.tables import columns, datasets, jobs
from aiflow_service.lineage.writing import GRAIN

Kind: TypeAlias = Literal["job", "dataset"]
Side: TypeAlias = Literal["target", "source"]
EdgeRow: TypeAlias = tuple[int, int, int | None, int | None, int | None]
"""The node that was asked for, the one at the other side; first and last seen, or declared since."""
ColumnEdgeRow: TypeAlias = tuple[int, int, int, str, int, int]
"""The column that was asked for, the one at the other side, the job, what it does; first and last seen."""

OTHER: dict[Kind, Kind] = {"job": "dataset", "dataset": "job"}
_FEW = 200
"""Of how many nodes the edges are read at once, to begin with."""
_PAGE = 3_000


class EdgeReader:
    """The edges that were seen by a moment (and since another), and of tables those that were declared at it."""

    def __init__(self, connection: Connection, as_of: int | None, since: int | None) -> None:
        self.at = now() if as_of is None else as_of
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._times = (as_of is not None, since is not None)
        self._values = {"at": self.at, "since": None if since is None else since - since % GRAIN}

    def read(self, kind: Kind, ids: Sequence[int], is_write: int) -> Iterator[Sequence[EdgeRow]]:
        """Yield the edges of nodes in pages; an edge may come twice."""
        values = {"is_write": is_write}
        return self._read(partial(_edges, self._is_postgres, kind, *self._times), ids, values, 2)

    def read_columns(self, side: Side, ids: Sequence[int]) -> Iterator[Sequence[ColumnEdgeRow]]:
        """Yield the edges of columns in pages, likewise."""
        return self._read(partial(_column_edges, self._is_postgres, side, *self._times), ids, {}, 3)

    def _read(
        self, statement: Callable[[bool], str], ids: Sequence[int], values: dict[str, Any], places: int
    ) -> Iterator[Sequence[Any]]:
        """Some nodes after the other, their edges as they lie. Where these are many (a table that thousands read), and
        the first do not suffice, all of them in the order of their ids; the first ``places`` of a row say where it
        stands.
        """
        begin, size = 0, _FEW
        while begin < len(ids):
            few = list(ids[begin : begin + size])
            begin += size
            given = {"ids": given_ids(few, is_postgres=self._is_postgres), **values, **self._values}
            rows = read_rows(self._connection, statement(False), given)
            yield rows
            if len(rows) < _PAGE // 4:
                size *= 4
            last = (-1,) * places
            while len(rows) > _PAGE:
                before = last
                rows = read_rows(self._connection, statement(True), {**given, **_places(last)})
                yield rows
                last = tuple(rows[-1][:places])
                if last == before:
                    break


class NodeReader:
    """Jobs and datasets that the caller sees: id, namespace's id, team's id, name, facts."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._statements = _nodes(self._is_postgres, scope.team_ids)
        self._columns = _columns(self._is_postgres)

    def read_columns(self, ids: Sequence[int]) -> Sequence[Any]:
        """Return columns (id, dataset's id, name, type), of whichever dataset: see whether the caller sees that."""
        return self._columns.read(self._connection, self._value(ids))

    def read(self, kind: Kind, ids: Sequence[int]) -> Sequence[Any]:
        """Return those of the nodes that the caller sees."""
        return self._statements[kind].read(self._connection, self._value(ids))

    def _value(self, ids: Sequence[int]) -> dict[str, Any]:
        return {"among": given_ids(ids, is_postgres=self._is_postgres)}


class Sight:
    """Of the nodes that a walk came upon, those that the caller sees, and which it does not."""

    def __init__(self, reader: NodeReader) -> None:
        self.reader = reader
        self.nodes: dict[Kind, dict[int, Any]] = {"job": {}, "dataset": {}}
        """The rows of those that are seen, by id."""
        self.strangers: dict[Kind, set[int]] = {"job": set(), "dataset": set()}

    def unknown(self, kind: Kind, ids: Iterable[int]) -> Iterator[int]:
        """Yield those of the nodes of which it is not known whether the caller sees them, each once."""
        nodes, strangers = self.nodes[kind], self.strangers[kind]
        return (number for number in dict.fromkeys(ids) if number not in nodes and number not in strangers)

    def learn(self, kind: Kind, ids: Iterable[int]) -> None:
        """Find out which of the nodes the caller sees, and what they are called."""
        nodes, strangers = self.nodes[kind], self.strangers[kind]
        unknown = list(self.unknown(kind, ids))
        if unknown:
            nodes.update((row[0], row) for row in self.reader.read(kind, unknown))
            strangers.update(number for number in unknown if number not in nodes)


@lru_cache(maxsize=256)
def _nodes(is_postgres: bool, team_ids: frozenset[int] | None) -> dict[Kind, KeptStatement]:
    """Return the statements for whoever sees the things of these teams."""
    scope = Scope(team_ids)
    conditions = ((jobs, scope.sees(jobs.c.team_id)), (datasets, scope.sees_dataset()))
    job, dataset = (
        KeptStatement(
            sa.select(table.c.id, table.c.namespace_id, table.c.team_id, table.c.name, table.c.facts).where(
                is_given(table.c.id, "among", is_postgres=is_postgres), sees
            ),
            is_postgres=is_postgres,
        )
        for table, sees in conditions
    )
    return {"job": job, "dataset": dataset}


@lru_cache(maxsize=2)
def _columns(is_postgres: bool) -> KeptStatement:
    column = columns.c
    among = is_given(column.id, "among", is_postgres=is_postgres)
    statement = sa.select(column.id, column.dataset_id, column.name, column.type).where(among)
    return KeptStatement(statement, is_postgres=is_postgres)


@lru_cache(maxsize=64)
def _edges(is_postgres: bool, kind: Kind, has_as_of: bool, has_since: bool, is_ordered: bool) -> str:
    near, far = f"{kind}_id", f"{OTHER[kind]}_id"

    value = partial(_value, is_postgres)
    none = "NULL::bigint" if is_postgres else "NULL"
    mine = f"{near} {_among(is_postgres)} AND is_write = {value('is_write')}"
    if is_ordered:
        mine += f" AND ({near}, {far}) >= ({value('place0')}, {value('place1')})"
    seen = f" AND first_seen <= {value('at')}" if has_as_of else ""
    declared = f" AND since <= {value('at')} AND (until IS NULL OR until > {value('at')})"
    if has_since:
        seen += f" AND last_seen >= {value('since')}"
    return (
        f"SELECT {near}, {far}, first_seen, last_seen, {none} FROM edges WHERE {mine}{seen} "
        f"UNION ALL SELECT {near}, {far}, {none}, {none}, since FROM declared_edges WHERE {mine}{declared} "
        f"{'ORDER BY 1, 2 ' if is_ordered else ''}LIMIT {_PAGE + 1}"
    )


@lru_cache(maxsize=64)
def _column_edges(is_postgres: bool, side: Side, has_as_of: bool, has_since: bool, is_ordered: bool) -> str:
    near, far = f"{side}_id", "source_id" if side == "target" else "target_id"
    value = partial(_value, is_postgres)
    statement = f"SELECT {near}, {far}, job_id, kind, first_seen, last_seen FROM column_edges WHERE {near} "
    statement += _among(is_postgres)
    if has_as_of:
        statement += f" AND first_seen <= {value('at')}"
    if has_since:
        statement += f" AND last_seen >= {value('since')}"
    if is_ordered:
        places = ", ".join(value(f"place{number}") for number in range(3))
        statement += f" AND ({near}, {far}, job_id) >= ({places}) ORDER BY 1, 2, 3"
    return f"{statement} LIMIT {_PAGE + 1}"


def _places(last: tuple[int, ...]) -> dict[str, int]:
    return {f"place{number}": one for number, one in enumerate(last)}


def _value(is_postgres: bool, name: str) -> str:
    return f"%({name})s" if is_postgres else f":{name}"


def _among(is_postgres: bool) -> str:
    ids = _value(is_postgres, "ids")
    return f"= ANY ({ids}::bigint[])" if is_postgres else f"IN (SELECT value FROM json_each({ids}))"
