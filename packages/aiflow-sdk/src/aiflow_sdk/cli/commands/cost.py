"""``aiflow cost``: what runs used, and what that cost."""

from __future__ import annotations

from typing import Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_table, printable
from aiflow_sdk.cli.service import require_service
from aiflow_sdk.cli.times import time_of
from aiflow_sdk.errors import plural

_HOUR_SECONDS = 3600


@subcommand(
    "cost",
    """aiflow cost --by team
aiflow cost --by day --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --json""",
)
@click.option(
    "--by",
    type=click.Choice(["team", "project", "pipeline", "node", "day"]),
    default="pipeline",
    show_default=True,
    help="What a line is for.",
)
@click.option(
    "--from", "since", type=time_of, metavar="TIME", help="Attempts that ended from then on: 2026-11-20T00:00:00Z."
)
@click.option("--to", "until", type=time_of, metavar="TIME", help="Attempts that ended before then.")
@click.option("--team", metavar="TEAM", help="Of this team alone.")
@click.option("--pipeline", metavar="PIPELINE", help="Of this pipeline alone.")
def command(
    invocation: Invocation, by: str, since: str | None, until: str | None, team: str | None, pipeline: str | None
) -> None:
    """Show what runs used of processors, memory and what clusters bill, and what that cost by the service's prices.

    What was measured and what could only be estimated, from how long it took, stand apart. All environments that the
    service knows are counted. By node, the nodes of one task are told together: a task is what is measured.
    """
    query = {"by": by, "from": since, "to": until, "team": team, "pipeline": pipeline}
    told = require_service(invocation).get("cost", **query) or {}
    console = invocation.console
    if invocation.as_json:
        console.print_json(told)
        return
    items = told["items"]
    if not items:
        console.print("no attempt has ended that fits")
        return
    currency = told["currency"]
    rows = []
    for one in items:
        row = {
            name: _shown(name, value)
            for name, value in one.items()
            if name in ("team", "project", "pipeline", "environment", "task", "nodes", "day")
        }
        row |= {
            "attempts": one["attempts"],
            "took h": round(one["seconds"] / _HOUR_SECONDS, 3),
            "cpu h": _hours(one, "cpu_seconds"),
            "GiB h": _hours(one, "memory_gib_seconds"),
        }
        if any(one["billed"] for one in items):
            row["billed"] = ", ".join(f"{unit['amount']:g} {printable(unit['unit'])}" for unit in one["billed"])
        if currency:
            row |= {f"measured {currency}": one["measured_cost"], f"estimated {currency}": one["estimated_cost"]}
        rows.append(row)
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)
    estimated, unpriced = (sum(one[f"{kind}_attempts"] for one in items) for kind in ("estimated", "unpriced"))
    if estimated:
        console.print(f"{plural(estimated, 'attempt')} could not be measured: estimated from how long they took")
    unpriced_units = sorted(
        {f"{unit['cluster']} {unit['unit']}" for one in items for unit in one["billed"] if unit["unpriced_amount"]}
    )
    if currency is None:
        console.print("the service knows no prices: see docs/cost.md")
    elif unpriced:
        console.print(f"{plural(unpriced, 'attempt')} ended before the first price and cost nothing here")
    if currency is not None and unpriced_units:
        console.print(f"without a price and not counted: {printable(', '.join(unpriced_units))}")


def _shown(name: str, value: Any) -> Any:
    if name == "nodes":
        return printable(",".join(value)) if value else "not told"
    return printable(value) if value else value


def _hours(one: dict[str, Any], name: str) -> float | str:
    """Return hours; what nobody has measured is said to be so and is no zero."""
    if one["estimated_attempts"] == one["attempts"] and not one[name]:
        return "not measured"
    return round(float(one[name]) / _HOUR_SECONDS, 3)
