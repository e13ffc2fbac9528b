"""Runs plans on this machine: one supervised child process, a folder of runs, backfills and what they remember.

Importing this package is quick: its names load on first use, and what the command line calls
(:mod:`~aiflow_sdk.local.supervisor`, :mod:`~aiflow_sdk.local.store`) needs the standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.local.definition import run_definition
    from aiflow_sdk.local.making import Making, why_run
    from aiflow_sdk.local.request import BackfillRequest, RunRequest
    from aiflow_sdk.local.store import RunFolder, list_runs, read_log, read_run
    from aiflow_sdk.local.summary import BackfillSummary, RunSummary, TaskSummary
    from aiflow_sdk.local.supervisor import backfill, run_pipeline_locally

_HOMES = {
    "BackfillRequest": "request",
    "BackfillSummary": "summary",
    "Making": "making",
    "RunFolder": "store",
    "RunRequest": "request",
    "RunSummary": "summary",
    "TaskSummary": "summary",
    "backfill": "supervisor",
    "list_runs": "store",
    "read_log": "store",
    "read_run": "store",
    "run_definition": "definition",
    "run_pipeline_locally": "supervisor",
    "why_run": "making",
}

__all__ = [
    "BackfillRequest",
    "BackfillSummary",
    "Making",
    "RunFolder",
    "RunRequest",
    "RunSummary",
    "TaskSummary",
    "backfill",
    "list_runs",
    "read_log",
    "read_run",
    "run_definition",
    "run_pipeline_locally",
    "why_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"aiflow_sdk.local.{_HOMES[name]}"), name)
