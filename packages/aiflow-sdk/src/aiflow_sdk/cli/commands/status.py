"""``aiflow status``: the partitions of a table, and why some of them are to be made again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_next, format_table
from aiflow_sdk.cli.partitions import COLOURS, open_ledger

_SHOWN = 50


@subcommand(
    "status",
    """aiflow status feature.daily_revenue --env prod
aiflow status feature.daily_revenue --env prod --state stale --json""",
)
@click.argument("table")
@click.option("--state", type=click.Choice(list(COLOURS)), help="List the partitions in this state alone.")
@click.option("--all", "is_all", is_flag=True, help="List the partitions that are as they should be, too.")
def command(invocation: Invocation, table: str, state: str | None, is_all: bool) -> None:
    """Show which partitions of TABLE are current, stale (made of something else than is there now, or by other code),
    incomplete (a run for it has not ended well) or absent, and why.

    The environment's metadata service knows it, as far as runs have told it.
    """
    found = list(open_ledger(invocation, table).partitions(state))
    console = invocation.console
    if invocation.as_json:
        console.print_json(found)
        return
    counted = Counter(one["state"] for one in found)
    shown = [one for one in found if is_all or state or one["state"] != "current"]
    rows = [_row(one, several=len({(one["project"], one["pipeline"]) for one in found}) > 1) for one in shown[:_SHOWN]]
    if rows:
        for line in format_table(console, rows, list(rows[0])):
            console.print(line)
    if len(shown) > _SHOWN:
        console.print(f"  and {len(shown) - _SHOWN:,} more; --json has all")
    words = ", ".join(f"{console.style(f'{counted[one]:,} {one}', COLOURS[one])}" for one in COLOURS if counted[one])
    due = any(one["state"] != "current" for one in found)
    commands = [invocation.next_command("repair", table, "--down")] if due else []
    for line in format_next(console, words or "no partition is known", commands) if commands else [words or "none"]:
        console.print(line)


def _row(one: dict[str, Any], *, several: bool) -> dict[str, Any]:
    made = one["made"]
    return {
        "partition": one["partition"] or "-",
        **({"pipeline": f"{one['project']}/{one['pipeline']}"} if several else {}),
        "state": one["state"],
        "why": one["reason"] or "",
        "made by run": made["run_id"] if made else "",
    }
