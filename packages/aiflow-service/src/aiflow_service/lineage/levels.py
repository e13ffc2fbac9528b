"""Reads a level of a walk: the edges of many nodes at once, and the nodes at their other side.

The statements are texts, made once for each form: a walk has up to a hundred of them, and building them each time would
take longer than the database does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database import now
from aiflow_service.database.tables import columns, datasets, jobs
from aiflow_service.lineage.writing import GRAIN

Kind: TypeAlias = Literal["job", "dataset"]
Side: TypeAlias = Literal["target", "source"]
EdgeRow: TypeAlias = tuple[int, int, int | None, int | None, int | None]
"""The node that was asked for, the one at the other side; first and last seen, or declared since."""
ColumnEdgeRow: TypeAlias = tuple[int, int, int, str, int, int]
"""The column that was asked for, the one at the other side, the job, what it does; first and last seen."""

OTHER: dict[Kind, Kind] = {"job": "dataset", "dataset": "job"}
_PAGE = 4_000


class EdgeReader:
    """The edges that were seen by a moment (and since another), and of tables those that were declared at it."""

    def __init__(self, connection: Connection, as_of: int | None, since: int | None) -> None:
        self.at = now() if as_of is None else as_of
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._times = (as_of is not None, since is not None)
        self._values = {"at": self.at, "since": None if since is None else since - since % GRAIN}

    def read(self, kind: Kind, ids: Sequence[int], is_write: int) -> Iterator[Sequence[EdgeRow]]:
        """Yield the edges of nodes in pages; an edge may come twice where one page ends and the next begins."""
        values = {"is_write": is_write}
        return self._read(partial(_edges, self._is_postgres, kind, *self._times), ids, values, 2)

    def read_columns(self, side: Side, ids: Sequence[int]) -> Iterator[Sequence[ColumnEdgeRow]]:
        """Yield the edges of columns in pages, likewise."""
        return self._read(partial(_column_edges, self._is_postgres, side, *self._times), ids, {}, 3)

    def _read(
        self, statement: Callable[[bool], str], ids: Sequence[int], values: dict[str, Any], places: int
    ) -> Iterator[Sequence[Any]]:
        """Few are read as they lie. Of many (a table that thousands read) the order is that of their ids, so that what
        is left unread by whoever has enough is the same each time; the first ``places`` of a row say where it stands.
        """
        values = {"ids": list(ids) if self._is_postgres else json.dumps(ids), **values, **self._values}
        rows = self._connection.exec_driver_sql(statement(False), values).all()
        if len(rows) <= _PAGE:
            yield rows
            return
        last = (-1,) * places
        while True:
            rows = self._connection.exec_driver_sql(statement(True), {**values, **_places(last)}).all()
            yield rows
            before, last = last, tuple(rows[-1][:places])
            if len(rows) <= _PAGE or last == before:
                return


class NodeReader:
    """Jobs and datasets that the caller sees: id, namespace's id, team's id, name, facts."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        conditions = {"job": scope.sees(jobs.c.team_id), "dataset": scope.sees_dataset()}
        self._statements: dict[Kind, sa.Select[Any]] = {
            "job": self._select(jobs, conditions["job"]),
            "dataset": self._select(datasets, conditions["dataset"]),
        }
        column = sa.select(columns.c.id, columns.c.dataset_id, columns.c.name, columns.c.type)
        self._columns = column.where(self._among(columns))

    def read_columns(self, ids: Sequence[int]) -> Sequence[Any]:
        """Return columns (id, dataset's id, name, type), of whichever dataset: see whether the caller sees that."""
        return self._connection.execute(self._columns, self._value(ids)).all()

    def read(self, kind: Kind, ids: Sequence[int]) -> Sequence[Any]:
        """Return those of the nodes that the caller sees."""
        return self._connection.execute(self._statements[kind], self._value(ids)).all()

    def _value(self, ids: Sequence[int]) -> dict[str, Any]:
        return {"among": list(ids) if self._is_postgres else json.dumps(ids)}

    def _select(self, table: sa.Table, sees: sa.ColumnElement[bool]) -> sa.Select[Any]:
        fields = sa.select(table.c.id, table.c.namespace_id, table.c.team_id, table.c.name, table.c.facts)
        return fields.where(self._among(table), sees)

    def _among(self, table: sa.Table) -> sa.ColumnElement[bool]:
        if self._is_postgres:
            return table.c.id == sa.any_(sa.bindparam("among", type_=ARRAY(sa.BigInteger)))
        each = sa.func.json_each(sa.bindparam("among", type_=sa.Text))
        return table.c.id.in_(sa.select(sa.column("value")).select_from(each))


class Sight:
    """Of the nodes that a walk came upon, those that the caller sees, and which it does not."""

    def __init__(self, reader: NodeReader) -> None:
        self.reader = reader
        self.nodes: dict[Kind, dict[int, Any]] = {"job": {}, "dataset": {}}
        """The rows of those that are seen, by id."""
        self.strangers: dict[Kind, set[int]] = {"job": set(), "dataset": set()}

    def learn(self, kind: Kind, ids: Iterable[int]) -> None:
        """Find out which of the nodes the caller sees, and what they are called."""
        nodes, strangers = self.nodes[kind], self.strangers[kind]
        unknown = [number for number in ids if number not in nodes and number not in strangers]
        if unknown:
            nodes.update((row[0], row) for row in self.reader.read(kind, unknown))
            strangers.update(number for number in unknown if number not in nodes)


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
