"""Commands of ``python -m aiflow_service`` for whoever runs it: back up, restore, move."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from aiflow_sdk.errors import plural
from aiflow_service.database.connection import told_failures
from aiflow_service.keeping import Transferred, back_up, move, restore

_INTERRUPTED = 130
"""The exit code of what Ctrl-C stopped, as of `aiflow`."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to those of the service; without one it serves."""
    commands = parser.add_subparsers(dest="command", title="instead of serving", metavar="COMMAND")
    backing_up = commands.add_parser("backup", help="write all that a database holds to a file; services may go on")
    backing_up.add_argument("file", type=Path, help="a file that is not there yet")
    restoring = commands.add_parser("restore", help="bring what such a file holds into an empty database")
    restoring.add_argument("file", type=Path)
    restoring.add_argument(
        "--digest", type=_digest, metavar="SHA256", help="what the file has to have, as backup printed it"
    )
    moving = commands.add_parser("move", help="bring all that a database holds into an empty one, of either kind")
    moving.add_argument("--from", dest="source", required=True, metavar="URL", help="no service may run on it")
    moving.add_argument("--to", dest="target", required=True, metavar="URL")
    for one in (backing_up, restoring):
        one.add_argument("--database", metavar="URL", default=argparse.SUPPRESS, help="as for serving")


def run_command(given: argparse.Namespace, database: str) -> int:
    """Do what was asked for and say what was done; 130 where it was interrupted, which leaves nothing behind.

    Raises what the action does, and what :func:`told_failures` does where the database fails in the middle.
    """
    try:
        with told_failures():
            done, what = _act(given, database)
    except KeyboardInterrupt:
        print("interrupted: nothing was changed", file=sys.stderr)
        return _INTERRUPTED
    _tell(done, what)
    return 0


def _act(given: argparse.Namespace, database: str) -> tuple[Transferred, str]:
    match given.command:
        case "backup":
            return back_up(database, given.file), f"backed up to {given.file}"
        case "restore":
            return restore(given.file, database, given.digest), f"restored from {given.file}"
        case _:
            return move(given.source, given.target), "moved"


def _tell(done: Transferred, what: str) -> None:
    print(f"{what}: {plural(sum(done.rows.values()), 'row')}, {done.rows.get('events', 0):,} of them events")
    if done.digest:
        print(f"SHA-256: {done.digest}")
    for finding in done.findings:
        print(f"the audit was not sound before: {finding}", file=sys.stderr)


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"64 hexadecimal digits, not {text!r}")
    return text
