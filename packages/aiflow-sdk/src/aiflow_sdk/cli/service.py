"""The environment's metadata service, for the commands that tell it of something or ask it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aiflow_sdk.cli.console import Console
from aiflow_sdk.errors import AiflowError, ConfigurationError

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.deployment import Recorded, RecordedPipeline, Service


def record_deployments(invocation: Invocation) -> Recorded | None:
    """Tell the environment's metadata service of the releases that it does not know; None where there is no service.

    Raises ``AiflowError`` where it cannot be told.
    """
    from aiflow_sdk.deployment import Service, open_bundles, record_releases

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


def require_service(invocation: Invocation, *, timeout_seconds: float = 60) -> Service:
    """Return the environment's metadata service. Raises ``ConfigurationError`` (``no-service``)."""
    from aiflow_sdk.deployment import Service

    environment = invocation.environment
    if environment.service is None:
        raise ConfigurationError(
            "no-service",
            f"the environment '{environment.name}' names no metadata service, which keeps account of that",
            where=invocation.project.place_of("environments", environment.name),
            hint='start one (aiflow serve) and write service = "http://127.0.0.1:8765" there',
        )
    return Service(environment, timeout_seconds=timeout_seconds)


def find_recorded(invocation: Invocation, pipeline: str) -> RecordedPipeline | None:
    """Return what the service has recorded of a pipeline; None where there is no service, or it does not answer."""
    from aiflow_sdk.deployment import RecordedPipeline, Service

    environment = invocation.environment
    if environment.service is None:
        return None
    try:
        return RecordedPipeline(Service(environment), environment.name, invocation.project.name, pipeline)
    except AiflowError as error:
        Console(sys.stderr).print(f"note: {error}; what follows is the bundle store's alone")
        return None
