"""``aiflow backfill``: many runs under one view; what is up to date is skipped, and why each other one runs is said."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import click

from aiflow_sdk.cli.arguments import only_pipeline, read_params
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, format_seconds
from aiflow_sdk.cli.diagnostics import exit_code, flatten_errors, print_errors, print_first_errors
from aiflow_sdk.cli.orchestration import on_option, refuse_elsewhere
from aiflow_sdk.errors import AiflowError, plural


@subcommand(
    "backfill",
    """aiflow backfill daily_revenue --from 2026-11-01 --to 2026-11-20
aiflow backfill daily_revenue --from 2026-11-01 --to 2026-11-20 --dry-run
aiflow backfill daily_revenue --from 2026-11-01 --to 2026-11-20 --on airflow --reprocess failed""",
)
@click.argument("pipeline", required=False)
@click.option("--from", "first", metavar="D", required=True, help="The first partition.")
@click.option("--to", "last", metavar="D", required=True, help="The last partition, included.")
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A param instead of its default; repeatable."
)
@click.option("--force", is_flag=True, help="Run also what is up to date.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would run and why, and run nothing.")
@on_option
@click.option(
    "--reprocess",
    type=click.Choice(["none", "failed", "completed"]),
    help="In Airflow: make again partitions that have had a run: none (as without it), failed, or all that completed.",
)
@click.option("--max-active", metavar="N", type=click.IntRange(min=1), help="In Airflow: how many runs at once (10).")
@click.option("--no-wait", is_flag=True, help="In Airflow: begin it and do not look at it until it is done.")
def command(
    invocation: Invocation,
    pipeline: str | None,
    first: str,
    last: str,
    params: tuple[str, ...],
    force: bool,
    dry: bool,
    place: str,
    reprocess: str | None,
    max_active: int | None,
    no_wait: bool,
) -> int:
    """Run PIPELINE for each partition from D to D that is not up to date.

    A partition is up to date when the same definition, code, params and inputs made what lies there. Ctrl-C ends it
    cleanly, as does a reader of what it prints who goes away; the same command goes on where it stopped.

    With --on airflow it is a backfill of Airflow's, of a deployed pipeline on whatever schedule: a run for each
    partition that has had none. Ctrl-C then ends the watching alone, and the same command looks on.
    """
    refuse_elsewhere(place, "local", force=force)
    refuse_elsewhere(place, "airflow", reprocess=reprocess, max_active=max_active, no_wait=no_wait)
    if place == "airflow":
        from aiflow_sdk.cli.airflow_backfill import backfill_on_airflow

        settings = {"reprocess": reprocess or "none", "max_active_runs": max_active or 10}
        return backfill_on_airflow(
            invocation, pipeline, first, last, read_params(params), dry=dry, wait=not no_wait, settings=settings
        )
    from aiflow_sdk.local import BackfillRequest, backfill

    project = invocation.project
    request = BackfillRequest(
        project=str(project.root),
        pipeline=pipeline or only_pipeline(invocation),
        first=first,
        last=last,
        environment=invocation.environment.name,
        params=read_params(params),
        force=force,
        dry=dry,
        python=project.python,
    )
    console = invocation.console
    lasting = nullcontext() if dry else console.ending_with_reader()
    if invocation.as_json:
        with lasting:
            return backfill(request, console.print_json).exit_code
    from aiflow_sdk.cli.backfill_screen import BackfillScreen

    typed = [*(word for param in params for word in ("--param", param)), *(["--force"] if force else [])]
    again = invocation.next_command("backfill", request.pipeline, "--from", first, "--to", last, *typed)
    screen = BackfillScreen(console)
    try:
        with screen, lasting:
            summary = backfill(request, screen.take)
    except AiflowError as error:
        if not screen.done:
            raise
        # A full disk, for instance: nothing more could be done, nor be told of each run.
        print_errors(Console(sys.stderr), [error.to_dict()], project.root)
        said = f"{console.style('stopped', 'red')}   {plural(screen.done, 'partition')} done, and they stay done"
        for line in format_next(console, said, [again], word="go on with"):
            console.print(line)
        return exit_code([error.to_dict()])
    errors = list(flatten_errors(error for run in summary.runs for error in run.errors))
    if errors:
        print_first_errors(console, errors, project.root)
    took = format_seconds(summary.seconds)
    made = sum(run.succeeded for run in summary.runs)
    word, following = "go on with", again
    match summary.state:
        case "succeeded" if dry:
            said, word = "nothing was run", "next"
        case "succeeded":
            number = f"{plural(made, 'run')}, {len(summary.skipped)} up to date"
            said, word = f"{console.style(f'done in {took}', 'green')}   {number}", "next"
            following = invocation.next_command("show", summary.pipeline_id, "--date", summary.last)
        case "cancelled":
            said = f"{console.style(f'cancelled after {took}', 'yellow')}   what is done stays done"
        case _:
            said = f"{console.style(f'failed after {took}', 'red')}   {plural(made, 'run')} succeeded"
    for line in format_next(console, said, [following], word=word):
        console.print(line)
    return summary.exit_code
