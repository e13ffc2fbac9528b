"""What the commands share that speak to Airflow: which Airflow, which of its pipelines, how watching ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import discover_all, only_pipeline
from aiflow_sdk.cli.command_line import Exit, Invocation
from aiflow_sdk.errors import AiflowError, UnknownNameError

if TYPE_CHECKING:
    from aiflow_sdk.orchestrator import Airflow, DeployedPipeline

INTERRUPTED = 130

on_option = click.option(
    "--on",
    "place",
    type=click.Choice(["local", "airflow"]),
    default="local",
    show_default=True,
    help="Where: on this machine, or in the environment's Airflow.",
)
"""The option that picks the place."""


def refuse_elsewhere(place: str, wanted: str, **options: Any) -> None:
    """Raise ``UsageError`` where an option is given that only the other place knows."""
    for name, value in options.items():
        if place != wanted and value not in (None, False, ()):
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --on {wanted} alone")


def open_airflow(invocation: Invocation) -> Airflow:
    """Return the environment's Airflow. Raises ``AiflowError``."""
    from aiflow_sdk.orchestrator import Airflow

    return Airflow.open(invocation.environment)


def find_deployed(invocation: Invocation, airflow: Airflow, pipeline: str | None) -> DeployedPipeline:
    """Return the pipeline of that id (or ``project/id``), else the project's only one, as Airflow has it.

    The project's code is looked at only where the id alone does not lead to it. Raises ``AiflowError``.
    """
    project, slash, name = (pipeline or only_pipeline(invocation)).rpartition("/")
    if slash:
        return airflow.find(project, name)
    try:
        return airflow.find(invocation.project.name, name)
    except UnknownNameError as error:
        own = _own_project(invocation, name)
        if own in (None, invocation.project.name):
            raise
        try:
            return airflow.find(str(own), name)
        except UnknownNameError:
            raise error from None


def set_paused(invocation: Invocation, pipeline: str | None, *, is_paused: bool) -> None:
    """Pause a pipeline in Airflow, or let it run again, and say so. Raises ``AiflowError``."""
    airflow = open_airflow(invocation)
    deployed = find_deployed(invocation, airflow, pipeline)
    is_changed = airflow.pause(deployed, is_paused)
    console = invocation.console
    if invocation.as_json:
        facts = {"pipeline_id": deployed.pipeline_id, "dag_id": deployed.dag_id, "is_paused": is_paused}
        console.print_json({**facts, "is_changed": is_changed})
        return
    state = "paused" if is_paused else "no longer paused"
    if not is_changed:
        state = "paused already" if is_paused else "not paused"
    console.print(f"{console.style(deployed.pipeline_id, 'bold')} is {state} at {airflow.page_of(deployed.dag_id)}")


def stop_watching(invocation: Invocation, what: str, about: dict[str, Any], commands: list[str]) -> Exit:
    """Say that Airflow goes on, and return what ends the command that was interrupted."""
    from aiflow_sdk.cli.console import format_next

    console = invocation.console
    if invocation.as_json:
        console.print_json({"record": "watching-ended", **about})
    else:
        said = console.style(f"no longer watching; {what} goes on in Airflow", "yellow")
        for line in format_next(console, said, commands):
            console.print(line)
    return Exit(INTERRUPTED)


def _own_project(invocation: Invocation, name: str) -> str | None:
    """Return the project that the pipeline itself names, where the code says so."""
    try:
        return discover_all(invocation).pipeline(name).project
    except AiflowError:
        return None
