"""``aiflow sync``: sends what the metadata service and other listeners have not heard."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.airflow_sync import Step, airflow_lines, sync_airflow
from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console
from aiflow_sdk.cli.run_end import end_run
from aiflow_sdk.cli.service import record_deployments
from aiflow_sdk.errors import AiflowError, plural

if TYPE_CHECKING:
    from aiflow_sdk.deployment import Recorded
    from aiflow_sdk.local import Account

_SHOWN_REASONS = 3


@subcommand(
    "sync",
    """aiflow sync
aiflow sync --env prod --json
aiflow sync --all
aiflow sync --env prod --airflow --airflow-log --every 60
aiflow sync --env prod --end 4f2a9c1e""",
)
@click.option(
    "--all",
    "from_the_first",
    is_flag=True,
    help="All events from the first run on, for a service that is new or was emptied; it counts each event once.",
)
@click.option(
    "--airflow",
    "with_airflow",
    is_flag=True,
    help="Ask the environment's Airflow, too, how runs stand of which the service was not told.",
)
@click.option(
    "--airflow-log",
    "with_log",
    is_flag=True,
    help="Take its event log into the service's audit: who did what to which pipeline there.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=1,
    show_default=True,
    metavar="N",
    help="How far back it is looked in Airflow; the event log goes on where it was left.",
)
@click.option(
    "--every",
    "pause_seconds",
    type=click.IntRange(1, 86_400),
    metavar="SECONDS",
    help="Do all of it again, so long after it was done, until Ctrl-C.",
)
@click.option(
    "--end",
    "ended_run",
    metavar="RUN",
    help="Instead, tell the service that RUN has failed: where its folder is gone, nobody else does. For operators.",
)
def command(
    invocation: Invocation,
    from_the_first: bool,
    with_airflow: bool,
    with_log: bool,
    days: int,
    pause_seconds: int | None,
    ended_run: str | None,
) -> None:
    """Send the events of past runs to the environment's metadata service and listeners, where they have not heard them.

    Runs send their events themselves; what could not be sent is kept and sent with the next run, or now. These are the
    runs of this project's folder, and those that Airflow did on this machine (AIFLOW_HOME). The service is told of
    deployments that it missed, too. It may be broken off and repeated, also while runs are under way. The exit code is
    1 where something waits or was refused.

    A run that the service believes to be running although its machine or folder is gone is ended by --end, with its
    id or the end of it. Whatever that run tells of itself after all outdoes this.
    """
    if ended_run is not None:
        if from_the_first or with_airflow or with_log or pause_seconds is not None:
            raise click.UsageError("--end tells of one run and does nothing else; leave the other options out")
        end_run(invocation, ended_run)
        return
    steps = [Step.RUNS] * with_airflow + [Step.LOG] * with_log
    if pause_seconds is None:
        if not _synchronize(invocation, from_the_first, steps, days):
            raise Exit(1)
        return
    with suppress(KeyboardInterrupt):
        while True:
            try:
                _synchronize(invocation, from_the_first, steps, days)
            except AiflowError as error:
                if not error.retryable:
                    raise
                Console(sys.stderr).print(f"error[{error.code}]: {error}; it is tried again")
            from_the_first = False
            time.sleep(pause_seconds)


def _synchronize(invocation: Invocation, from_the_first: bool, steps: Sequence[Step], days: int) -> bool:
    """Do all of it once, and return whether nothing waits and nothing was refused."""
    invocation.configure("leniently")  # listeners may be handed out, and how the bundle store is opened
    accounts = _send(invocation, from_the_first)
    recorded, untold = _record(invocation)
    airflow = sync_airflow(invocation, steps, days) if steps else None
    if invocation.as_json:
        told = [account.to_dict() for account in accounts]
        data: dict[str, Any] = {"environment": invocation.environment.name, "listeners": told}
        if recorded or untold:
            data["releases"] = {**(recorded.to_dict() if recorded else {}), "why": untold and untold.to_dict()}
        if airflow is not None:
            data["airflow"] = airflow
        invocation.console.print_json(data)
    else:
        _print_all(invocation, accounts, recorded, untold, from_the_first)
        for line in airflow_lines(airflow or {}):
            invocation.console.print(line)
    is_untold = untold or (recorded and recorded.problems) or (airflow or {}).get("refused")
    return not is_untold and not any(account.why or account.waiting or account.refused for account in accounts)


def _send(invocation: Invocation, from_the_first: bool) -> Sequence[Account]:
    from aiflow_sdk.local import send_spools
    from aiflow_sdk.plugins import installed_registry

    console = invocation.console
    is_shown = console.is_terminal and not invocation.as_json

    def show(account: Account) -> None:
        if is_shown:
            told = f"{account.listener}: {plural(account.events, 'event')} of {plural(account.runs, 'run')} …"
            console.write(f"\r\x1b[K{told}")

    try:
        return send_spools(
            invocation.project,
            invocation.environment,
            installed_registry(),
            from_the_first=from_the_first,
            on_progress=show,
        )
    finally:
        if is_shown:
            console.write("\r\x1b[K")


def _print_all(
    invocation: Invocation,
    accounts: Sequence[Account],
    recorded: Recorded | None,
    untold: AiflowError | None,
    from_the_first: bool,
) -> None:
    console = invocation.console
    for account in accounts:
        _print(console, invocation, account, from_the_first)
    if recorded and recorded.releases:
        console.print(f"{plural(recorded.releases, 'deployment')} recorded")
    for problem in [*([untold] if untold else []), *(recorded.problems if recorded else [])]:
        console.print(f"  {console.style('deployments wait', 'yellow')}: {problem}")


def _record(invocation: Invocation) -> tuple[Recorded | None, AiflowError | None]:
    """Tell the service of deployments that it missed; what it was told, or why it could not be."""
    try:
        return record_deployments(invocation), None
    except AiflowError as error:
        return None, error


def _print(console: Console, invocation: Invocation, account: Account, from_the_first: bool) -> None:
    name = console.style(account.listener, "bold")
    sent = f"{plural(account.events, 'event')} of {plural(account.runs, 'run')} sent"
    if not (account.events or account.waiting or account.refused or account.why):
        sent = "has heard everything"
    console.print(f"{name}  {sent}")
    if account.again_runs:
        runs = plural(account.again_runs, "run")
        console.print(f"  another service had heard of {runs}, or this one has been put back: all of it is sent again")
    if account.waiting or account.why:
        waits = "waits" if account.waiting == 1 else "wait"
        about = f"{plural(account.waiting, 'event')} of {plural(account.waiting_runs, 'run')} {waits}"
        why = f": {account.why.to_dict()['message']}" if account.why else ""
        console.print(f"  {console.style(about, 'yellow')}{why}")
        if account.why and account.why.hint:
            console.print(f"  {account.why.to_dict()['hint']}")
    for reason in account.reasons[:_SHOWN_REASONS]:
        console.print(f"  {console.style('refused', 'red')}: {reason}")
    if len(account.reasons) > _SHOWN_REASONS:
        console.print(f"  {console.style('refused', 'red')}: {len(account.reasons) - _SHOWN_REASONS} more")
    for path in account.refusals:
        console.print(f"  refused events are kept in {path}")
    if account.earlier_runs and not from_the_first:
        runs = f"{plural(account.earlier_runs, 'run')} before it was named"
        console.print(f"  {runs}   to send those too: {invocation.next_command('sync', '--all')}")
