"""``aiflow env``: the environments of the project, how their tables differ, and removing one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Exit, Invocation
from aiflow_sdk.cli.console import Console, format_bytes, format_rows, format_table, printable
from aiflow_sdk.cli.diagnostics import print_errors
from aiflow_sdk.errors import AiflowError, ConfigurationError, plural

if TYPE_CHECKING:
    from aiflow_sdk.local.comparison import TableDifference
    from aiflow_sdk.local.environments import EnvironmentFacts
    from aiflow_sdk.plugins import TableFacts

_SHOWN_PARTITIONS = 10


@click.group(
    "env",
    cls=CommandGroup,
    short_help=COMMANDS["env"],
    epilog="""aiflow env
aiflow env --json
aiflow env diff dev
aiflow env drop pr-123""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List the environments: those of aiflow.toml, and the copies of dev that have a lake.

    The one that commands use has a star. `aiflow env list` is the same.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation))


@command.add(
    "list",
    """aiflow env list
aiflow env list --json""",
)
def list_command(invocation: Invocation) -> None:
    """List the environments, as `aiflow env` does: what their lakes hold, when they were written last, and whether they
    expire."""
    _list(invocation)


@command.add(
    "diff",
    """aiflow env diff dev
aiflow env diff dev-ana dev --json""",
)
@click.argument("name")
@click.argument("other", required=False)
def diff_command(invocation: Invocation, name: str, other: str | None) -> None:
    """Show how the tables of NAME differ from those of OTHER (default: the environment that it reads from).

    Rows, bytes, versions, columns and partitions are compared as the tables' logs tell them; no row is read, so a
    partition with as many rows and bytes counts as alike.
    A table that NAME lacks and reads from OTHER is no difference.
    """
    from aiflow_sdk.local.comparison import compare_environments

    invocation.configure("offline", names=invocation.project.environments)
    here = invocation.project.environment(name)
    if other is None and here.reads_from is None:
        raise ConfigurationError(
            "bad-usage", f"'{name}' reads from no environment", hint=f"name the other: aiflow env diff {name} OTHER"
        )
    there = invocation.project.environment(other or here.reads_from)
    found = compare_environments(here, there)
    console = invocation.console
    if invocation.as_json:
        console.print_json({"here": here.name, "there": there.name, "tables": [one.to_dict() for one in found]})
        return
    for one in found:
        if not one.is_alike:
            for line in _told(one, here.name, there.name):
                console.print(printable(line))
    alike = sum(one.is_alike for one in found)
    through = sum(one.place == "through" for one in found)
    verb = "differs" if alike == len(found) - 1 else "differ"
    differing = f"{plural(len(found) - alike, 'table')} of {len(found)} {verb}"
    read = f", {through} not written in {here.name} and read from {there.name}" if through else ""
    console.print(f"{differing} between {here.name} and {there.name}, {alike - through} alike{read}")


@command.add(
    "drop",
    """aiflow env drop pr-123
aiflow env drop test --yes
aiflow env drop --expired""",
)
@click.argument("name", required=False)
@click.option("--expired", is_flag=True, help="All that were not written to for their keep_days; dev never expires.")
@click.option("--yes", is_flag=True, help="Do not ask, also where aiflow.toml names the environment.")
def drop_command(invocation: Invocation, name: str | None, expired: bool, yes: bool) -> None:
    """Remove the lake and the staged frames of environment NAME, and nothing outside them.

    One that others read from is refused, and one that a run of this project is writing to. For one that aiflow.toml
    names, its name is to be typed once more.
    """
    from aiflow_sdk.local.environments import check_removable, environment_facts, expired_environments

    if expired == (name is not None):
        raise ConfigurationError(
            "bad-usage", "name one environment, or --expired", hint="aiflow env drop NAME, or aiflow env drop --expired"
        )
    invocation.configure("offline", names=invocation.project.environments)
    project = invocation.project
    if name is None:
        _drop(invocation, list(expired_environments(project, time.time())))
        return
    check_removable(project, name)
    facts = environment_facts(project, name)
    if facts.error is not None:
        raise facts.error
    if not (facts.is_copy or yes or not facts.changed):
        _confirm(invocation, facts)
    _drop(invocation, [facts], raising=True)


