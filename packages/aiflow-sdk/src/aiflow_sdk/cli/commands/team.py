"""``aiflow team``: teams, and who has which role in them."""

from __future__ import annotations

from typing import Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Invocation
from aiflow_sdk.cli.commands.token import ROLES
from aiflow_sdk.cli.service import require_service, show_rows, tell


@click.group(
    "team",
    cls=CommandGroup,
    short_help=COMMANDS["team"],
    epilog="""aiflow team list
aiflow team members growth
aiflow team add growth
aiflow team give growth 12 editor""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List your teams and your role in each.

    `aiflow team list` is the same.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation))


@command.add("list", "aiflow team list --json")
def list_command(invocation: Invocation) -> None:
    """List your teams and your role in each."""
    _list(invocation)


@command.add("add", "aiflow team add growth")
@click.argument("name")
def add_command(invocation: Invocation, name: str) -> None:
    """Make the team NAME; for administrators."""
    made = require_service(invocation).post("teams", {"name": name})
    tell(invocation, made, f"there is a team '{made['name']}' now")


@command.add("members", "aiflow team members growth --json")
@click.argument("team")
def members_command(invocation: Invocation, team: str) -> None:
    """List who is in TEAM, people and service accounts, with their numbers and roles."""
    if require_service(invocation).get(f"teams/{_part(team)}") is None:
        raise click.UsageError(f"you are in no team '{team}'; see aiflow team list")
    show_rows(invocation, f"teams/{_part(team)}/members", _member_row, "no members")


@command.add("give", "aiflow team give growth 12 editor")
@click.argument("team")
@click.argument("number", type=click.IntRange(min=1))
@click.argument("role", type=click.Choice(ROLES))
def give_command(invocation: Invocation, team: str, number: int, role: str) -> None:
    """Give the principal NUMBER a role in TEAM, in place of one that was given before; for owners.

    Whoever has signed in once has a number; for oneself `aiflow team list` tells it.
    """
    told = require_service(invocation).put(f"teams/{_part(team)}/members/{number}", {"role": role})
    tell(invocation, told, f"{number} is {role} in {team}")


@command.add("take", "aiflow team take growth 12")
@click.argument("team")
@click.argument("number", type=click.IntRange(min=1))
def take_command(invocation: Invocation, team: str, number: int) -> None:
    """Take the role away that the principal NUMBER was given in TEAM; what its groups give stays. For owners."""
    told = require_service(invocation).delete(f"teams/{_part(team)}/members/{number}")
    tell(invocation, told, f"{number} has no role in {team} any more but what groups give")


def _list(invocation: Invocation) -> None:
    if not invocation.as_json:
        me = require_service(invocation).get("whoami") or {}
        number = f" (principal {me['principal']})" if me.get("principal") else ""
        invocation.console.print(f"you are {invocation.console.style(me.get('name', 'nobody'), 'bold')}{number}")
    show_rows(invocation, "teams", lambda one: {"team": one["name"], "role": one["role"]}, "you are in no team")


def _member_row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": one["principal"],
        "name": one["name"],
        "kind": one["kind"],
        "role": one["role"],
        "by": one["source"],
        "since": one["since"],
    }


def _part(team: str) -> str:
    """Return a team's name as a part of an address."""
    from urllib.parse import quote

    return quote(team, safe="")
