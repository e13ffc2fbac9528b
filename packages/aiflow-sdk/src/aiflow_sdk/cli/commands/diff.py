"""``aiflow diff``: how two versions of a pipeline differ, as meaning and not as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import compile_found, find_pipeline
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_next
from aiflow_sdk.cli.releases import moment_of, release_data, short_version
from aiflow_sdk.cli.service import find_recorded
from aiflow_sdk.errors import UnknownNameError

if TYPE_CHECKING:
    from aiflow_sdk.deployment import DeployedPipeline, Version

_TREE = "."
_DEPLOYED = "deployed"


@subcommand(
    "diff",
    """aiflow diff daily_revenue --env prod
aiflow diff daily_revenue 3f2a --env prod
aiflow diff daily_revenue 3f2a deployed --env prod --json""",
)
@click.argument("pipeline")
@click.argument("before", metavar="[A]", default=_DEPLOYED)
@click.argument("after", metavar="[B]", default=_TREE)
def command(invocation: Invocation, pipeline: str, before: str, after: str) -> None:
    """Show how version B of PIPELINE differs from version A.

    A version is the beginning of one that `aiflow history` lists, `deployed` for the current one, or `.` for the
    project's folder as it is. Without B it is the folder, without A what is deployed. Each difference says what hangs
    on it: rows (partitions made before are made again), how it runs, or the description alone.
    """
    from aiflow_sdk.cli.differences import count_differences, differences_data, format_differences
    from aiflow_sdk.deployment import DeployedPipeline, open_bundles

    invocation.configure("leniently")
    deployed = DeployedPipeline(open_bundles(invocation.environment), invocation.project.name, pipeline)
    old, new = (_version(invocation, deployed, asked) for asked in (before, after))
    found = old.differences_to(new)
    console = invocation.console
    if invocation.as_json:
        about = {"pipeline": pipeline, "environment": invocation.environment.name}
        console.print_json({**about, "before": _data(old), "after": _data(new), **differences_data(found)})
        return
    console.print(f"{console.style(pipeline, 'bold')}  {_words(old)} → {_words(new)}")
    for line in format_differences(console, found):
        console.print(line)
    if not found:
        console.print("  nothing differs")
        return
    commands = [] if new.release else [invocation.next_command("deploy")]
    for line in format_next(console, count_differences(found), commands) if commands else [count_differences(found)]:
        console.print(line)


def _version(invocation: Invocation, deployed: DeployedPipeline, asked: str) -> Version:
    from aiflow_sdk.deployment import Version

    if asked == _DEPLOYED:
        return deployed.current()
    if asked != _TREE:
        try:
            return deployed.version(asked)
        except UnknownNameError:
            recorded = find_recorded(invocation, deployed.pipeline)
            if recorded and (version := recorded.version(asked)):
                return version
            raise
    found, discovery = find_pipeline(invocation, deployed.pipeline)
    # As it would be deployed: tasks run in a copy of the folder, so that its addresses are whole.
    return Version(found.ir, compile_found(invocation, found, discovery, invocation.environment.anchored()))


def _words(version: Version) -> str:
    if (release := version.release) is None:
        return "the project's folder"
    return f"{short_version(release.project_version)} (release {release.number}, {release.by}, {moment_of(release)})"


def _data(version: Version) -> dict[str, Any]:
    return {
        "version": version.plan.version,
        "definition": version.plan.definition,
        "release": release_data(version.release) if version.release else None,
    }
