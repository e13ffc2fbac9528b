"""Brings the database's schema to this version of the service, when it starts."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from aiflow_sdk.errors import ConfigurationError
from aiflow_service.database.connection import Database

_LOCK = 0x6169666D6967  # "aifmig": one replica migrates, the others wait and find it done


def migrate(database: Database, revision: str = "head") -> None:
    """Run the migrations that are missing; every replica may call it at once.

    Raises ``ConfigurationError`` where a newer service has been here: it knows what this one does not.
    """
    with database.engine.connect() as connection:
        if database.is_postgres:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            connection.exec_driver_sql("SELECT set_config('aiflow.teams', '*', true)")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = _config(connection)
        _refuse_newer(connection, config)
        if revision == "head":
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)
        if database.is_postgres:
            connection.commit()
        else:
            connection.exec_driver_sql("COMMIT")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "aiflow_service.database:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_newer(connection: Connection, config: Config) -> None:
    scripts = ScriptDirectory.from_config(config)
    for revision in MigrationContext.configure(connection).get_current_heads():
        try:
            known = scripts.get_revision(revision) is not None
        except CommandError:
            known = False
        if not known:
            raise ConfigurationError(
                "database-newer",
                f"the database has the schema '{revision}', which this version of the service does not know",
                hint="start the newer aiflow-service that migrated it, or name another database",
            )
