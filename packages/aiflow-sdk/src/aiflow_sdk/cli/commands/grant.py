"""``aiflow grant``: what one team lets another read or write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Invocation
from aiflow_sdk.cli.service import require_service, show_rows, tell

if TYPE_CHECKING:
    from aiflow_sdk.service import Service


@click.group(
    "grant",
    cls=CommandGroup,
    short_help=COMMANDS["grant"],
    epilog="""aiflow grant list
aiflow grant add raw.orders --to growth
aiflow grant add "raw.*" --from shop --to growth --access write --until 2027-01-01T00:00:00Z
aiflow grant remove 7""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List what your teams have granted, and what was granted to them; those that are over too.

    `aiflow grant list` is the same.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation))


@command.add("list", "aiflow grant list --json")
def list_command(invocation: Invocation) -> None:
    """List what your teams have granted, and what was granted to them; those that are over too."""
    _list(invocation)


@command.add(
    "add",
    """aiflow grant add raw.orders --to growth
aiflow grant add "raw.*" --from shop --to growth --access write --until 2027-01-01T00:00:00Z""",
)
@click.argument("dataset")
@click.option("--to", "to_team", metavar="TEAM", required=True, help="Who is let.")
@click.option("--from", "from_team", metavar="TEAM", help="Whose the dataset is (default: the one team that you own).")
@click.option(
    "--access",
    type=click.Choice(["read", "write"]),
    default="read",
    show_default=True,
    help="What is let; who may write may read.",
)
@click.option("--until", metavar="TIME", help="When it ends: 2027-01-01T00:00:00Z.")
@click.option("--namespace", metavar="NAME", help="Of datasets in this namespace alone; that of the lake is onelake.")
def add_command(
    invocation: Invocation,
    dataset: str,
    to_team: str,
    from_team: str | None,
    access: str,
    until: str | None,
    namespace: str | None,
) -> None:
    """Let another team read, or read and write, DATASET; raw.* is all whose name begins with raw. (put it in quotes).

    For owners of the team that it belongs to. It counts with the next try of a run or deployment.
    """
    service = require_service(invocation)
    wanted = {
        "from_team": from_team or _own_team(service),
        "to_team": to_team,
        "dataset": dataset,
        "access": access,
        "until": until,
        "namespace": namespace,
    }
    made = service.post("grants", {key: value for key, value in wanted.items() if value is not None})
    ends = f" until {made['until']}" if made["until"] else ""
    said = f"grant {made['id']}: {made['to_team']} may {made['access']} {made['dataset']} of {made['from_team']}{ends}"
    tell(invocation, made, said)


@command.add("remove", "aiflow grant remove 7")
@click.argument("number", type=click.IntRange(min=1))
def remove_command(invocation: Invocation, number: int) -> None:
    """Take the grant NUMBER back; for owners of the team that gave it.

    It holds at once where the service is asked; tasks may go by what they heard within five minutes before.
    """
    require_service(invocation).delete(f"grants/{number}")
    tell(invocation, {"id": number, "status": "revoked"}, f"grant {number} is taken back")


def _own_team(service: Service) -> str:
    """Return the one team that the caller owns. Raises ``UsageError`` where there is none, or several."""
    me = service.get("whoami") or {}
    owned = [one["name"] for one in me.get("teams", ()) if one["role"] in ("owner", "admin")]
    if len(owned) != 1:
        several = f"you own several teams: {', '.join(owned[:10])}" if owned else "you own no team"
        raise click.UsageError(f"{several}; say with --from whose the dataset is")
    return str(owned[0])


def _list(invocation: Invocation) -> None:
    show_rows(invocation, "grants", _row, "no grants")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": one["id"],
        "dataset": one["dataset"],
        "namespace": one["namespace"],
        "access": one["access"],
        "from": one["from_team"],
        "to": one["to_team"],
        "until": "taken back" if one["revoked_at"] else one["until"],
        "by": one["created_by"],
    }
