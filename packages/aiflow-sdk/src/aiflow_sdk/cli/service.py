"""The environment's metadata service, for the commands that tell it of something or ask it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.console import Console, format_table, printable
from aiflow_sdk.errors import AiflowError, ConfigurationError

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.deployment import Recorded, RecordedPipeline
    from aiflow_sdk.orchestrator import DeployedPipeline
    from aiflow_sdk.service import Service


def record_deployments(invocation: Invocation) -> Recorded | None:
    """Tell the environment's metadata service of the releases that it does not know; None where there is no service.

    Raises ``AiflowError`` where it cannot be told.
    """
    from aiflow_sdk.deployment import open_bundles, record_releases
    from aiflow_sdk.service import Service

    if invocation.environment.service is None:
        return None
    store = open_bundles(invocation.environment)
    return record_releases(Service(invocation.environment), store, invocation.project.name)


def tell_service(invocation: Invocation) -> str | None:
    """Tell the service, and return what is to be said where it could not be told: a deployment stands without it."""
    try:
        recorded = record_deployments(invocation)
    except AiflowError as error:
        return f"{error}; the next deployment tells it, or now: {invocation.next_command('sync')}"
    if recorded and recorded.problems:
        return f"the metadata service does not record a release: {recorded.problems[0]}"
    return None


def ask_for_grants(invocation: Invocation, pipeline: DeployedPipeline) -> None:
    """Return if the team of a pipeline that is to be started may touch its datasets, or nobody can say just now.

    Raises ``AccessError``.
    """
    from aiflow_sdk.deployment import refuse_ungranted

    environment = invocation.environment
    if note := refuse_ungranted(environment, pipeline.project, pipeline.pipeline_id, pipeline.version):
        Console(sys.stderr).print(f"note: {note}")


def require_service(invocation: Invocation, *, timeout_seconds: float = 60) -> Service:
    """Return the environment's metadata service, asked by whoever types.

    Raises ``ConfigurationError`` (``no-service``).
    """
    from aiflow_sdk.service import Service

    require_address(invocation)
    return Service(invocation.environment, timeout_seconds=timeout_seconds, is_personal=True)


def require_address(invocation: Invocation) -> str:
    """Return the address of the environment's metadata service. Raises ``ConfigurationError`` (``no-service``)."""
    environment = invocation.environment
    if environment.service is None:
        raise ConfigurationError(
            "no-service",
            f"the environment '{environment.name}' names no metadata service, which keeps account of that",
            where=invocation.project.place_of("environments", environment.name),
            hint='start one (aiflow serve) and write service = "http://127.0.0.1:8765" there',
        )
    return environment.service


def show_rows(
    invocation: Invocation,
    path: str,
    row: Callable[[dict[str, Any]], Mapping[str, Any]],
    nothing: str,
    query: Mapping[str, Any] | None = None,
) -> None:
    """Show a list of the service: as it is where data is wanted, else as a table of what ``row`` makes of each."""
    found = list(require_service(invocation).pages(path, limit=500, **(query or {})))
    console = invocation.console
    if invocation.as_json:
        console.print_json(found)
        return
    rows = [{name: "" if value is None else printable(str(value)) for name, value in row(one).items()} for one in found]
    if not rows:
        console.print(nothing)
        return
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)


def tell(invocation: Invocation, data: Any, *lines: str) -> None:
    """Tell what came of a command: the data where that is wanted, else in words."""
    if invocation.as_json:
        invocation.console.print_json(data)
        return
    for line in lines:
        invocation.console.print(line)


def find_recorded(invocation: Invocation, pipeline: str) -> RecordedPipeline | None:
    """Return what the service has recorded of a pipeline; None where there is no service, or it does not answer."""
    from aiflow_sdk.deployment import RecordedPipeline
    from aiflow_sdk.service import Service

    environment = invocation.environment
    if environment.service is None:
        return None
    try:
        return RecordedPipeline(
            Service(environment, is_personal=True), environment.name, invocation.project.name, pipeline
        )
    except AiflowError as error:
        Console(sys.stderr).print(f"note: {error}; what follows is the bundle store's alone")
        return None
