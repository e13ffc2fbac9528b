"""``aiflow backfill --on airflow``: a backfill of Airflow's, under the view of a local one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.command_line import Exit, Invocation
from aiflow_sdk.cli.console import format_next, format_seconds
from aiflow_sdk.cli.diagnostics import flatten_errors, print_first_errors
from aiflow_sdk.cli.orchestration import find_deployed, open_airflow, stop_watching
from aiflow_sdk.cli.service import ask_for_grants
from aiflow_sdk.errors import plural

if TYPE_CHECKING:
    from aiflow_sdk.local.records import Record
    from aiflow_sdk.orchestrator import Airflow, Backfill, DeployedPipeline, Outcome, Request

_REASONS = {"none": "no run yet", "failed": "no run that succeeded", "completed": "no run under way"}
_PATIENCE_SECONDS = 60.0
_STEP_SECONDS = 2.0


def backfill_on_airflow(
    invocation: Invocation,
    pipeline: str | None,
    first: str,
    last: str,
    params: Mapping[str, str],
    *,
    dry: bool,
    wait: bool,
    settings: Mapping[str, Any],
) -> int:
    """Begin the backfill, look at it until it is done, and return the exit code. Raises ``AiflowError``."""
    from aiflow_sdk.orchestrator import Request

    airflow = open_airflow(invocation)
    deployed = find_deployed(invocation, airflow, pipeline)
    request = Request(first, last, params=deployed.values(params), **settings)
    if dry:
        return _tell_plan(invocation, airflow, deployed, request)
    ask_for_grants(invocation, deployed)
    backfill = airflow.backfill(deployed, request, _patience(invocation))
    if backfill is None:
        return _tell_plan(invocation, airflow, deployed, request)
    if not wait:
        _tell_begun(invocation, airflow, deployed, backfill, request)
        return 0
    return _watch(invocation, airflow, deployed, backfill, request)


def _patience(invocation: Invocation) -> Any:
    """Return what waits until Airflow knows that an earlier backfill has ended; it looks twice a minute."""
    until = time.monotonic() + _PATIENCE_SECONDS
    is_told = invocation.as_json

    def is_patient() -> bool:
        nonlocal is_told
        if time.monotonic() > until:
            return False
        if not is_told:
            invocation.console.print("waiting until Airflow knows that the backfill before has ended")
            is_told = True
        time.sleep(_STEP_SECONDS)
        return True

    return is_patient


def _started(deployed: DeployedPipeline, request: Request, due: tuple[str, ...], skipped: tuple[str, ...]) -> Record:
    from aiflow_sdk.orchestrator.watching import backfill_started

    return backfill_started(deployed, request.first, request.last, due, skipped, _REASONS[request.reprocess])


def _tell_plan(invocation: Invocation, airflow: Airflow, deployed: DeployedPipeline, request: Request) -> int:
    due, skipped = airflow.partitions(deployed, request)
    record = _started(deployed, request, due, skipped)
    console = invocation.console
    if invocation.as_json:
        console.print_json(record)
        return 0
    from aiflow_sdk.cli.backfill_screen import BackfillScreen

    with BackfillScreen(console) as screen:
        screen.take(record)
    console.print("nothing was run" if due else "nothing is to be done; --reprocess failed or completed makes more")
    return 0


def _tell_begun(
    invocation: Invocation, airflow: Airflow, deployed: DeployedPipeline, backfill: Backfill, request: Request
) -> None:
    console = invocation.console
    if invocation.as_json:
        record = _started(deployed, request, backfill.due, backfill.skipped)
        console.print_json({**record, "backfill_id": backfill.id})
        return
    said = f"backfill {backfill.id} of {deployed.pipeline_id} has begun: {plural(len(backfill.due), 'run')}"
    following = [invocation.next_command("runs", deployed.pipeline_id, "--on", "airflow")]
    for line in format_next(console, said, [*following, airflow.page_of(deployed.dag_id)]):
        console.print(line)


def _watch(
    invocation: Invocation, airflow: Airflow, deployed: DeployedPipeline, backfill: Backfill, request: Request
) -> int:
    from aiflow_sdk.orchestrator import watch_backfill

    console = invocation.console
    record = _started(deployed, request, backfill.due, backfill.skipped)
    runs = invocation.next_command("runs", deployed.pipeline_id, "--on", "airflow")
    try:
        with console.ending_with_reader():
            if invocation.as_json:
                console.print_json({**record, "backfill_id": backfill.id})
                return watch_backfill(airflow, deployed, backfill, console.print_json).exit_code
            from aiflow_sdk.cli.backfill_screen import BackfillScreen

            with BackfillScreen(console) as screen:
                screen.take(record)
                outcome = watch_backfill(airflow, deployed, backfill, screen.take)
    except KeyboardInterrupt:
        about = {"pipeline_id": deployed.pipeline_id, "backfill_id": backfill.id}
        following = [runs, airflow.page_of(deployed.dag_id)]
        raise stop_watching(invocation, f"backfill {backfill.id}", about, following) from None
    _tell_end(invocation, deployed, backfill, outcome, runs)
    raise Exit(outcome.exit_code)


def _tell_end(
    invocation: Invocation, deployed: DeployedPipeline, backfill: Backfill, outcome: Outcome, runs: str
) -> None:
    console = invocation.console
    if outcome.errors:
        print_first_errors(console, list(flatten_errors(outcome.errors)), invocation.root)
    took = format_seconds(outcome.seconds)
    match outcome.state:
        case "succeeded":
            said = f"{console.style(f'done in {took}', 'green')}   {plural(outcome.succeeded, 'run')}"
            following = [runs]
        case "cancelled":
            said = console.style(f"cancelled after {took}", "yellow")
            said += f"   {plural(outcome.succeeded, 'run')} of {len(backfill.due)} succeeded"
            following = [runs]
        case _:
            said = f"{console.style(f'failed after {took}', 'red')}   {plural(outcome.succeeded, 'run')} succeeded"
            again = ["backfill", deployed.pipeline_id, "--from", backfill.first, "--to", backfill.last]
            following = [invocation.next_command(*again, "--on", "airflow", "--reprocess", "failed"), runs]
    for line in format_next(console, said, following):
        console.print(line)
