"""``aiflow unpause``: lets a deployed pipeline start runs."""

from __future__ import annotations

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.orchestration import set_paused


@subcommand("unpause", """aiflow unpause daily_revenue --env prod""")
@click.argument("pipeline", required=False)
def command(invocation: Invocation, pipeline: str | None) -> None:
    """Let PIPELINE (its id, or project/id) start runs in Airflow: by its schedule, its inputs and by hand."""
    set_paused(invocation, pipeline, is_paused=False)
