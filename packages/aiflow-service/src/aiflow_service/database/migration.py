"""Brings the database's schema to this version of the service, when it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from aiflow_sdk.errors import ConfigurationError
from aiflow_service.database.connection import Database
from aiflow_service.database.schema import Schema, require_schema, schema_of

_LOCK = 0x6169666D6967  # "aifmig": one replica migrates, the others wait and find it done


def migrate(database: Database, revision: str = "head") -> None:
    """Run the migrations that are missing; every replica may call it at once.

    Raises ``ConfigurationError`` where a newer service has been here: it knows what this one does not; and
    :class:`WrongSchema` where something is absent that an earlier migration has made.
    """
    with migrating(database) as connection:
        _refuse_newer(connection)
        if revision == "head":
            upgrade(connection)
            require_schema(connection)
        else:
            downgrade(connection, revision)


@contextmanager
def migrating(database: Database) -> Iterator[Connection]:
    """Give the one transaction that changes the schema; all of it is there when the block has ended, or nothing."""
    with database.engine.connect() as connection:
        if database.is_postgres:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            connection.exec_driver_sql("SELECT set_config('aiflow.teams', '*', true)")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection  # where it raises, the pool rolls back
        if database.is_postgres:
            connection.commit()
        else:
            connection.exec_driver_sql("COMMIT")


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to one, in the transaction that :func:`migrating` gave."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo the migrations after one, likewise; ``base`` is before the first."""
    command.downgrade(_config(connection), revision)


def revision_of(connection: Connection) -> str | None:
    """Return the last migration that a database has, None where it has none.

    Raises ``ConfigurationError`` where a newer service has been here.
    """
    _refuse_newer(connection)
    return MigrationContext.configure(connection).get_current_revision()


def schema_at(revision: str) -> Schema:
    """Return which tables and columns a database has that was migrated so far: such a one is made, in memory."""
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            upgrade(connection, revision)
            return schema_of(connection)
    finally:
        engine.dispose()


def is_known(revision: str) -> bool:
    """Tell whether this version of the service has a migration."""
    try:
        return ScriptDirectory.from_config(_config(None)).get_revision(revision) is not None
    except CommandError:
        return False


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "aiflow_service.database:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_newer(connection: Connection) -> None:
    for revision in MigrationContext.configure(connection).get_current_heads():
        if not is_known(revision):
            raise ConfigurationError(
                "database-newer",
                f"the database has the schema '{revision}', which this version of the service does not know",
                hint="start the newer aiflow-service that migrated it, or name another database",
            )
