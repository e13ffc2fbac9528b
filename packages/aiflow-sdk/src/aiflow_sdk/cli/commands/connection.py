"""``aiflow connection``: options of what pipelines connect to, which the metadata service keeps for a team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

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


@click.group(
    "connection",
    cls=CommandGroup,
    short_help=COMMANDS["connection"],
    epilog="""aiflow connection list --env prod
aiflow connection set shop_db host=db.internal database=shop password=secret://shop_db
aiflow connection show shop_db --versions
aiflow connection remove shop_db""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List the connections that the metadata service keeps for your teams in the environment.

    `aiflow connection list` is the same.
    """
    if context.invoked_subcommand is None:
        show_items(context.ensure_object(Invocation), "connection", None)


@command.add("list", "aiflow connection list --env prod --json")
@teams_option
def list_command(invocation: Invocation, team: str | None) -> None:
    """List the connections of the environment: options, version, team."""
    show_items(invocation, "connection", team)


@command.add(
    "show",
    """aiflow connection show shop_db
aiflow connection show shop_db --versions --env prod""",
)
@click.argument("name")
@click.option("--versions", "with_versions", is_flag=True, help="All its versions, the newest first.")
@team_option
def show_command(invocation: Invocation, name: str, with_versions: bool, team: str | None) -> None:
    """Show the options of the connection NAME, or what they were."""
    show_item(invocation, "connection", name, team, with_versions=with_versions)


@command.add(
    "set",
    """aiflow connection set shop_db host=db.internal database=shop password=secret://shop_db
aiflow connection set shop_db --file shop_db.json --env prod
aiflow connection set shop_db host=db2.internal --file shop_db.json --after 3""",
)
@click.argument("name")
@click.argument("options", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="A JSON object of options, for numbers, lists and tables; -: read from the input.",
)
@after_option
@team_option
def set_command(
    invocation: Invocation,
    name: str,
    options: tuple[str, ...],
    file: TextIO | None,
    after: int | None,
    team: str | None,
) -> None:
    """Write the next version of the connection NAME: all its options, so one that is not given is gone. For editors.

    Values of KEY=VALUE are text, and stand for those of the file. No secret can be kept: of one write its reference,
    secret://name. The same options again are no new version.
    """
    if not options and file is None:
        raise click.UsageError("no option is given; for example host=db.internal, or --file shop_db.json")
    set_item(invocation, "connection", name, _read_file(file) | _read_options(options), team, after)


@command.add("remove", "aiflow connection remove shop_db --env prod")
@click.argument("name")
@team_option
def remove_command(invocation: Invocation, name: str, team: str | None) -> None:
    """Remove the connection NAME from the environment; its versions stay to be seen. For editors."""
    remove_item(invocation, "connection", name, team)


def _read_file(file: TextIO | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read()
    except ValueError:  # no text in UTF-8
        raise click.UsageError(f"{file.name} is no text in UTF-8") from None
    value = read_json(text, file.name)
    if not isinstance(value, dict):
        raise click.UsageError(f'{file.name} holds no object of options; for example {{"port": 5432}}')
    return value


def _read_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a mapping; the error names the place alone, as the text may be a secret."""
    options: dict[str, Any] = {}
    for place, text in enumerate(texts, start=1):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"what stands at place {place} behind the name is no KEY=VALUE")
        if key in options:
            raise click.UsageError(f"the option '{key}' is given twice")
        options[key] = value
    return options
