"""What whoever holds the database's address may do without asking the service: back up, restore, move, get in."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from aiflow_sdk.errors import plural
from aiflow_service.access import EVERYTHING, Role
from aiflow_service.access.tokens import Narrowing, make_token
from aiflow_service.database import MICROSECONDS, now, open_database
from aiflow_service.database.connection import told_failures
from aiflow_service.database.migration import migrate
from aiflow_service.keeping import Transferred, back_up, move, restore

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


def run_command(given: argparse.Namespace, database: str) -> None:
    """Back up, restore or move, as was asked for, and say what was done; interrupted it leaves nothing behind.

    Raises what the action does, and what :func:`told_failures` does where the database fails in the middle.
    """
    try:
        with told_failures():
            done, what = _act(given, database)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: nothing was changed") from None
    print(f"{what}: {plural(sum(done.rows.values()), 'row')}, {done.rows.get('events', 0):,} of them events")
    if done.digest:
        print(f"SHA-256: {done.digest}")
    for finding in done.findings:
        print(f"the audit was not sound before: {finding}", file=sys.stderr)


def _act(given: argparse.Namespace, database: str) -> tuple[Transferred, str]:
    match given.command:
        case "backup":
            return back_up(database, given.file), f"backed up to {given.file}"
        case "restore":
            return restore(given.file, database, given.digest), f"restored from {given.file}"
        case _:
            return move(given.source, given.target), "moved"
