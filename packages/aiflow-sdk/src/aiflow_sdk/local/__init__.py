"""Runs plans on this machine: one supervised child process, a folder of runs, backfills and what they remember.

Importing this package is quick: its names load on first use, and what the command line calls
(:mod:`~aiflow_sdk.local.supervisor`, :mod:`~aiflow_sdk.local.store`) needs the standard library alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.local.definition import run_definition
    from aiflow_sdk.local.request import BackfillRequest, RunRequest
    from aiflow_sdk.local.sending import Account, send_spools
    from aiflow_sdk.local.store import RunFolder, list_runs, read_log, read_run
    from aiflow_sdk.local.summary import BackfillSummary, RunSummary, TaskSummary
    from aiflow_sdk.local.supervisor import backfill, run_pipeline_locally
    from aiflow_sdk.plan.making import Making, why_run

_HOMES = {
    "Account": "aiflow_sdk.local.sending",
    "BackfillRequest": "aiflow_sdk.local.request",
    "BackfillSummary": "aiflow_sdk.local.summary",
    "Making": "aiflow_sdk.plan.making",
    "RunFolder": "aiflow_sdk.local.store",
    "RunRequest": "aiflow_sdk.local.request",
    "RunSummary": "aiflow_sdk.local.summary",
    "TaskSummary": "aiflow_sdk.local.summary",
    "backfill": "aiflow_sdk.local.supervisor",
    "list_runs": "aiflow_sdk.local.store",
    "read_log": "aiflow_sdk.local.store",
    "read_run": "aiflow_sdk.local.store",
    "run_definition": "aiflow_sdk.local.definition",
    "run_pipeline_locally": "aiflow_sdk.local.supervisor",
    "send_spools": "aiflow_sdk.local.sending",
    "why_run": "aiflow_sdk.plan.making",
}

__all__ = [
    "Account",
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
    "send_spools",
    "why_run",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
