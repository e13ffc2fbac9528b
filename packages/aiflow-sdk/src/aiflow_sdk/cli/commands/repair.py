"""``aiflow repair``: makes again exactly what is stale, incomplete or absent of a table, and what follows from it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next
from aiflow_sdk.cli.datasets import namespace_option
from aiflow_sdk.cli.orchestration import on_option
from aiflow_sdk.cli.partitions import Stretch, open_ledger, stretches_of
from aiflow_sdk.errors import plural

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
@namespace_option
@on_option
def command(invocation: Invocation, table: str, down: bool, dry: bool, namespace: str | None, place: str) -> None:
    """Run what makes the partitions of TABLE that `aiflow status` does not call current, and no others.

    Each pipeline runs after those that make what it reads. It may be broken off and repeated: what is done is current.
    A reader of what it prints who goes away ends it, as Ctrl-C does.
    """
    ledger = open_ledger(invocation, table, namespace)
    repairs = ledger.repairs(down=down)
    console = invocation.console
    options = [*(["--down"] if down else []), *(["--on", place] if place != "local" else [])]
    options += ["--namespace", namespace] if namespace else []
    if dry or not repairs:
        _tell(invocation, table, repairs, options)
        return
    stretches = stretches_of(repairs)
    strange = sorted({one.project for one in stretches if one.project != invocation.project.name})
    if strange and place == "local":
        raise click.UsageError(
            f"a part of it belongs to {', '.join(strange)}: run it in that project's folder, or with --on airflow"
        )
    again = invocation.next_command("repair", table, *options)
    made = 0
    run = _run_on_airflow if place == "airflow" else _run_here
    for stretch in stretches:
        with console.ending_with_reader():
            code, number = run(invocation, stretch)
        made += number
        if code:
            if not invocation.as_json:
                said = f"{plural(made, 'partition')} made again; what is done stays done"
                for line in format_next(console, said, [again], word="go on with"):
                    console.print(line)
            raise Exit(code)
    left = ledger.repairs(down=down)
    until = time.monotonic() + (_HEARD_SECONDS if place == "airflow" else 0.0)
    while left and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        left = ledger.repairs(down=down)
    if invocation.as_json:
        console.print_json({"record": "repair-finished", "table": table, "made": made, "left": left})
    else:
        console.print(f"{plural(made, 'partition')} made again, {len(left):,} left")
        for reason, number in Counter(one["reason"] for one in left).most_common():
            console.print(f"  {plural(number, 'partition')}: {reason}")
        if left and place == "local":
            console.print(f"  what lies here may differ from what is deployed: {invocation.next_command('deploy')}")
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
        console.print(f"{table}: of what is known here and you may see nothing is to be made again")
        return
    again = invocation.next_command("repair", table, *options)
    for line in format_next(console, f"{plural(len(repairs), 'partition')}; nothing was run", [again]):
        console.print(line)


def _run_here(invocation: Invocation, stretch: Stretch) -> tuple[int, int]:
    """Run a stretch; return the exit code and how many partitions were made."""
    from aiflow_sdk.cli.backfill_screen import BackfillScreen
    from aiflow_sdk.cli.diagnostics import flatten_errors, print_first_errors
    from aiflow_sdk.local import BackfillRequest, RunRequest, backfill, run_pipeline_locally

    project, console = invocation.project, invocation.console
    shared: dict[str, Any] = {
        "project": str(project.root),
        "pipeline": stretch.pipeline,
        "environment": invocation.environment.name,
        "python": project.python,
    }
    if not stretch.keys:
        run = run_pipeline_locally(RunRequest(**shared), console.print_json if invocation.as_json else lambda _: None)
        runs, said = [run], f"1 run {run.state}"
        code = run.exit_code
    else:
        screen = BackfillScreen(console)
        request = BackfillRequest(first=stretch.keys[0], last=stretch.keys[-1], **shared)
        with nullcontext() if invocation.as_json else screen:
            summary = backfill(request, console.print_json if invocation.as_json else screen.take)
        runs, code = list(summary.runs), summary.exit_code
        states = Counter(run.state for run in runs)
        told = [f"{number:,} {state}" for state, number in sorted(states.items()) if state != "succeeded"]
        said = ", ".join([plural(states["succeeded"], "run"), *told, f"{len(summary.skipped)} up to date"])
    if not invocation.as_json:
        ends = " to ".join(dict.fromkeys((stretch.keys[0], stretch.keys[-1]))) if stretch.keys else ""
        console.print(f"{console.style(stretch.pipeline, 'bold')}  {ends}  {said}")
        if errors := list(flatten_errors(error for run in runs for error in run.errors)):
            print_first_errors(Console(sys.stderr), errors, project.root)
    return code, sum(_made(run.partition, stretch.keys) for run in runs if run.succeeded)


def _made(partition: str, keys: Sequence[str]) -> int:
    """Return how many of the keys a run was for; its own is ``first..last`` where it was for a range."""
    first, _, last = partition.partition("..")
    return sum(first <= key <= (last or first) for key in keys) or 1


def _run_on_airflow(invocation: Invocation, stretch: Stretch) -> tuple[int, int]:
    from aiflow_sdk.cli.airflow_backfill import backfill_on_airflow

    if not stretch.keys:
        raise click.UsageError(f"{stretch.pipeline} has no partitions: aiflow trigger {stretch.pipeline} runs it")
    # They are done already, in Airflow's eyes.
    settings = {"reprocess": "completed", "max_active_runs": 10}
    try:
        code = backfill_on_airflow(
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
        code = ended.code
    return code, 0 if code else len(stretch.keys)
