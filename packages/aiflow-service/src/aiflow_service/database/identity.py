"""What tells this database from every other one, so that senders notice that they talk to another.

A number among the counters: it moves with the database, and a restored backup gets one of its own.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.database.connection import Database, Writing
from aiflow_service.database.tables import counters

_NAME = "service"
_BITS = 62


def identity_of(connection: Connection) -> str:
    """Return the identity of a database that :func:`ensure_identity` was called for."""
    value = connection.execute(sa.select(counters.c.value).where(counters.c.name == _NAME)).scalar_one()
    return f"{value:016x}"


def ensure_identity(database: Database) -> None:
    """Give a database an identity where it has none."""
    with database.writing() as writing:
        if not writing.last_number(_NAME):
            renew_identity(writing)


def renew_identity(writing: Writing) -> None:
    """Give a database another identity: it holds what another one held at some time."""
    writing.set_number(_NAME, secrets.randbits(_BITS) | 1)
