"""``aiflow variable``: single values that the metadata service keeps for a team's pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Invocation
from aiflow_sdk.cli.configuration import (
    after_option,
    read_json,
    remove_item,
    set_item,
    show_item,
    show_items,
    team_option,
    teams_option,
)

_HOLDS: Mapping[str, tuple[type, ...]] = {"number": (int, float), "boolean": (bool,)}


@click.group(
    "variable",
    cls=CommandGroup,
    short_help=COMMANDS["variable"],
    epilog="""aiflow variable list --env prod
aiflow variable set region eu --env prod
aiflow variable show region --versions
aiflow variable remove region""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List the variables that the metadata service keeps for your teams in the environment.

    `aiflow variable list` is the same.
    """
    if context.invoked_subcommand is None:
        show_items(context.ensure_object(Invocation), "variable", None)


@command.add("list", "aiflow variable list --env prod --json")
@teams_option
def list_command(invocation: Invocation, team: str | None) -> None:
    """List the variables of the environment: value, version, team."""
    show_items(invocation, "variable", team)


@command.add(
    "show",
    """aiflow variable show region
aiflow variable show region --versions --env prod""",
)
@click.argument("name")
@click.option("--versions", "with_versions", is_flag=True, help="All its versions, the newest first.")
@team_option
def show_command(invocation: Invocation, name: str, with_versions: bool, team: str | None) -> None:
    """Show the variable NAME, or what it was."""
    show_item(invocation, "variable", name, team, with_versions=with_versions)


@command.add(
    "set",
    """aiflow variable set region eu --env prod
aiflow variable set rows_at_once 5000 --type number
aiflow variable set region us --after 3""",
)
@click.argument("name")
@click.argument("value")
@click.option(
    "--type",
    "held",
    type=click.Choice(["text", *_HOLDS]),
    default="text",
    show_default=True,
    help="What VALUE is; a boolean is true or false.",
)
@after_option
@team_option
def set_command(invocation: Invocation, name: str, value: str, held: str, after: int | None, team: str | None) -> None:
    """Write VALUE as the next version of the variable NAME; for editors.

    No secret can be kept: of one write its reference, secret://name. The same value again is no new version.
    """
    set_item(invocation, "variable", name, _read(value, held), team, after)


@command.add("remove", "aiflow variable remove region --env prod")
@click.argument("name")
@team_option
def remove_command(invocation: Invocation, name: str, team: str | None) -> None:
    """Remove the variable NAME from the environment; its versions stay to be seen. For editors."""
    remove_item(invocation, "variable", name, team)


def _read(text: str, held: str) -> Any:
    if held == "text":
        return text
    value = read_json(text, f"what is given as a {held}")
    if not isinstance(value, _HOLDS[held]) or isinstance(value, bool) != (held == "boolean"):
        raise click.UsageError(f"what is given is no {held}; for example {'true' if held == 'boolean' else '0.5'}")
    return value
