"""What whoever holds the database's address may do without asking the service."""

from __future__ import annotations

from contextlib import closing

from aiflow_service.access import EVERYTHING, Role
from aiflow_service.access.tokens import Narrowing, make_token
from aiflow_service.database import MICROSECONDS, now, open_database
from aiflow_service.database.connection import told_failures
from aiflow_service.database.migration import migrate

_DAY_SECONDS = 24 * 3600


def make_admin_token(address: str, days: int = 1) -> str:
    """Return the secret of a new token that administers everything for some days: the way in where nobody has one yet.

    Raises what opening the database does, and what :func:`told_failures` does where it fails then.
    """
    with closing(open_database(address)) as database, told_failures():
        migrate(database)
        wanted = Narrowing("first administrator", None, Role.ADMIN, None, now() + days * _DAY_SECONDS * MICROSECONDS)
        with database.writing() as writing:
            return make_token(writing, EVERYTHING, wanted, "first administrator")[1]
