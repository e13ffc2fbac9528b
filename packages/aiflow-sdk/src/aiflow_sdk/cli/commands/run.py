"""``aiflow run``: one run, with a line a node while it goes on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import only_pipeline, read_params
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, format_seconds
from aiflow_sdk.cli.diagnostics import print_errors
from aiflow_sdk.local.store import short_run_id

if TYPE_CHECKING:
    from aiflow_sdk.local import RunSummary


@subcommand(
    "run",
    """aiflow run daily_revenue --date 2026-11-20
aiflow run daily_revenue --param threshold=0.5 --from revenue
aiflow run daily_revenue --resume 5e1f09ab""",
)
@click.argument("pipeline", required=False)
@click.option(
    "--date", metavar="D", help="The partition, such as 2026-11-20 or 2026-11-20T05 (default: the last complete one)."
)
@click.option("--last-date", metavar="D", help="Of a range its last partition, where the pipeline takes ranges.")
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A param instead of its default; repeatable."
)
@click.option("--only", metavar="NODE", help="Only the task that makes this node.")
@click.option("--from", "from_node", metavar="NODE", help="This node's task and what follows from it.")
@click.option("--until", "until_node", metavar="NODE", help="This node's task and what it needs.")
@click.option(
    "--resume", metavar="RUN_ID", help="Go on with a run that failed or was stopped (the end of its id will do)."
)
def command(
    invocation: Invocation,
    pipeline: str | None,
    date: str | None,
    last_date: str | None,
    params: tuple[str, ...],
    only: str | None,
    from_node: str | None,
    until_node: str | None,
    resume: str | None,
) -> int:
    """Run PIPELINE for one partition and wait for it; where the project has one pipeline, its name may be left out.

    Ctrl-C ends it cleanly; --resume goes on from there.
    """
    from aiflow_sdk.local import RunRequest, run_pipeline_locally

    project = invocation.project
    if resume is not None and not resume.strip():
        raise click.UsageError("--resume names no run: give it the end of a run's id")
    if resume and not pipeline:
        from aiflow_sdk.local.store import find_run

        pipeline = find_run(project.root, resume).record().pipeline_id
    if last_date and not date:
        raise click.UsageError("--last-date names the end of a range; its beginning is --date")
    request = RunRequest(
        project=str(project.root),
        pipeline=pipeline or only_pipeline(invocation),
        environment=invocation.environment.name,
        date=f"{date}..{last_date}" if last_date else date,
        params=read_params(params),
        only=only,
        from_node=from_node,
        until_node=until_node,
        resume=resume,
        python=project.python,
    )
    console = invocation.console
    if invocation.as_json:
        return run_pipeline_locally(request, console.print_json).exit_code
    from aiflow_sdk.cli.screen import RunScreen

    screen = RunScreen(console)
    with screen:
        summary = run_pipeline_locally(request, screen.take)
    if summary.errors:
        console.print()
        print_errors(Console(sys.stderr), summary.errors, project.root)
    # Of a resumed run the summary counts all doings; what was waited for is this one.
    seconds = (screen.progress.doing_seconds if resume else None) or summary.seconds
    for line in _closing_lines(invocation, summary, seconds, screen.log_lines):
        console.print(line)
    return summary.exit_code


def _closing_lines(invocation: Invocation, summary: RunSummary, seconds: float, log_lines: int) -> list[str]:
    console = invocation.console
    took = format_seconds(seconds)
    name, run = summary.pipeline_id, short_run_id(summary.run_id) if console.is_terminal else summary.run_id
    match summary.state:
        case "succeeded":
            said = console.style(f"done in {took}", "green")
            if summary.superseded:
                said = console.style(f"superseded after {took}", "yellow")
            date = summary.partition if summary.partition != "-" else None
            following = [invocation.next_command("show", name, *(["--date", date] if date else []))]
            if date and (backfill := _month_until(date)):
                following.append(invocation.next_command("backfill", name, "--from", backfill[0], "--to", backfill[1]))
        case "cancelled":
            said = console.style(f"cancelled after {took}", "yellow")
            following = [invocation.next_command("run", name, "--resume", run)]
        case _:
            said = console.style(f"failed after {took}", "red")
            following = [invocation.next_command("run", name, "--resume", run)]
            if log_lines:
                following.insert(0, invocation.next_command("logs", run))
    written = _addresses(summary.tasks) if summary.succeeded else {}
    lies = [f"  {console.style('→', 'dim')} {sink} lies at {address}" for sink, address in written.items()]
    if summary.succeeded and summary.superseded:
        names = ", ".join(f"'{sink}'" for sink in summary.superseded)
        lies.append(f"  {names} kept the rows of a newer execution; run it again to write these")
    return [*lies, *format_next(console, said, following)]


def _addresses(tasks: Mapping[str, Any]) -> dict[str, str]:
    return {node["node_id"]: node["address"] for task in tasks.values() for node in task.nodes if node.get("address")}


def _month_until(partition: str) -> tuple[str, str] | None:
    """Return the first day of a day's month and the day, where that is a range."""
    if len(partition) != 10 or partition.endswith("-01"):
        return None
    return f"{partition[:8]}01", partition
