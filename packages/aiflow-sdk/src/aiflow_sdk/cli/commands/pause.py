"""``aiflow pause``: lets a deployed pipeline start no more runs."""

from __future__ import annotations

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.orchestration import set_paused


@subcommand("pause", """aiflow pause daily_revenue --env prod""")
@click.argument("pipeline", required=False)
def command(invocation: Invocation, pipeline: str | None) -> None:
    """Let PIPELINE (its id, or project/id) start no more runs in Airflow; those that run go on."""
    set_paused(invocation, pipeline, is_paused=True)
