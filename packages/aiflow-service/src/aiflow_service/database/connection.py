"""Opens the database that an address names, and hands out reading and writing transactions.

One transaction writes at a time, on SQLite by its own lock, on PostgreSQL by an advisory one that all replicas share:
numbers are then handed out without gaps or surprises, a greater number was always committed later, and no two writers
can wait for each other. Writes are collected into groups (:mod:`aiflow_service.ingest`), so that one is enough.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from aiflow_sdk.errors import AiflowError, ConfigurationError, StoreError
from aiflow_service.database.file import OpenFile, ReplacedFile
from aiflow_service.database.protection import READER, SEES, SEES_ALL
from aiflow_service.database.schema import WrongSchema, schema_fault
from aiflow_service.database.tables import counters

_WRITERS = 0x6169666C6F77  # "aiflow": the advisory lock of whoever writes
_SQLITE_WAIT_SECONDS = 30
_IS_UNBOUND = sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
_MAY_NOT = "42501"  # insufficient_privilege, of PostgreSQL
_BEGIN = f"SELECT pg_advisory_xact_lock({_WRITERS})"
_BEGIN_SEEING = f"{_BEGIN}, set_config('aiflow.teams', '{SEES_ALL}', true)"
_TEAMS = "set_config('aiflow.teams', %(teams)s, true)"
_ROLE = f"set_config('role', '{READER}', true)"
_PLANS = "set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_bitmapscan', 'off', true)"
"""For a walk and a list: a statement is planned once, which with the policies takes longer than its rows do, not for
each value; and a limit ends the scan of an index, and no bitmap of it."""


class Writing:
    """A transaction that may write, and the numbers that it hands out."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_postgres = connection.dialect.name == "postgresql"
        stored = connection.execute(sa.select(counters.c.name, counters.c.value))
        self._numbers: dict[str, int] = {row[0]: row[1] for row in stored}
        self._stored = dict(self._numbers)

    def number(self, name: str) -> int:
        """Hand out the next number of a counter: a table's next id."""
        self._numbers[name] = value = self._numbers.get(name, 0) + 1
        return value

    def last_number(self, name: str) -> int:
        """Return the last number that was handed out, 0 if none was."""
        return self._numbers.get(name, 0)

    def set_number(self, name: str, value: int) -> None:
        """Set what is no count but kept among them."""
        self._numbers[name] = value

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Let statements that return nothing be sent one behind the other; what is wrong with one is raised by the end.

        On PostgreSQL each would else be waited for, and then for the interpreter, which other threads have meanwhile.
        """
        if not self.is_postgres:
            yield
            return
        with driver_of(self.connection) as driver, driver.pipeline():
            yield

    def store_numbers(self) -> None:
        """Write down what was handed out."""
        raised = [(name, value) for name, value in self._numbers.items() if self._stored.get(name) != value]
        if raised:
            places = "(%s, %s)" if self.is_postgres else "(?, ?)"
            keep = "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            self.connection.exec_driver_sql(f"INSERT INTO counters (name, value) VALUES {places} {keep}", raised)


class Database:
    """A database that is open: any number of threads read, one at a time writes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_postgres = engine.dialect.name == "postgresql"
        self.is_unbound = False
        """Whether the database's user is one whom no policy binds; then reads for callers are another role's."""
        self._file = None if self.is_postgres else OpenFile(str(engine.url.database))
        self._writers = threading.Lock()
        self._kept: Connection | None = None
        """The connection that wrote last."""

    @contextmanager
    def reading(self, *, keeps_plans: bool = False) -> Iterator[Connection]:
        """Give a connection for reads that belong together: all see the state of one moment, that of the first.

        On PostgreSQL they see no more than :data:`~aiflow_service.database.protection.SEES` says. ``keeps_plans``: the
        statements are few, and whatever their values are one plan is right for each.
        """
        with self._explaining(), self.engine.connect() as connection:
            if not self.is_postgres:
                connection.exec_driver_sql("BEGIN")  # it holds up nobody; the pool ends it
                yield connection
                return
            connection.execution_options(isolation_level="REPEATABLE READ")  # said with BEGIN, which costs nothing
            told = [_PLANS] if keeps_plans else []
            if not (self.is_unbound and SEES.get() == SEES_ALL):
                told += [_TEAMS, _ROLE] if self.is_unbound else [_TEAMS]
            if told:
                connection.exec_driver_sql(f"SELECT {', '.join(told)}", {"teams": SEES.get()})
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Give the one transaction that writes; it is durable when the block has ended, and gone where it raised."""
        with self._explaining(), self._writers:
            connection = self._begin()
            try:
                writing = Writing(connection)
                yield writing
                writing.store_numbers()
                if self.is_postgres:
                    connection.commit()
                else:
                    connection.exec_driver_sql("COMMIT")
                kept = self.is_postgres
            except BaseException:  # whatever ended the block, nothing of it may stay; it goes on up
                kept = False
                if not self.is_postgres:
                    with suppress(DBAPIError):
                        connection.exec_driver_sql("ROLLBACK")
                raise
            finally:
                if kept:
                    self._kept = connection
                else:
                    connection.close()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Raise :class:`WrongSchema` where a statement failed of what the database lacks."""
        try:
            yield
        except DBAPIError as error:
            if (told := schema_fault(error, self.engine)) is None:
                raise
            raise told from error

    def _begin(self) -> Connection:
        """Return a connection in a transaction that writes.

        On PostgreSQL it is the last one again, whatever became of it meanwhile: to ask whether it is there takes as
        long as to find out.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                self._start(kept)
            except BaseException as error:  # whatever it is goes on up, but that the connection is gone
                kept.close()
                if not (isinstance(error, DBAPIError) and error.connection_invalidated):
                    raise
            else:
                return kept
        connection = self.engine.connect()
        try:
            self._start(connection)
        except BaseException:  # likewise
            connection.close()
            raise
        return connection

    def require_file(self) -> None:
        """Return if SQLite's file is the one that is open. Raises :class:`ReplacedFile`."""
        if self._file is not None:
            self._file.require()

    def _start(self, connection: Connection) -> None:
        if not self.is_postgres:
            self.require_file()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(_BEGIN if self.is_unbound else _BEGIN_SEEING)

    def close(self) -> None:
        """Close every connection."""
        with self._writers:
            if self._kept is not None:
                self._kept.close()
                self._kept = None
        self.engine.dispose()


