"""``aiflow runs``: what was run."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import discover_all
from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_seconds, format_table
from aiflow_sdk.cli.diagnostics import print_errors
from aiflow_sdk.cli.orchestration import find_deployed, on_option, open_airflow
from aiflow_sdk.cli.times import LIMIT
from aiflow_sdk.local.store import short_run_id

if TYPE_CHECKING:
    from aiflow_sdk.local.store import RunRecord


@subcommand(
    "runs",
    """aiflow runs
aiflow runs daily_revenue --limit 5 --json
aiflow runs daily_revenue --on airflow --env prod""",
)
@click.argument("pipeline", required=False)
@click.option("--limit", default=20, show_default=True, metavar="N", type=LIMIT, help="How many.")
@on_option
def command(invocation: Invocation, pipeline: str | None, limit: int, place: str) -> None:
    """List past runs of the project, or of PIPELINE, the newest first.

    A run is listed with the end of its id, which is what other commands take; --json has the whole id. What of a run
    cannot be read is told after the others, in --json as a run whose state is "damaged".
    """
    if place == "airflow":
        _list_of_airflow(invocation, pipeline, limit)
        return
    from aiflow_sdk.local import list_runs

    damaged: dict[str, dict[str, Any]] = {}
    records = list_runs(
        invocation.project.root,
        pipeline=pipeline,
        environment=invocation.environment_name,
        limit=limit,
        damaged=lambda run_id, error: damaged.update({run_id: error.to_dict()}),
    )
    console = invocation.console
    if invocation.as_json:
        told = [record.to_dict() for record in records]
        told += [{"run": {"run_id": name}, "state": "damaged", "errors": [error]} for name, error in damaged.items()]
        console.print_json(told)
    elif records or not damaged:
        _print_runs(invocation, records, pipeline)
    if damaged and not invocation.as_json:
        print_errors(Console(sys.stderr), damaged.values(), invocation.project.root)
    if damaged:
        raise Exit(1)


def _list_of_airflow(invocation: Invocation, pipeline: str | None, limit: int) -> None:
    airflow, project = open_airflow(invocation), invocation.project
    if pipeline is not None:
        deployed = find_deployed(invocation, airflow, pipeline)
        records = airflow.runs(deployed.dag_id, project=deployed.project, limit=limit)
    elif project.name != "default":
        records = airflow.runs(None, project=project.name, limit=limit)
    else:
        # The DAGs of the project 'default' have nothing in their names that says so: its code knows them.
        from aiflow_sdk.bundles import dag_id_of

        known = [dag_id_of(one.project or project.name, one.id) for one in discover_all(invocation).pipelines]
        records = airflow.runs(None, known=known, limit=limit)
    if invocation.as_json:
        invocation.console.print_json([record.to_dict() for record in records])
    else:
        _print_runs(invocation, records, pipeline, next_word="trigger")


def _print_runs(
    invocation: Invocation, records: list[RunRecord], pipeline: str | None, next_word: str = "show"
) -> None:
    console = invocation.console
    if not records:
        of = f" of '{pipeline}'" if pipeline else ""
        console.print(f"no run{of} yet   next: {invocation.next_command(next_word)}")
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
