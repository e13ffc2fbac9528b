"""Many rows at once, each database in the way that is quickest there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine import Connection

from aiflow_service.database.connection import Writing, driver_of

Change: TypeAlias = Literal["new", "least", "greatest"]
"""What an upsert does with a column of a row that is there: take the new value, the lesser, the greater."""

_POSTGRES: sa.Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it so
_NAMED: sa.Dialect = sqlite.dialect(paramstyle="named")
_NONE: Mapping[str, Any] = {}
_NARROWED: WeakKeyDictionary[sa.Select[Any], dict[tuple[str, str], sa.Select[Any]]] = WeakKeyDictionary()
"""By statement what :func:`select_in` makes of it, for each column and each way to give values."""
_CHUNK = 500  # SQLite takes 32,766 parameters in one statement; a plan is kept for each number of them
_MOST_ROWS = 64
"""Of one statement on SQLite; powers of two up to it, so that few statements are put together and kept."""


def insert_rows(writing: Writing, table: sa.Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows; ``names`` says which column each of their values is for."""
    _write(writing, table, tuple(names), (), rows)


def upsert_rows(
    writing: Writing,
    table: sa.Table,
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    changes: Mapping[str, Change],
) -> None:
    """Insert rows, or change those whose primary key is there; no key may come twice."""
    _write(writing, table, tuple(names), tuple(changes.items()), rows)


