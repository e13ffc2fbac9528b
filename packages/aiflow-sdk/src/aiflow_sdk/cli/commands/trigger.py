"""``aiflow trigger``: starts a run of a deployed pipeline in Airflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from aiflow_sdk.cli.arguments import read_params
from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, format_seconds
from aiflow_sdk.cli.diagnostics import print_errors
from aiflow_sdk.cli.orchestration import find_deployed, open_airflow, stop_watching
from aiflow_sdk.cli.service import ask_for_grants
from aiflow_sdk.errors import AiflowError, DefinitionError
from aiflow_sdk.local.store import short_run_id

if TYPE_CHECKING:
    from aiflow_sdk.local.store import RunRecord
    from aiflow_sdk.orchestrator import Airflow, DeployedPipeline


@subcommand(
    "trigger",
    """aiflow trigger daily_revenue --env prod
aiflow trigger daily_revenue --date 2026-11-20 --param threshold=0.5 --wait
aiflow trigger wide_revenue --date 2026-11-01..2026-11-20""",
)
@click.argument("pipeline", required=False)
@click.option(
    "--date",
    metavar="D",
    help="The partition (default: the last complete one), or D..D, both included, where the pipeline takes ranges.",
)
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A param instead of its default; repeatable."
)
@click.option("--wait", is_flag=True, help="Look at it until it has ended; the exit code is then the run's.")
def command(
    invocation: Invocation, pipeline: str | None, date: str | None, params: tuple[str, ...], wait: bool
) -> None:
    """Start a run of PIPELINE (its id, or project/id) in the environment's Airflow, where it is deployed.

    Ctrl-C ends the waiting alone: the run goes on in Airflow.
    """
    given = read_params(params)
    airflow = open_airflow(invocation)
    deployed = find_deployed(invocation, airflow, pipeline)
    key = deployed.keys(date)
    if key and ".." in key:
        _refuse_range(invocation, deployed)
    ask_for_grants(invocation, deployed)
    run = airflow.trigger(deployed, key, deployed.values(given))
    if wait:
        _wait(invocation, airflow, deployed, run)
        return
    console = invocation.console
    if invocation.as_json:
        console.print_json(run.to_dict())
        return
    about = f" for {run.partition}" if run.partition != "-" else ""
    said = f"started {console.style(deployed.pipeline_id, 'bold')}{about}: run {short_run_id(run.run_id)}"
    for line in format_next(console, said, [_logs(invocation, run, "--follow"), run.folder]):
        console.print(line)


def _wait(invocation: Invocation, airflow: Airflow, pipeline: DeployedPipeline, run: RunRecord) -> None:
    from aiflow_sdk.orchestrator import watch_run

    console = invocation.console
    try:
        if invocation.as_json:
            raise Exit(watch_run(airflow, pipeline, run, console.print_json).exit_code)
        from aiflow_sdk.cli.screen import RunScreen

        with RunScreen(console) as screen:
            outcome = watch_run(airflow, pipeline, run, screen.take)
    except KeyboardInterrupt:
        about = {"pipeline_id": pipeline.pipeline_id, "run_id": run.run_id}
        raise stop_watching(
            invocation, f"run {short_run_id(run.run_id)}", about, [_logs(invocation, run, "--follow"), run.folder]
        ) from None
    if outcome.errors:
        console.print()
        print_errors(Console(sys.stderr), outcome.errors, invocation.root)
    took = format_seconds(outcome.seconds)
    is_done = outcome.state == "succeeded"
    said = console.style(f"done in {took}", "green") if is_done else console.style(f"failed after {took}", "red")
    for line in format_next(console, said, [_logs(invocation, run), run.folder]):
        console.print(line)
    raise Exit(outcome.exit_code)


def _logs(invocation: Invocation, run: RunRecord, *options: str) -> str:
    return invocation.next_command("logs", short_run_id(run.run_id), "--on", "airflow", *options)


def _refuse_range(invocation: Invocation, pipeline: DeployedPipeline) -> None:
    """Raise ``DefinitionError`` where the project's code says that the pipeline takes no ranges; a run would fail."""
    from aiflow_sdk.cli.arguments import discover_all

    try:
        takes_ranges = discover_all(invocation).pipeline(pipeline.pipeline_id).ir.ranges
    except AiflowError:
        return  # its code is elsewhere: the run itself will tell
    if not takes_ranges:
        raise DefinitionError(
            "no-ranges",
            f"a run of '{pipeline.pipeline_id}' is for one {pipeline.grain}",
            hint="fill the range with: aiflow backfill … --on airflow, or add ranges=True to @pipeline and deploy",
        )
