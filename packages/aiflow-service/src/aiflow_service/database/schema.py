"""Whether a database has the tables and columns that this version of the service works with."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aiflow_service.database.tables import METADATA

Schema = Mapping[str, Collection[str]]
"""The columns of each table."""

NEEDED: Schema = {str(table.name): tuple(table.c.keys()) for table in METADATA.sorted_tables}
"""What this version works with."""


def _nothing_of(name: str, columns: Collection[str]) -> str:
    # Qualified: what is no column's name, and quoted, SQLite takes for a text.
    wanted = ", ".join(f'{name}."{column}"' for column in columns)
    return f"SELECT 1 FROM (SELECT {wanted} FROM {name} LIMIT 0) AS of_{name}"


NOTHING_OF_ALL = sa.text(" UNION ALL ".join(_nothing_of(name, columns) for name, columns in NEEDED.items()))
"""Reads no row, and fails where a table or column is absent: by far quicker than to look at what there is."""
_UNDEFINED = frozenset({"42P01", "42703"})  # undefined_table, undefined_column, of PostgreSQL
_SHOWN = 5


class UnfitDatabase(SQLAlchemyError):  # noqa: N818 it is an answer
    """The database answers, and nothing can be done with it until somebody mends it: no event is to blame."""

    problem = "database-unfit"
    """The code that is answered; SQLAlchemy has a use of its own for ``code``."""


class WrongSchema(UnfitDatabase):
    """The database lacks tables or columns that its service works with."""

    problem = "database-schema"

    def __init__(self, lacking: Collection[str]) -> None:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        named = ", ".join(list(lacking)[:_SHOWN])
        super().__init__(f"the database lacks {named}{more}, which this version of the service works with")


def schema_of(connection: Connection) -> Schema:
    """Return the tables of ours that a database has, and the columns of each as they follow each other there."""
    found = sa.inspect(connection)
    names = [name for name in found.get_table_names() if name in METADATA.tables]
    columns = found.get_multi_columns(filter_names=names) if names else {}
    return {name: tuple(str(one["name"]) for one in columns[None, name]) for name in names}


def lacking(found: Schema, wanted: Schema) -> list[str]:
    """Return what of a schema is not there, in words."""
    tables = [f"the table {name}" for name in wanted if name not in found]
    columns = [
        f"the column {name}.{column}"
        for name, some in wanted.items()
        if name in found
        for column in some
        if column not in found[name]
    ]
    return tables + columns


def require_schema(connection: Connection) -> None:
    """Return if the database has all that this version works with. Raises :class:`WrongSchema`."""
    if missing := lacking(schema_of(connection), NEEDED):
        raise WrongSchema(missing)


def schema_fault(error: BaseException, engine: Engine) -> WrongSchema | None:
    """Return what the database lacks, where a statement failed of that; None where it failed of anything else."""
    if not isinstance(error, DBAPIError) or not _is_of_statement(error.orig):
        return None
    with suppress(SQLAlchemyError), engine.connect() as connection:
        try:
            require_schema(connection)
        except WrongSchema as told:
            return told
    return None


def _is_of_statement(cause: Any) -> bool:
    return (
        getattr(cause, "sqlstate", None) in _UNDEFINED
        or getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    )
