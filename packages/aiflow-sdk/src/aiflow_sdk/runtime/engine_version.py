"""What an engine stands on, in the process that runs its tasks."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import PlanTask
from aiflow_sdk.plugins import Engine, load_plugin


def installed_version(task: PlanTask) -> str | None:
    """Return the installed version of what the task's engine is made of; None where it says nothing or is not here."""
    return _version(task.engine_plugin, task.engine)


@cache
def _version(reference: str, kind: str) -> str | None:
    try:
        package = load_plugin(reference, Engine, kind=kind).package
        return version(package) if package else None
    except (AiflowError, PackageNotFoundError):
        return None
