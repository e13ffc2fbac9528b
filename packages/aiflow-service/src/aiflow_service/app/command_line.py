"""What ``python -m aiflow_service`` may be told, and the doing of it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from aiflow_sdk.errors import AiflowError
from aiflow_service.app.administration import make_admin_token, run_command
from aiflow_service.app.file import read_settings_file
from aiflow_service.app.server import serve
from aiflow_service.app.settings import DEFAULT_PORT, FILES_LIE, GREATEST_PORT, Settings, default_database
from aiflow_service.database.connection import address_of, is_absent


def run(arguments: list[str] | None) -> int:
    """Serve until told to end, or do what else was asked for: a command, or ``--admin-token``.

    0 when it was done, 1 when it was not, which is said on standard error. Raises ``KeyboardInterrupt`` where Ctrl-C
    stopped anything but serving, for which the process ends with 130, and ``SystemExit`` (2) where it is used wrongly.
    """
    given = _parser().parse_args(arguments)
    database = given.database or default_database(Path())
    try:
        if given.command is not None:
            run_command(given, database)
            return 0
        if given.admin_token:
            if is_absent(database):
                print(f"there was no database at {address_of(database).database}: a new one is made", file=sys.stderr)
            print(make_admin_token(database, given.admin_token))
            return 0
        file = read_settings_file(given.settings)
        settings = Settings(
            database,
            given.host,
            given.port,
            given.log_level,
            file.sign_in,
            audit_checkpoints=given.audit_checkpoints,
            audit_key=given.audit_key,
            prices=given.prices,
            retention=file.retention,
        )
        serve(settings, lambda address: print(f"aiflow service: {address}", flush=True))
    except AiflowError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiflow_service",
        description="The metadata service of aiflow.",
        epilog="It ends with 0 when all was done, 1 when not, 2 when used wrongly, 130 when Ctrl-C stopped it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default %(default)s)")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default %(default)s)")
    parser.add_argument(
        "--database", help="sqlite:///FILE or postgresql://… (default .aiflow/service.db in this folder)"
    )
    parser.add_argument(
        "--audit-checkpoints",
        metavar="ADDRESS",
        help=f"where they are kept (default audit-checkpoints {FILES_LIE})",
    )
    parser.add_argument(
        "--audit-key", metavar="FILE", type=Path, help=f"what signs them (default audit.key {FILES_LIE})"
    )
    parser.add_argument("--prices", metavar="FILE", type=Path, help="what processors and memory cost, as TOML")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument(
        "--settings",
        type=Path,
        help="a TOML file with [sign_in], how people sign in, and [retention], how long things are kept",
    )
    parser.add_argument(
        "--admin-token",
        metavar="DAYS",
        type=_days,
        nargs="?",
        const=1,
        help="print a new administrator's token for a day, or so many (at most 366), and end",
    )
    _add_commands(parser)
    return parser


def _add_commands(parser: argparse.ArgumentParser) -> None:
    """Add what may be done instead of serving."""
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


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= GREATEST_PORT):
        raise argparse.ArgumentTypeError(f"a port from 1 to {GREATEST_PORT}, or 0 for a free one, not {text!r}")
    return int(text)


def _days(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 366):
        raise argparse.ArgumentTypeError(f"a number of days from 1 to 366, not {text!r}")
    return int(text)


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"64 hexadecimal digits, not {text!r}")
    return text
