"""``aiflow history``: the versions of a pipeline that were deployed, and what changed from each to the next."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console, cut, format_next, printable
from aiflow_sdk.cli.releases import moment_of, note_words, release_data, short_version
from aiflow_sdk.cli.service import find_recorded
from aiflow_sdk.cli.times import LIMIT
from aiflow_sdk.errors import AiflowError, ReceiverError, did_you_mean, plural

if TYPE_CHECKING:
    from aiflow_sdk.deployment import HistoryEntry

_SHOWN = 8


@subcommand(
    "history",
    """aiflow history daily_revenue --env prod
aiflow history daily_revenue --env prod --limit 5 --json""",
)
@click.argument("pipeline")
@click.option("--limit", default=20, show_default=True, metavar="N", type=LIMIT, help="How many.")
def command(invocation: Invocation, pipeline: str, limit: int) -> None:
    """List the releases in which something became of PIPELINE, the newest first, each with what changed.

    The current one has a star. What is read is the environment's bundle store; older releases than it keeps
    (bundles_keep, bundles_keep_days), and all where the store is gone, are told by the environment's metadata service.
    """
    from aiflow_sdk.cli.differences import differences_data
    from aiflow_sdk.deployment import DeployedPipeline, open_bundles, recalled_history

    invocation.configure("leniently")
    try:
        store = open_bundles(invocation.environment)
        found = DeployedPipeline(store, invocation.project.name, pipeline).history(limit)
    except AiflowError as error:
        found = _recorded_alone(invocation, pipeline, limit, error)
    else:
        if recorded := find_recorded(invocation, pipeline):
            found = recalled_history(found, islice(recorded.history(), limit + len(found)))[:limit]
    console = invocation.console
    if invocation.as_json:
        told: list[dict[str, Any]] = [
            {
                "release": release_data(one.release),
                "version": one.version,
                "current": one.is_current,
                "changed": _state(one),
                **differences_data(one.differences or ()),
            }
            for one in found
        ]
        console.print_json(told)
        return
    for one in found:
        _print_entry(invocation, one)
    words = ["diff", pipeline, *([found[1].release.project_version[:12], "deployed"] if len(found) > 1 else [])]
    for line in format_next(console, plural(len(found), "version"), [invocation.next_command(*words)]):
        console.print(line)


def _recorded_alone(invocation: Invocation, pipeline: str, limit: int, store_error: AiflowError) -> list[HistoryEntry]:
    """Return what the service has recorded, where the bundle store is gone, unreachable or knows no such pipeline.

    Raises what the store has raised where the service does not know more, with the name that may be meant.
    """
    recorded = find_recorded(invocation, pipeline, "nobody else knows")
    try:
        found = [one for _, one in islice(recorded.history(), limit)] if recorded else []
        if recorded and not found and "did you mean" not in (store_error.hint or ""):
            store_error.hint = did_you_mean(pipeline, recorded.names()) or store_error.hint
    except ReceiverError:
        raise store_error from None
    if not found:
        raise store_error
    said = f"note: {store_error}; what follows is what the metadata service has recorded"
    Console(sys.stderr).print(said)
    return [replace(found[0], is_current=found[0].version is not None), *found[1:]]


def _state(entry: HistoryEntry) -> str:
    if entry.version is None:
        return "removed"
    return "first" if entry.differences is None else "changed"


def _print_entry(invocation: Invocation, entry: HistoryEntry) -> None:
    from aiflow_sdk.cli.differences import count_differences, format_differences

    console, release = invocation.console, entry.release
    star = "*" if entry.is_current else " "
    head = f"{star} {console.style(short_version(release.project_version), 'bold')}"
    about = f"release {release.number}  {release.action} by {printable(release.by)}  {moment_of(release)}"
    match _state(entry):
        case "removed":
            said = "the pipeline is gone"
        case "first":
            said = "the oldest that is kept"
        case _:
            said = count_differences(entry.differences or ()) if entry.differences else "nothing that it means changed"
    console.print(f"{head}  {console.style(about, 'dim')}  {said}")
    if note := note_words(release.note.message, release.note.commit, release.note.is_dirty):
        console.print(f"  {console.style(note, 'dim')}")
    lines = list(format_differences(console, entry.differences or ()))
    for line in lines[:_SHOWN]:
        console.print(f"  {cut(line, console.width - 2) if console.is_terminal else line}")
    if len(lines) > _SHOWN:
        console.print(f"    and {plural(len(lines) - _SHOWN, 'more line')}")