def address_of(text: str) -> URL:
    """Return an address with the driver that is installed. Raises ``ConfigurationError`` for any other database."""
    hint = "write sqlite:///folder/service.db or postgresql://user@host:5432/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "database-address", f"'{_hidden(text)}' is no address of a database", hint=hint
        ) from error
    match url.get_backend_name():
        case "sqlite":
            return url.set(drivername="sqlite")
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
        case other:
            raise ConfigurationError("database-address", f"the service knows no database '{other}'", hint=hint)


def is_absent(text: str) -> bool:
    """Tell whether an address names a file of SQLite that is not there: opening it makes an empty one."""
    url = address_of(text)
    return url.get_backend_name() == "sqlite" and bool(url.database) and not Path(str(url.database)).exists()


def readable_by_others(text: str) -> Sequence[Path]:
    """Return those files of an address of SQLite that others than their owner may read; none of PostgreSQL."""
    url = address_of(text)
    if url.get_backend_name() != "sqlite":
        return ()
    found = []
    for ending in ("", "-wal", "-shm"):
        file = Path(f"{url.database}{ending}").absolute()
        with suppress(OSError):  # it is not there
            if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
                found.append(file)
    return found


def open_database(text: str, *, pool_size: int = 10) -> Database:
    """Open the database at an address, and see that it answers.

    Raises ``ConfigurationError`` (an address that is wrong) or ``StoreError`` (one where nothing can be opened).
    """
    url = address_of(text)
    options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size * 3, "pool_timeout": 10}
    options["hide_parameters"] = True  # an error, and so the log, does not show what was to be written
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError(
                "database-address",
                "a database in memory loses all that it was told",
                hint="name a file: sqlite:///service.db",
            )
        with suppress(OSError):  # what cannot be made cannot be opened either, which says why
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            # For its owner alone, as a backup is; SQLite's files beside it take over its mode.
            os.close(os.open(url.database, os.O_RDONLY | os.O_CREAT, 0o600))
        engine = sa.create_engine(
            url,
            poolclass=sa.QueuePool,
            connect_args={"timeout": _SQLITE_WAIT_SECONDS, "check_same_thread": False},
            **options,
        )
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        connect = {
            "connect_timeout": 5,
            "application_name": "aiflow-service",
            "options": "-c timezone=UTC",
            **_patience(),
        }
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=connect, **options)
    database = Database(engine)
    try:
        with database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
            _check_settings(connection)
            if database.is_postgres:
                database.is_unbound = bool(connection.execute(_IS_UNBOUND).scalar())
    except DBAPIError as error:
        engine.dispose()
        raise StoreError(
            "database-unreachable",
            f"the database at {url.render_as_string(hide_password=True)} cannot be opened: {error.orig}".strip(),
            hint="see that it runs, that the address is right and that its user may connect"
            if database.is_postgres
            else "name a database of SQLite, or a new file in a folder that can be written to",
            retryable=True,
        ) from error
    return database