def update_rows(writing: Writing, table: sa.Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Change rows that are there; the first of ``names`` is the key, and none may come twice."""
    if not rows:
        return
    assert len({row[0] for row in rows}) == len(rows), f"a row of {table.name} is changed twice at once"
    statement = _update(table, tuple(names), writing.is_postgres)
    if writing.is_postgres:
        writing.connection.exec_driver_sql(statement, _columns_of(rows))
    else:
        writing.connection.exec_driver_sql(statement, [tuple(row) for row in rows])


def select_in(
    connection: Connection,
    statement: sa.Select[Any],
    column: sa.ColumnElement[Any],
    values: Iterable[Any],
    parameters: Mapping[str, Any] = _NONE,
) -> Sequence[Any]:
    """Return the rows of a statement whose column is one of the values, however many these are.

    ``parameters`` are the statement's own. A statement that lives long, with parameters in place of values, is put
    together once.
    """
    wanted = list(values)
    if not wanted:
        return []
    is_postgres = connection.dialect.name == "postgresql"
    kind = "array" if is_postgres else "chunk" if isinstance(wanted[0], bytes) else "json"
    narrowed = _NARROWED.setdefault(statement, {})
    key = str(column.key), kind
    if key not in narrowed:
        among = column.in_(sa.bindparam("among", expanding=True)) if kind == "chunk" else _is_among(column, is_postgres)
        narrowed[key] = statement.where(among)
    if kind != "chunk":
        return connection.execute(narrowed[key], {**parameters, "among": _given(column, is_postgres, wanted)}).all()
    rows: list[Any] = []
    for begin in range(0, len(wanted), _CHUNK):
        rows += connection.execute(narrowed[key], {**parameters, "among": wanted[begin : begin + _CHUNK]}).all()
    return rows


class KeptStatement:
    """A statement that is put together once, for a driver that is asked itself (:func:`read_rows`).

    Values that are functions are asked for each time.
    """

    def __init__(self, statement: sa.SelectBase, *, is_postgres: bool) -> None:
        dialect = _POSTGRES if is_postgres else _NAMED
        compiled = statement.compile(dialect=dialect)
        self._asked = {name for name, one in compiled.binds.items() if one.required}
        state = compiled.construct_expanded_state(dict.fromkeys(self._asked))  # its lists are spelled out
        self._text = state.statement
        self._fixed = dict(state.parameters)
        self._functions = {name: one.callable for name, one in compiled.binds.items() if one.callable}

    def read(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        """Return the rows for values, one of each parameter."""
        assert values.keys() >= self._asked, f"values are missing: {sorted(self._asked - values.keys())}"
        now = {name: function() for name, function in self._functions.items()}
        return read_rows(connection, self._text, {**self._fixed, **now, **values})


def read_rows(connection: Connection, statement: str, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    """Return all rows of a text, as the driver makes them: of numbers, texts, bytes; PostgreSQL's come in binary.

    SQLAlchemy takes a third of a millisecond for a statement, and a walk has a dozen. Raises what it would raise.
    """
    options = {"binary": True} if connection.dialect.name == "postgresql" else {}
    with driver_of(connection) as driver, closing(driver.cursor(**options)) as cursor:
        cursor.execute(statement, values)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows


def is_among(connection: Connection, column: sa.ColumnElement[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a column is one of the values, however many; on SQLite these are numbers or texts."""
    is_postgres = connection.dialect.name == "postgresql"
    return _is_among(column, is_postgres, _given(column, is_postgres, list(values)))


def _is_among(column: sa.ColumnElement[Any], is_postgres: bool, given: Any = None) -> sa.ColumnElement[bool]:
    """Return the condition for what is given now, or else as the parameter ``among``."""
    if is_postgres and isinstance(column.type, sa.Integer):
        return column == sa.any_(array_given("among", given))
    kind = postgresql.ARRAY(column.type) if is_postgres else sa.String()
    values = sa.bindparam("among", given, type_=kind, required=given is None, unique=given is not None)
    if is_postgres:
        return column == sa.any_(values)
    among: sa.Select[Any] = sa.select(sa.column("value")).select_from(sa.func.json_each(values))
    return column.in_(among)


def _given(column: sa.ColumnElement[Any], is_postgres: bool, values: list[Any]) -> Any:
    if not is_postgres:
        return json.dumps(values)
    return array_text(values) if isinstance(column.type, sa.Integer) else values


def is_given(column: sa.ColumnElement[int], name: str, *, is_postgres: bool) -> sa.ColumnElement[bool]:
    """Return the condition that a number is one of those that a parameter gives, as :func:`given_ids` writes them."""
    if is_postgres:
        return column == sa.any_(array_given(name))
    each = sa.func.json_each(sa.bindparam(name, type_=sa.Text))
    return column.in_(sa.select(sa.column("value")).select_from(each))


def given_ids(ids: Iterable[int], *, is_postgres: bool) -> str:
    """Return ids for a statement with :func:`is_given`."""
    return array_text(ids) if is_postgres else json.dumps(list(ids))


def array_given(name: str, array: str | None = None) -> sa.ColumnElement[Any]:
    """Return PostgreSQL's array of the ids that a parameter gives, as :func:`array_text` writes them."""
    given = sa.bindparam(name, array, type_=sa.types.NullType(), required=array is None, unique=array is not None)
    return sa.cast(given, postgresql.ARRAY(sa.BigInteger))


def array_text(ids: Iterable[int]) -> str:
    """Return ids as PostgreSQL writes an array: the driver would take ten times as long, and call a type by the
    greatest of them, so that the server would plan each statement once for each type.
    """
    return f"{{{','.join(map(str, ids))}}}"


def _write(
    writing: Writing,
    table: sa.Table,
    names: tuple[str, ...],
    changes: tuple[tuple[str, Change], ...],
    rows: Sequence[Sequence[Any]],
) -> None:
    if not rows:
        return
    if writing.is_postgres:
        writing.connection.exec_driver_sql(_insert_arrays(table, names, changes), _columns_of(rows))
        return
    # Many rows a statement: with each statement the interpreter's lock is let go, and waited for while others work.
    begin = 0
    while begin < len(rows):
        count = min(_MOST_ROWS, 1 << ((len(rows) - begin).bit_length() - 1))
        given = tuple(chain.from_iterable(rows[begin : begin + count]))
        writing.connection.exec_driver_sql(_insert_values(table, names, changes, count), given)
        begin += count


def _columns_of(rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {f"c{number}": list(values) for number, values in enumerate(zip(*rows, strict=True))}


@lru_cache(maxsize=256)
def _insert_arrays(table: sa.Table, names: tuple[str, ...], changes: tuple[tuple[str, Change], ...]) -> str:
    begin = f"INSERT INTO {table.name} ({_quoted(names)})"
    return f"{begin} SELECT * FROM {_arrays(table, names)}{_on_conflict(table, changes, 'least', 'greatest')}"


@lru_cache(maxsize=1_024)
def _insert_values(table: sa.Table, names: tuple[str, ...], changes: tuple[tuple[str, Change], ...], count: int) -> str:
    places = ", ".join([f"({', '.join('?' * len(names))})"] * count)
    begin = f"INSERT INTO {table.name} ({_quoted(names)})"
    return f"{begin} VALUES {places}{_on_conflict(table, changes, 'min', 'max')}"


def _on_conflict(table: sa.Table, changes: tuple[tuple[str, Change], ...], least: str, greatest: str) -> str:
    if not changes:
        return ""
    taken = {
        "new": 'excluded."{0}"',
        "least": least + '({1}."{0}", excluded."{0}")',
        "greatest": greatest + '({1}."{0}", excluded."{0}")',
    }
    sets = ", ".join(f'"{name}" = ' + taken[change].format(name, table.name) for name, change in changes)
    return f" ON CONFLICT ({_quoted(column.name for column in table.primary_key)}) DO UPDATE SET {sets}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@lru_cache(maxsize=256)
def _update(table: sa.Table, names: tuple[str, ...], is_postgres: bool) -> str:
    if is_postgres:
        sets = ", ".join(f'"{name}" = given."{name}"' for name in names[1:])
        given = ", ".join(f'"{name}"' for name in names)
        return (
            f"UPDATE {table.name} SET {sets} FROM {_arrays(table, names)} AS given({given}) "
            f'WHERE {table.name}."{names[0]}" = given."{names[0]}"'
        )
    sets = ", ".join(f'"{name}" = ?{number}' for number, name in enumerate(names[1:], 2))
    return f'UPDATE {table.name} SET {sets} WHERE "{names[0]}" = ?1'


def _arrays(table: sa.Table, names: tuple[str, ...]) -> str:
    kinds = [table.c[name].type.compile(_POSTGRES) for name in names]
    # %b: bytes go as they are, not as twice as many hexadecimal digits.
    return f"unnest({', '.join(f'%(c{number})b::{kind}[]' for number, kind in enumerate(kinds))})"
