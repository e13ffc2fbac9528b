"""``aiflow logs``: what the code of a run printed and logged."""

from __future__ import annotations

from datetime import datetime

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import printable
from aiflow_sdk.local.store import short_run_id


@subcommand(
    "logs",
    """aiflow logs
aiflow logs 5e1f09ab
aiflow logs 5e1f09ab revenue --attempt 1""",
)
@click.argument("run_id", required=False)
@click.argument("task", required=False)
@click.option("--attempt", metavar="N", type=click.IntRange(min=1), help="Only of this try of the task.")
def command(invocation: Invocation, run_id: str | None, task: str | None, attempt: int | None) -> None:
    """Show what user code printed and logged in a run, or in one TASK of it.

    The end of RUN_ID will do, as aiflow runs lists it; without it the newest run is meant.
    """
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
    is_empty = True
    for record in read_log(root, run_id, task, attempt):
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
