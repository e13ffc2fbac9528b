"""``aiflow claim``: whose projects, namespaces and tables are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Invocation
from aiflow_sdk.cli.console import printable
from aiflow_sdk.cli.datasets import namespace_option, require_dataset
from aiflow_sdk.cli.service import require_service, show_rows, tell
from aiflow_sdk.cli.times import NUMBER
from aiflow_sdk.errors import did_you_mean

if TYPE_CHECKING:
    from aiflow_sdk.service import Service


@click.group(
    "claim",
    cls=CommandGroup,
    short_help=COMMANDS["claim"],
    epilog="""aiflow claim list
aiflow claim show raw.orders
aiflow claim give raw.orders growth
aiflow claim release raw.orders
aiflow claim add namespace s3://shop-lake shop
aiflow claim remove 7""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List which projects and namespaces your teams claim.

    `aiflow claim list` is the same.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation))


@command.add("list", "aiflow claim list --json")
def list_command(invocation: Invocation) -> None:
    """List which projects and namespaces your teams claim."""
    _list(invocation)


@command.add("show", "aiflow claim show raw.orders --json")
@click.argument("table")
@namespace_option
def show_command(invocation: Invocation, table: str, namespace: str | None) -> None:
    """Tell whose TABLE is, and by what: a team that writes it or has read it alone, and who claims its namespace."""
    service = require_service(invocation)
    found = require_dataset(service, table, namespace)
    claim = _claim_of(found, service.pages("claims", limit=500))
    tell(invocation, {**found, "claim": claim}, *_told(found, claim))


@command.add("give", "aiflow claim give raw.orders growth")
@click.argument("table")
@click.argument("team")
@namespace_option
def give_command(invocation: Invocation, table: str, team: str, namespace: str | None) -> None:
    """Give TABLE to TEAM, as if that one had been the first to write it; for administrators.

    What another team has said of its columns goes, until TEAM writes it the next time; that team then needs a grant.
    """
    service = require_service(invocation)
    found = require_dataset(service, table, namespace)
    _refuse_misspelt(service, team)
    given = service.put(f"datasets/{found['id']}/owner", {"team": team})
    before = f", and was {found['team']}'s" if found["team"] != given["team"] else ""
    tell(invocation, given, f"{_name(given)} is {given['team']}'s now{before}")


@command.add("release", "aiflow claim release raw.orders")
@click.argument("table")
@namespace_option
def release_command(invocation: Invocation, table: str, namespace: str | None) -> None:
    """Make TABLE that of the next team that writes it, or that claims its namespace by then; for administrators.

    Until then its team looks after it, and every team may read and write it.
    """
    service = require_service(invocation)
    found = require_dataset(service, table, namespace)
    released = service.delete(f"datasets/{found['id']}/owner")
    tell(invocation, released, f"{_name(released)} will be that of the next team that writes it")


@command.add(
    "add",
    """aiflow claim add project shop shop
aiflow claim add namespace s3://shop-lake shop""",
)
@click.argument("kind", type=click.Choice(["project", "namespace"]))
@click.argument("name")
@click.argument("team")
def add_command(invocation: Invocation, kind: str, name: str, team: str) -> None:
    """Say that the project NAME, or all namespaces whose names begin so, are TEAM's; for administrators.

    It counts for what is heard of from now on: of tables that somebody has written already see give.
    """
    service = require_service(invocation)
    _refuse_misspelt(service, team)
    made = service.post("claims", {"kind": kind, "name": name, "team": team})
    tell(
        invocation, {**made, "kind": kind, "name": name, "team": team}, f"claim {made['id']}: {kind} {name} is {team}'s"
    )


@command.add("remove", "aiflow claim remove 7")
@click.argument("number", type=NUMBER)
def remove_command(invocation: Invocation, number: int) -> None:
    """Take the claim NUMBER back; what came in under it stays the team's. For administrators."""
    require_service(invocation).delete(f"claims/{number}")
    tell(invocation, {"id": number, "status": "dropped"}, f"claim {number} is taken back")


def _list(invocation: Invocation) -> None:
    show_rows(invocation, "claims", _row, "no claims")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": one["id"],
        "kind": one["kind"],
        "name": one["name"],
        "team": one["team"],
        "since": one["created_at"],
    }


def _refuse_misspelt(service: Service, team: str) -> None:
    """Return unless a team is called nearly so; of others the service says whether they are there."""
    names = [one["name"] for one in service.pages("teams", limit=500)]
    if team not in names and (near := did_you_mean(team, names)):
        raise click.UsageError(f"there is no team '{team}'; {near}")


def _claim_of(dataset: Mapping[str, Any], claims: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the claim on a dataset's namespace that counts: the longest that it begins with."""
    mine = (one for one in claims if one["kind"] == "namespace" and dataset["namespace"].startswith(one["name"]))
    return max(mine, key=lambda one: len(one["name"]), default=None)


def _told(dataset: Mapping[str, Any], claim: Mapping[str, Any] | None) -> Iterable[str]:
    if dataset["is_owned"]:
        yield f"{_name(dataset)} is {dataset['team']}'s"
    else:
        yield f"{_name(dataset)} is nobody's: {dataset['team']} looks after it until a team writes it"
    if claim is not None:
        yield printable(f"its namespace is claimed by {claim['team']}: claim {claim['id']}, {claim['name']}")


def _name(dataset: Mapping[str, Any]) -> str:
    return printable(f"{dataset['name']} ({dataset['namespace']})")
