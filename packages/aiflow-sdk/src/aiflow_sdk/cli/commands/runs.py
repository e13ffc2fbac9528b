"""``aiflow runs``: what was run."""

from __future__ import annotations

from datetime import datetime

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_seconds, format_table
from aiflow_sdk.local.store import short_run_id


@subcommand(
    "runs",
    """aiflow runs
aiflow runs daily_revenue --limit 5 --json""",
)
@click.argument("pipeline", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many.")
def command(invocation: Invocation, pipeline: str | None, limit: int) -> None:
    """List past runs of the project, or of PIPELINE, the newest first.

    A run is listed with the end of its id, which is what other commands take; --json has the whole id.
    """
    from aiflow_sdk.local import list_runs

    records = list_runs(
        invocation.project.root, pipeline=pipeline, environment=invocation.environment_name, limit=limit
    )
    console = invocation.console
    if invocation.as_json:
        console.print_json([record.to_dict() for record in records])
        return
    if not records:
        of = f" of '{pipeline}'" if pipeline else ""
        console.print(f"no run{of} yet   next: {invocation.next_command('show')}")
        return
    rows = [
        {
            "run": short_run_id(record.run_id),
            "pipeline": record.pipeline_id,
            "partition": record.partition,
            "environment": record.run["environment"],
            "state": record.state,
            "cause": record.run["cause"],
            "started": datetime.fromtimestamp(record.started).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            "took": format_seconds(record.seconds),
        }
        for record in records
    ]
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)
