"""``aiflow token``: the tokens of the metadata service."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Invocation
from aiflow_sdk.cli.service import require_service, show_rows, tell
from aiflow_sdk.cli.times import NUMBER
from aiflow_sdk.errors import plural

ROLES = ("viewer", "operator", "editor", "owner", "admin")
"""What a member may do, each all that the one before may and more."""

_HOUR = timedelta(hours=1)


@click.group(
    "token",
    cls=CommandGroup,
    short_help=COMMANDS["token"],
    epilog="""aiflow token list
aiflow token create airflow --team growth --role operator --account airflow --in-environment prod
aiflow token revoke 12""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List your tokens, and those of the teams that you own; without their secrets.

    `aiflow token list` is the same.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation))


@command.add("list", "aiflow token list --json")
def list_command(invocation: Invocation) -> None:
    """List your tokens, and those of the teams that you own; without their secrets."""
    _list(invocation)


@command.add(
    "create",
    """aiflow token create laptop --team growth --role editor
aiflow token create airflow --team growth --role operator --account airflow --in-environment prod --days 365""",
)
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What it may do at most.")
@click.option("--team", metavar="TEAM", help="In which team (default: in all that you may act for).")
@click.option("--account", metavar="NAME", help="The service account of the team that it acts for (default: you).")
@click.option("--in-environment", "within", metavar="NAME", help="The only one that it may change things in.")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How long it is good.")
def create_command(
    invocation: Invocation,
    name: str,
    role: str,
    team: str | None,
    account: str | None,
    within: str | None,
    days: int,
) -> None:
    """Make a token called NAME and show its secret, which is shown this once."""
    wanted = {"name": name, "role": role, "team": team, "account": account, "environment": within, "days": days}
    made = require_service(invocation).post(
        "tokens", {key: value for key, value in wanted.items() if value is not None}
    )
    ends = datetime.fromisoformat(made["expires_at"])
    asked = datetime.now(ends.tzinfo) + timedelta(days=days)
    # Clocks of two machines differ by some minutes.
    cut = f", as long as the token that made it, and not {plural(days, 'day')}" if asked - ends > _HOUR else ""
    said = f"token {made['id']} '{name}', good until {made['expires_at']}{cut}; its secret is not shown again"
    tell(invocation, made, made["secret"], said)


@command.add("revoke", "aiflow token revoke 12")
@click.argument("number", type=NUMBER)
def revoke_command(invocation: Invocation, number: int) -> None:
    """Revoke the token NUMBER and those that were made with it, at once."""
    require_service(invocation).delete(f"tokens/{number}")
    tell(invocation, {"id": number, "status": "revoked"}, f"token {number} is revoked")


def _list(invocation: Invocation) -> None:
    show_rows(invocation, "tokens", _row, "no tokens")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": one["id"],
        "name": one["name"],
        "for": one["principal"],
        "team": one["team"] or "every team",
        "role": one["role"],
        "environment": one["environment"],
        "until": "revoked" if one["revoked_at"] else one["expires_at"],
        "used": one["used_at"],
    }