@contextmanager
def told_failures() -> Iterator[None]:
    """Raise an ``AiflowError`` where the database fails in the middle; what is a fault of ours stays as it was."""
    try:
        yield
    except SQLAlchemyError as error:
        if (told := _failure_of(error)) is None:
            raise
        raise told from error


def _failure_of(error: SQLAlchemyError) -> AiflowError | None:
    """Return what is said of a database that failed: its own first line, and no statement; None where it did not."""
    if isinstance(error, ReplacedFile):
        return StoreError("database-replaced", str(error), hint="end the service, put its file back, start it again")
    if isinstance(error, WrongSchema):
        return ConfigurationError(
            "database-schema",
            str(error),
            hint="restore a backup into an empty database, or bring back what somebody removed",
        )
    cause = getattr(error, "orig", None) or error
    why = next(iter(str(cause).splitlines()), type(cause).__name__)
    if getattr(cause, "sqlstate", None) == _MAY_NOT:
        return ConfigurationError(
            "database-refused",
            f"the database's user may not do what the service does: {why}",
            hint="make that user the owner of the database: ALTER DATABASE name OWNER TO user",
        )
    if not isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        return None
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return None  # the statement is wrong, of a table that is not there for instance
    return StoreError(
        "database-unreachable",
        f"the database gave up: {why}; what was being changed is likely not",  # the answer to COMMIT may be lost
        hint="see that it runs and has room",
        retryable=True,
    )


@contextmanager
def driver_of(connection: Connection) -> Iterator[Any]:
    """Give the driver's own connection. What it raises comes out as SQLAlchemy would raise it; of one that is gone
    both are told."""
    dialect = connection.dialect
    assert dialect.dbapi is not None
    driver = connection.connection.dbapi_connection
    try:
        yield driver
    except dialect.dbapi.Error as error:
        is_gone = dialect.is_disconnect(error, driver, None)
        if is_gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None,
            None,
            error,
            dialect.dbapi.Error,
            hide_parameters=True,
            connection_invalidated=is_gone,
            dialect=dialect,
        ) from error


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun where they are meant to begin
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-32000",
        "temp_store=MEMORY",
        "wal_autocheckpoint=4000",  # 16 MB: pages that are written again and again go into the file once
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _patience() -> Mapping[str, Any]:
    # A connection whose other end is gone without a word is noticed within half a minute.
    return {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def _check_settings(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(sa.text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise ConfigurationError(
            "database-encoding",
            f"the database keeps texts as {encoding}, which cannot hold every name",
            hint="make one with ENCODING 'UTF8'",
        )


def _hidden(text: str) -> str:
    """Return an address without what may be a password in it."""
    before, at, behind = text.rpartition("@")
    return f"{before.split('://')[0]}://***@{behind}" if at else text
