"""The months that PostgreSQL keeps events in: each a partition, made ahead and dropped whole.

Events lie by the day of their own time (``event_day``), so that a repeated event meets itself in its month. What lies
in no month that was made (an old spool, a clock that is wrong) lies in the rest. SQLite knows none of this.

Whoever calls these holds the lock of those who write (``Database.writing``) or migrate, so that replicas do not meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy.engine import Connection

from aiflow_service.database.protection import protect_table

REST = "events_rest"
"""Where events lie whose month was not made."""
_NAME = re.compile(r"events_(\d{4})_(\d{2})")
_EPOCH = date(1970, 1, 1)
_AHEAD = 2
_MAX_MONTHS = 240
_IS_PARTITIONED = "SELECT EXISTS (SELECT 1 FROM pg_partitioned_table WHERE partrelid = to_regclass('events'))"
_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass('events')"
_WAIT = "SELECT set_config('lock_timeout', '3s', true)"
"""A reader that takes long is not waited for: all others would wait behind."""


def today() -> int:
    """Return the number of the present day since 1970, in UTC."""
    return (datetime.now(UTC).date() - _EPOCH).days


def day_text(day: int) -> str:
    """Return a day since 1970 as ISO 8601 has it."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def month_of(day: int) -> date:
    """Return the first day of the month that a day since 1970 lies in."""
    return (_EPOCH + timedelta(days=day)).replace(day=1)


def are_partitioned(connection: Connection) -> bool:
    """Tell whether events lie in months here."""
    return connection.dialect.name == "postgresql" and bool(connection.exec_driver_sql(_IS_PARTITIONED).scalar())


def list_months(connection: Connection) -> list[date]:
    """Return the months that were made, the oldest first."""
    names = connection.exec_driver_sql(_PARTITIONS).scalars()
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(date(int(one[1]), int(one[2]), 1) for one in found if one)


def make_months_ahead(connection: Connection) -> list[date]:
    """Make the months that are about to be written to, and return those that were not there."""
    first = month_of(today())
    wanted = [month_of((first - _EPOCH).days - 1), first]
    for _ in range(_AHEAD):
        wanted.append(_next(wanted[-1]))
    return make_months(connection, wanted)


def make_months(connection: Connection, months: Iterable[date]) -> list[date]:
    """Make months, take their events out of the rest, and return those that were not there.

    There are at most twenty years of them; what is of other months stays in the rest.
    """
    there = set(list_months(connection))
    new = sorted(set(months) - there)[: max(0, _MAX_MONTHS - len(there))]
    if new:
        connection.exec_driver_sql(_WAIT)
    for month in new:
        name = f"events_{month:%Y_%m}"
        begin, end = ((day - _EPOCH).days for day in (month, _next(month)))
        # Attaching lets others read meanwhile, which making it in its place would not.
        connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS)")
        connection.exec_driver_sql(
            f"WITH moved AS (DELETE FROM {REST} WHERE event_day >= {begin} AND event_day < {end} RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved"
        )
        connection.exec_driver_sql(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})")
        protect_table(connection, name)
    return new


def drop_months(connection: Connection, before: int) -> list[date]:
    """Drop the months all of whose days lie before a day since 1970, and return them.

    Raises ``OperationalError`` where somebody reads for long: nothing is dropped then.
    """
    old = [month for month in list_months(connection) if (_next(month) - _EPOCH).days <= before]
    if old:
        connection.exec_driver_sql(_WAIT)
    for month in old:
        connection.exec_driver_sql(f"DROP TABLE events_{month:%Y_%m}")
    return old


def partition_events(connection: Connection) -> None:
    """Put the events of a plain table into months."""
    days = connection.exec_driver_sql("SELECT DISTINCT event_day FROM events").scalars().all()
    connection.exec_driver_sql(
        "CREATE TABLE events_new (LIKE events INCLUDING DEFAULTS) PARTITION BY RANGE (event_day)"
    )
    definitions = _definitions(connection)
    connection.exec_driver_sql("ALTER TABLE events RENAME TO events_old")
    connection.exec_driver_sql("ALTER TABLE events_new RENAME TO events")
    connection.exec_driver_sql(f"CREATE TABLE {REST} PARTITION OF events DEFAULT")
    protect_table(connection, REST)
    make_months(connection, sorted({month_of(day) for day in days})[-_MAX_MONTHS // 2 :])
    make_months_ahead(connection)
    _take_over(connection, definitions, "id, event_day")


def unpartition_events(connection: Connection) -> None:
    """Put the events of all months back into a plain table."""
    connection.exec_driver_sql("CREATE TABLE events_new (LIKE events INCLUDING DEFAULTS)")
    definitions = _definitions(connection)
    connection.exec_driver_sql("ALTER TABLE events RENAME TO events_old")
    connection.exec_driver_sql("ALTER TABLE events_new RENAME TO events")
    _take_over(connection, definitions, "id")


def _definitions(connection: Connection) -> list[str]:
    """Return what makes the constraints and indexes of ``events`` anew, but for its key."""
    constraints = connection.exec_driver_sql(
        "SELECT format('ALTER TABLE events ADD CONSTRAINT %%I %%s', conname, pg_get_constraintdef(oid)) "
        "FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype IN ('f', 'u') ORDER BY contype DESC"
    ).scalars()
    indexes = connection.exec_driver_sql(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'events'::regclass "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u')) ORDER BY 1"
    ).scalars()
    # An index of a partitioned table alone says ONLY, and then no partition has it.
    return [*constraints, *(text.replace(" ON ONLY ", " ON ") for text in indexes)]


def _take_over(connection: Connection, definitions: Iterable[str], key: str) -> None:
    """Give a new table the rows of the old one, which goes, and then all that the old one had."""
    connection.exec_driver_sql("INSERT INTO events SELECT * FROM events_old ORDER BY id")
    connection.exec_driver_sql("DROP TABLE events_old")
    connection.exec_driver_sql(f"ALTER TABLE events ADD CONSTRAINT pk_events PRIMARY KEY ({key})")
    for definition in definitions:
        connection.exec_driver_sql(definition.replace("%", "%%"))
    protect_table(connection, "events")


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)