def _drop(invocation: Invocation, found: list[EnvironmentFacts], *, raising: bool = False) -> None:
    """Remove environments one after the other; what cannot be is told once the others are gone."""
    from aiflow_sdk.local.environments import drop_environment

    console, told, errors = invocation.console, [], []
    for facts in found:
        if not invocation.as_json and facts.changed:
            console.print(_removal(facts))
        try:
            usage = drop_environment(invocation.project, facts.name)
        except AiflowError as error:
            if raising:
                raise
            errors.append(error.to_dict())
            continue
        lake = facts.environment.lake_address
        told.append({"name": facts.name, "lake": lake, "objects": usage.objects, "bytes": usage.bytes})
        if not invocation.as_json:
            console.print(f"removed {facts.name}" if usage.objects else f"{facts.name} has no lake: nothing to remove")
    if invocation.as_json:
        console.print_json({"removed": told, "errors": errors})
    elif errors:
        print_errors(Console(sys.stderr), errors, invocation.root)
    elif not found:
        console.print("no environment has expired")
    if errors:
        raise Exit(1)


def _removal(facts: EnvironmentFacts) -> str:
    assert facts.usage is not None
    size = f"{plural(facts.usage.objects, 'file')}, {format_bytes(facts.usage.bytes)}"
    tables = plural(facts.tables or 0, "table")
    return f"{facts.name}: {tables}, {size} in {facts.environment.lake_address}, last written {_moment(facts.changed)}"


def _confirm(invocation: Invocation, facts: EnvironmentFacts) -> None:
    """Ask for the name. Raises ``ConfigurationError`` where nobody can be asked, or says another."""
    console = invocation.console
    typed = None
    if console.is_terminal and sys.stdin.isatty() and not invocation.as_json:
        console.print(_removal(facts))
        typed = click.prompt("all of this goes; type the environment's name", default="", show_default=False)
    if typed != facts.name:
        raise ConfigurationError(
            "not-confirmed",
            f"'{facts.name}' is named in aiflow.toml, so it is not removed by mistake",
            hint=f"aiflow env drop {facts.name} --yes",
        )


def _list(invocation: Invocation) -> None:
    from aiflow_sdk.local.environments import list_environments

    invocation.configure("offline", names=invocation.project.environments)
    meant = invocation.environment.name
    found = list_environments(invocation.project, meant)
    console = invocation.console
    if invocation.as_json:
        console.print_json([{**facts.to_dict(), "current": facts.name == meant} for facts in found])
        return
    rows = [
        {
            "": "*" if facts.name == meant else "",
            "environment": facts.name,
            "lake": facts.environment.lake_address,
            "reads from": facts.environment.reads_from or "",
            "tables": "?" if facts.tables is None else str(facts.tables),
            "bytes": "?" if facts.usage is None else format_bytes(facts.usage.bytes),
            "last write": _moment(facts.changed),
            "expires": _moment(facts.expires),
            "spark": facts.environment.spark or "embedded",
            "clusters": ", ".join(facts.environment.clusters),
            "from the service": ", ".join(f"{one.name} v{one.version}" for one in facts.environment.handed_out),
        }
        for facts in found
    ]
    if not any(facts.environment.handed_out for facts in found):
        for row in rows:
            del row["from the service"]
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)
    if errors := [facts.error.to_dict() for facts in found if facts.error]:
        print_errors(Console(sys.stderr), errors, invocation.root)


def _told(one: TableDifference, here: str, there: str) -> Iterator[str]:
    match one.place:
        case "here":
            yield f"{one.table}  only in {here}: {_size(one.here)}"
        case "there":
            yield f"{one.table}  only in {there}: {_size(one.there)}"
        case _:
            yield f"{one.table}  {there}: {_size(one.there)}  {here}: {_size(one.here)}"
    for name, kind in one.added.items():
        yield f"  + column {name} {kind}"
    for name, kind in one.removed.items():
        yield f"  - column {name} {kind}"
    for name, (old, new) in one.changed.items():
        yield f"  ~ column {name}: {old} in {there}, {new} in {here}"
    for name, (theirs, mine) in list(one.partitions.items())[:_SHOWN_PARTITIONS]:
        both = f"{_rows(mine)} in both, in other files"
        yield f"  ~ {name or 'the table'}: " + (
            both if mine == theirs else f"{_rows(theirs)} in {there}, {_rows(mine)} in {here}"
        )
    if len(one.partitions) > _SHOWN_PARTITIONS:
        yield f"  and {plural(len(one.partitions) - _SHOWN_PARTITIONS, 'more partition')}"


def _size(facts: TableFacts | None) -> str:
    assert facts is not None  # of a table that is there
    return f"{format_rows(facts.rows)}, {format_bytes(facts.bytes)}, version {facts.version}"


def _rows(number: int | None) -> str:
    return "none" if number is None else format_rows(number)


def _moment(moment: Any) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M") if moment else ""
