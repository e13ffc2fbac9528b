"""``aiflow status``: the partitions of a table, and why some of them are to be made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count, groupby
from typing import Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_next, format_table
from aiflow_sdk.cli.datasets import namespace_option
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
@namespace_option
def command(invocation: Invocation, table: str, state: str | None, is_all: bool, namespace: str | None) -> None:
    """Show which partitions of TABLE are current, stale (made of something else than is there now, or by other code),
    incomplete (a run for it has not ended well) or absent, and why.

    The environment's metadata service knows it, as far as runs have told it.
    """
    found = list(open_ledger(invocation, table, namespace).partitions(state))
    console = invocation.console
    if invocation.as_json:
        console.print_json(found)
        return
    if not found:
        which = f"{state} partition" if state else "partition"
        console.print(f"no {which} of {table} is known in {invocation.environment.name}, or none that you may see")
        return
    counted = Counter(one["state"] for one in found)
    # Of one state alone nobody sees what lies between two of its partitions, so that they are no span.
    spans = [[one] for one in found] if state else _spans(found)
    shown = [span for span in spans if is_all or state or span[0]["state"] != "current"]
    several = len({(one["project"], one["pipeline"]) for one in found}) > 1
    rows = [_row(span, several=several) for span in shown[:_SHOWN]]
    if rows:
        for line in format_table(console, rows, list(rows[0])):
            console.print(line)
    if len(shown) > _SHOWN:
        console.print(f"  and {sum(map(len, shown[_SHOWN:])):,} more; --json has all")
    words = ", ".join(f"{console.style(f'{counted[one]:,} {one}', COLOURS[one])}" for one in COLOURS if counted[one])
    due = any(one["state"] != "current" for one in found)
    named = ["--namespace", namespace] if namespace else []
    commands = [invocation.next_command("repair", table, "--down", *named)] if due else []
    for line in format_next(console, words, commands) if commands else [words]:
        console.print(line)


def _spans(partitions: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the partitions, those together that follow one another, were never made and are told of alike."""
    alone = count()

    def told(one: dict[str, Any]) -> tuple[Any, ...]:
        is_joinable = one["partition"] is not None and not one["made"]
        place = one["project"], one["pipeline"], one["environment"]
        return *place, one["state"], one["reason"], None if is_joinable else next(alone)

    return [list(span) for _, span in groupby(partitions, told)]


def _row(span: Sequence[dict[str, Any]], *, several: bool) -> dict[str, Any]:
    one, last = span[0], span[-1]
    made = one["made"]
    return {
        "partition": (one["partition"] or "-") if one is last else f"{one['partition']}..{last['partition']}",
        **({"pipeline": f"{one['project']}/{one['pipeline']}"} if several else {}),
        "state": one["state"],
        "why": (one["reason"] or "") if one is last else f"{one['reason'] or ''} ({len(span):,} partitions)".strip(),
        "made by run": made["run_id"] if made else "",
    }
