"""Reads a level of a walk: the edges of many nodes at once, and the nodes at their other side.

The statements are texts, made once for each form: a walk has up to a hundred of them, and building them each time would
take longer than the database does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database import now
from aiflow_service.database.tables import datasets, jobs
from aiflow_service.lineage.writing import GRAIN

Kind: TypeAlias = Literal["job", "dataset"]
EdgeRow: TypeAlias = tuple[int, int, int | None, int | None, int | None]
"""The node that was asked for, the one at the other side; first and last seen, or declared since."""

OTHER: dict[Kind, Kind] = {"job": "dataset", "dataset": "job"}
_PAGE = 4_000


class EdgeReader:
    """The edges that were seen by a moment (and since another), and those that were declared at it."""

    def __init__(self, connection: Connection, as_of: int | None, since: int | None) -> None:
        self.at = now() if as_of is None else as_of
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._times = (as_of is not None, since is not None)
        self._values = {"at": self.at, "since": None if since is None else since - since % GRAIN}

    def read(self, kind: Kind, ids: Sequence[int], is_write: int) -> Iterator[Sequence[EdgeRow]]:
        """Yield the edges of nodes in pages; an edge may come twice where one page ends and the next begins.

        Few are read as they lie. Of many (a table that thousands read) the order is that of their ids, so that what
        is left unread by whoever has enough is the same each time.
        """
        values = {"ids": list(ids) if self._is_postgres else json.dumps(ids), "is_write": is_write, **self._values}
        rows = self._page(kind, values, is_ordered=False)
        if len(rows) <= _PAGE:
            yield rows
            return
        values |= {"near": -1, "far": -1}
        while True:
            rows = self._page(kind, values, is_ordered=True)
            yield rows
            last = {"near": rows[-1][0], "far": rows[-1][1]}
            if len(rows) <= _PAGE or last.items() <= values.items():
                return
            values |= last

    def _page(self, kind: Kind, values: dict[str, Any], *, is_ordered: bool) -> Sequence[EdgeRow]:
        statement = _edges(self._is_postgres, kind, *self._times, is_ordered)
        return self._connection.exec_driver_sql(statement, values).all()


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

    def read(self, kind: Kind, ids: Sequence[int]) -> Sequence[Any]:
        """Return those of the nodes that the caller sees."""
        among = list(ids) if self._is_postgres else json.dumps(ids)
        return self._connection.execute(self._statements[kind], {"among": among}).all()

    def _select(self, table: sa.Table, sees: sa.ColumnElement[bool]) -> sa.Select[Any]:
        if self._is_postgres:
            among = table.c.id == sa.any_(sa.bindparam("among", type_=ARRAY(sa.BigInteger)))
        else:
            each = sa.func.json_each(sa.bindparam("among", type_=sa.Text))
            among = table.c.id.in_(sa.select(sa.column("value")).select_from(each))
        return sa.select(table.c.id, table.c.namespace_id, table.c.team_id, table.c.name, table.c.facts).where(
            among, sees
        )


@lru_cache(maxsize=64)
def _edges(is_postgres: bool, kind: Kind, has_as_of: bool, has_since: bool, is_ordered: bool) -> str:
    near, far = f"{kind}_id", f"{OTHER[kind]}_id"

    def value(name: str) -> str:
        return f"%({name})s" if is_postgres else f":{name}"

    none = "NULL::bigint" if is_postgres else "NULL"
    among = f"= ANY ({value('ids')}::bigint[])" if is_postgres else f"IN (SELECT value FROM json_each({value('ids')}))"
    mine = f"{near} {among} AND is_write = {value('is_write')}"
    if is_ordered:
        mine += f" AND ({near}, {far}) >= ({value('near')}, {value('far')})"
    seen = f" AND first_seen <= {value('at')}" if has_as_of else ""
    declared = f" AND since <= {value('at')} AND (until IS NULL OR until > {value('at')})"
    if has_since:
        seen += f" AND last_seen >= {value('since')}"
    return (
        f"SELECT {near}, {far}, first_seen, last_seen, {none} FROM edges WHERE {mine}{seen} "
        f"UNION ALL SELECT {near}, {far}, {none}, {none}, since FROM declared_edges WHERE {mine}{declared} "
        f"{'ORDER BY 1, 2 ' if is_ordered else ''}LIMIT {_PAGE + 1}"
    )
