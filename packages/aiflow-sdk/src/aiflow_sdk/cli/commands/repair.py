"""``aiflow repair``: makes again exactly what is stale, incomplete or absent of a table, and what follows from it."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, plural
from aiflow_sdk.cli.orchestration import on_option
from aiflow_sdk.cli.partitions import Stretch, open_ledger, stretches_of

_HEARD_SECONDS = 30.0
"""How long a worker's last events may take to the service: a task does not wait for them."""
_LOOK_SECONDS = 1.0


@subcommand(
    "repair",
    """aiflow repair feature.daily_revenue --dry-run
aiflow repair raw.orders --down
aiflow repair raw.orders --down --env prod --on airflow""",
)
@click.argument("table")
@click.option("--down", is_flag=True, help="Also what is made of the table, and so on.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would run and why, and run nothing.")
@on_option
def command(invocation: Invocation, table: str, down: bool, dry: bool, place: str) -> None:
    """Run what makes the partitions of TABLE that `aiflow status` does not call current, and no others.

    Each pipeline runs after those that make what it reads. It may be broken off and repeated: what is done is current.
    """
    ledger = open_ledger(invocation, table)
    repairs = ledger.repairs(down=down)
    console = invocation.console
    if dry or not repairs:
        _tell(
            invocation, table, repairs, [*(["--down"] if down else []), *(["--on", place] if place != "local" else [])]
        )
        return
    stretches = stretches_of(repairs)
    strange = sorted({one.project for one in stretches if one.project != invocation.project.name})
    if strange and place == "local":
        raise click.UsageError(
            f"a part of it belongs to {', '.join(strange)}: run it in that project's folder, or with --on airflow"
        )
    for stretch in stretches:
        code = _run_on_airflow(invocation, stretch) if place == "airflow" else _run_here(invocation, stretch)
        if code:
            raise Exit(code)
    left = ledger.repairs(down=down)
    until = time.monotonic() + (_HEARD_SECONDS if place == "airflow" else 0.0)
    while left and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        left = ledger.repairs(down=down)
    if invocation.as_json:
        console.print_json({"record": "repair-finished", "table": table, "made": len(repairs), "left": left})
    else:
        console.print(f"{plural(len(repairs), 'partition')} made again, {len(left):,} left")
    if left:
        raise Exit(1)


def _tell(invocation: Invocation, table: str, repairs: list[dict[str, Any]], options: list[str]) -> None:
    console = invocation.console
    if invocation.as_json:
        console.print_json(repairs)
        return
    for one in repairs:
        name = f"{one['project']}/{one['pipeline']}"
        console.print(f"  {name}  {one['partition'] or '-'}  {console.style(one['state'], 'yellow')}  {one['reason']}")
    if not repairs:
        console.print(f"{table} is as it should be: nothing is to be made again")
        return
    again = invocation.next_command("repair", table, *options)
    for line in format_next(console, f"{plural(len(repairs), 'partition')}; nothing was run", [again]):
        console.print(line)


def _run_here(invocation: Invocation, stretch: Stretch) -> int:
    from aiflow_sdk.cli.diagnostics import flatten_errors, print_first_errors
    from aiflow_sdk.local import BackfillRequest, RunRequest, backfill, run_pipeline_locally

    project, console = invocation.project, invocation.console
    shared: dict[str, Any] = {
        "project": str(project.root),
        "pipeline": stretch.pipeline,
        "environment": invocation.environment.name,
        "python": project.python,
    }
    listen = console.print_json if invocation.as_json else lambda record: None
    if not stretch.keys:
        run = run_pipeline_locally(RunRequest(**shared), listen)
        runs, said = [run], "1 run"
        code = run.exit_code
    else:
        summary = backfill(BackfillRequest(first=stretch.keys[0], last=stretch.keys[-1], **shared), listen)
        runs, code = list(summary.runs), summary.exit_code
        said = f"{plural(len(runs), 'run')}, {len(summary.skipped)} up to date"
    if not invocation.as_json:
        ends = " to ".join(dict.fromkeys((stretch.keys[0], stretch.keys[-1]))) if stretch.keys else ""
        console.print(f"{console.style(stretch.pipeline, 'bold')}  {ends}  {said}")
        if errors := list(flatten_errors(error for run in runs for error in run.errors)):
            print_first_errors(Console(sys.stderr), errors, project.root)
    return code


def _run_on_airflow(invocation: Invocation, stretch: Stretch) -> int:
    from aiflow_sdk.cli.airflow_backfill import backfill_on_airflow

    if not stretch.keys:
        raise click.UsageError(f"{stretch.pipeline} has no partitions: aiflow trigger {stretch.pipeline} runs it")
    # They are done already, in Airflow's eyes.
    settings = {"reprocess": "completed", "max_active_runs": 10}
    try:
        return backfill_on_airflow(
            invocation,
            f"{stretch.project}/{stretch.pipeline}",
            stretch.keys[0],
            stretch.keys[-1],
            {},
            dry=False,
            wait=True,
            settings=settings,
        )
    except Exit as ended:
        return ended.code
