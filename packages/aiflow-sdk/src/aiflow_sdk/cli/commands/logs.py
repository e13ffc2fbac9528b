"""``aiflow logs``: what the code of a run printed and logged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import printable
from aiflow_sdk.cli.orchestration import find_deployed, on_option, open_airflow, refuse_elsewhere, stop_watching
from aiflow_sdk.local.store import short_run_id

_RUN = re.compile(r".*(__|:).*|[0-9a-f]{8}")
"""The id of a run in Airflow, or its end as it is listed."""


@subcommand(
    "logs",
    """aiflow logs
aiflow logs 5e1f09ab
aiflow logs 5e1f09ab revenue --attempt 1
aiflow logs daily_revenue --on airflow --follow""",
)
@click.argument("run_id", required=False)
@click.argument("task", required=False)
@click.option("--attempt", metavar="N", type=click.IntRange(min=1), help="Only of this try of the task.")
@click.option("--task", "named", metavar="TASK", help="The same as TASK.")
@click.option("--follow", is_flag=True, help="Go on until the run has ended (of one in Airflow).")
@on_option
def command(
    invocation: Invocation,
    run_id: str | None,
    task: str | None,
    attempt: int | None,
    named: str | None,
    follow: bool,
    place: str,
) -> None:
    """Show what user code printed and logged in a run, or in one TASK of it.

    The end of RUN_ID will do, as aiflow runs lists it; without it the newest run is meant. In Airflow a pipeline's id
    stands for its newest run.
    """
    refuse_elsewhere(place, "airflow", follow=follow)
    task = task or named
    if place == "airflow":
        _show_of_airflow(invocation, run_id, task, attempt, follow)
        return
    from aiflow_sdk.local import list_runs, read_log

    root = invocation.project.root
    console = invocation.console
    if run_id is None:
        newest = list_runs(root, environment=invocation.environment_name, limit=1)
        if not newest:
            if not invocation.as_json:
                console.print(f"no run yet   next: {invocation.next_command('show')}")
            return
        run_id = newest[0].run_id
        if not invocation.as_json:
            console.print(
                console.style(f"{newest[0].pipeline_id}  {newest[0].partition}  run {short_run_id(run_id)}", "dim")
            )
    _print(invocation, read_log(root, run_id, task, attempt))


def _show_of_airflow(
    invocation: Invocation, name: str | None, task: str | None, attempt: int | None, follow: bool
) -> None:
    from aiflow_sdk.orchestrator import watch_log

    airflow = open_airflow(invocation)
    if name is not None and _RUN.fullmatch(name):
        run = airflow.find_run(name)
    else:
        deployed = find_deployed(invocation, airflow, name)
        newest = airflow.runs(deployed.dag_id, project=deployed.project, limit=1)
        if not newest:
            if not invocation.as_json:
                console = invocation.console
                console.print(f"no run yet   next: {invocation.next_command('trigger', deployed.pipeline_id)}")
            return
        run = newest[0]
    if not invocation.as_json:
        about = f"{run.pipeline_id}  {run.partition}  run {short_run_id(run.run_id)}  {run.state}"
        invocation.console.print(invocation.console.style(about, "dim"))
    try:
        _print(invocation, watch_log(airflow, run, task=task, attempt=attempt, is_followed=follow))
    except KeyboardInterrupt:
        again = invocation.next_command("logs", short_run_id(run.run_id), "--on", "airflow", "--follow")
        about_run = {"pipeline_id": run.pipeline_id, "run_id": run.run_id}
        raise stop_watching(invocation, f"run {short_run_id(run.run_id)}", about_run, [again]) from None


def _print(invocation: Invocation, records: Iterable[Mapping[str, Any]]) -> None:
    console = invocation.console
    is_empty = True
    for record in records:
        if console.is_closed:
            return
        is_empty = False
        if invocation.as_json:
            console.print_json(record)
            continue
        moment = datetime.fromtimestamp(record["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
        colour = {"warning": ("yellow",), "error": ("red",), "critical": ("red",)}.get(record["level"], ())
        level = "" if record["level"] == "info" else f"{record['level']}: "
        source = record.get("node_id") or record.get("task_id") or "-"
        console.print(
            f"{console.style(f'{moment}  {source} │', 'dim')} "
            f"{console.style(level + printable(record['message']), *colour)}"
        )
    if is_empty and not invocation.as_json:
        console.print("nothing was printed")
