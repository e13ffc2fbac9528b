"""``aiflow backfill``: many runs under one view; what is up to date is skipped, and why each other one runs is said."""

from __future__ import annotations

import sys

import click

from aiflow_sdk.cli.arguments import only_pipeline, read_params
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, format_seconds, plural
from aiflow_sdk.cli.diagnostics import exit_code, flatten_errors, print_errors
from aiflow_sdk.errors import AiflowError

_SHOWN_ERRORS = 3


@subcommand(
    "backfill",
    """aiflow backfill daily_revenue --from 2026-11-01 --to 2026-11-20
aiflow backfill daily_revenue --from 2026-11-01 --to 2026-11-20 --dry-run""",
)
@click.argument("pipeline", required=False)
@click.option("--from", "first", metavar="D", required=True, help="The first partition.")
@click.option("--to", "last", metavar="D", required=True, help="The last partition, included.")
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A param instead of its default; repeatable."
)
@click.option("--force", is_flag=True, help="Run also what is up to date.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would run and why, and run nothing.")
def command(
    invocation: Invocation, pipeline: str | None, first: str, last: str, params: tuple[str, ...], force: bool, dry: bool
) -> int:
    """Run PIPELINE for each partition from D to D that is not up to date.

    A partition is up to date when the same definition, code, params and inputs made what lies there. Ctrl-C ends it
    cleanly; the same command goes on where it stopped.
    """
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
    if invocation.as_json:
        return backfill(request, console.print_json).exit_code
    from aiflow_sdk.cli.backfill_screen import BackfillScreen

    again = invocation.next_command("backfill", request.pipeline, "--from", first, "--to", last)
    screen = BackfillScreen(console)
    try:
        with screen:
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
        console.print()
        print_errors(Console(sys.stderr), errors[:_SHOWN_ERRORS], project.root)
        if len(errors) > _SHOWN_ERRORS:
            console.print(f"and {plural(len(errors) - _SHOWN_ERRORS, 'more error')}")
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
