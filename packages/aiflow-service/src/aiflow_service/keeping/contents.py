"""All that a database holds, as rows that are the same in either kind: read in one snapshot, written as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from aiflow_sdk.errors import ConfigurationError
from aiflow_service import __version__
from aiflow_service.database import Writing, moment_text, now
from aiflow_service.database.bulk import insert_rows
from aiflow_service.database.migration import downgrade, revision_of, schema_at, upgrade
from aiflow_service.database.partitions import are_partitioned, make_months, month_of
from aiflow_service.database.schema import lacking, schema_of
from aiflow_service.database.tables import DEFAULT_TEAM_ID, METADATA

_BLOCK_ROWS = 500
_BLOCK_BYTES = 1024 * 1024
_SEEDED = ("counters", "teams")
"""Tables that have rows as soon as they are made."""


class Header(Struct, frozen=True):
    """What is to be known before the rows: ``revision`` is the migration that they are of."""

    format: int
    revision: str
    service: str
    made_at: str
    columns: dict[str, list[str]]
    """By table, in an order in which each refers to none that comes later."""


class Block(Struct, frozen=True, array_like=True):
    """Some rows of a table, in the order of its key; values as the header's columns have them."""

    table: str
    rows: list[tuple[Any, ...]]


def read_header(connection: Connection) -> Header:
    """Return what the database holds, as tables and columns.

    Raises ``ConfigurationError`` where there is no schema of ours, one that this version does not know, or one that
    lacks what its migrations have made.
    """
    revision = revision_of(connection)
    if revision is None:
        raise ConfigurationError(
            "database-empty", "the database holds nothing of the service", hint="see that its address is the right one"
        )
    found = schema_of(connection)
    if missing := lacking(found, schema_at(revision)):
        raise ConfigurationError(
            "database-schema",
            f"the database lacks {', '.join(missing)}, which its migration '{revision}' has: nothing was written",
            hint="restore a backup into an empty database, or bring back what somebody removed",
        )
    columns = {str(table.name): list(found[table.name]) for table in METADATA.sorted_tables if table.name in found}
    return Header(1, revision, __version__, moment_text(now()) or "", columns)


def read_blocks(connection: Connection, header: Header) -> Iterator[Block]:
    """Yield all rows, a few at a time; ``connection`` sees one moment (``Database.reading``)."""
    for name, columns in header.columns.items():
        wanted = ", ".join(f'"{column}"' for column in columns)
        key = ", ".join(f'"{column.name}"' for column in METADATA.tables[name].primary_key)
        statement = sa.text(f"SELECT {wanted} FROM {name} ORDER BY {key}")
        streaming = statement.execution_options(stream_results=True, max_row_buffer=_BLOCK_ROWS)
        rows: list[tuple[Any, ...]] = []
        size = 0
        for row in connection.execute(streaming):
            rows.append(tuple(row))
            size += sum(len(value) for value in row if isinstance(value, bytes | str))
            if len(rows) == _BLOCK_ROWS or size > _BLOCK_BYTES:
                yield Block(name, rows)
                rows, size = [], 0
        if rows:
            yield Block(name, rows)


def write_contents(connection: Connection, header: Header, blocks: Iterable[Block]) -> dict[str, int]:
    """Make the schema of a database that holds nothing, and all rows; returns how many, by table.

    It happens in the transaction that ``migrating`` gave, or not at all. What is of an older migration is migrated.
    Raises ``ConfigurationError`` where the database holds something.
    """
    if missing := lacking(header.columns, schema_at(header.revision)):
        raise ConfigurationError(
            "backup-damaged",
            f"the backup is of a database that lacked {', '.join(missing)}",
            hint="take another backup; nothing was changed",
        )
    _refuse_full(connection)
    upgrade(connection, header.revision)
    writing = Writing(connection)
    if not writing.is_postgres:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")  # until the end of the transaction
    for name in _SEEDED:
        connection.execute(sa.delete(sa.table(name)))
    tables = {name: _table_for(connection, name, columns) for name, columns in header.columns.items()}
    counts = dict.fromkeys(header.columns, 0)
    day = header.columns["events"].index("event_day")
    in_months = are_partitioned(connection)
    for block in blocks:
        if in_months and block.table == "events":
            make_months(connection, {month_of(row[day]) for row in block.rows})
        insert_rows(writing, tables[block.table], header.columns[block.table], block.rows)
        counts[block.table] += len(block.rows)
    upgrade(connection)
    return counts


def _table_for(connection: Connection, name: str, columns: Iterable[str]) -> sa.Table:
    """Return a table as the rows' migration made it; raises ``ConfigurationError`` where it is not what they are of."""
    if name in METADATA.tables:
        table = sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
        if set(columns) <= set(table.c.keys()):
            return table
    raise ConfigurationError(
        "backup-damaged",
        f"the rows of {name!r} are not those of any table of the service",
        hint="take another copy of the backup; nothing was changed",
    )


def _refuse_full(connection: Connection) -> None:
    there = set(sa.inspect(connection).get_table_names())
    if not there & METADATA.tables.keys():
        return
    teams = sa.table("teams", sa.column("id"))
    full = [
        name
        for name in sorted(there & METADATA.tables.keys())
        if name not in _SEEDED and connection.execute(sa.select(1).select_from(sa.table(name)).limit(1)).first()
    ]
    if not full and "teams" in there and connection.execute(sa.select(1).where(teams.c.id != DEFAULT_TEAM_ID)).first():
        full = ["teams"]
    if full:
        raise ConfigurationError(
            "database-not-empty",
            f"the database holds rows already ({', '.join(full[:5])}), and nothing is written over",
            hint="name an empty database; one that a service has been started on is not",
        )
    downgrade(connection, "base")  # made anew as the rows need it
