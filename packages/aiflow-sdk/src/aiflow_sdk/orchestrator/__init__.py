"""Airflow, told what to do from the command line through its public REST API (version 2): trigger, backfill, look.

``client`` speaks HTTP and knows errors; ``airflow`` knows pipelines, runs and backfills; ``watching`` and ``logs``
turn what Airflow tells of them into the records of :mod:`aiflow_sdk.local.records`, so that one view shows both places.
Nothing here imports Airflow. Importing this package is quick: its names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.orchestrator.airflow import Airflow, Backfill, Reprocess, Request
    from aiflow_sdk.orchestrator.client import AirflowClient
    from aiflow_sdk.orchestrator.deployed import DeployedPipeline
    from aiflow_sdk.orchestrator.event_log import take_event_log
    from aiflow_sdk.orchestrator.logs import watch_log
    from aiflow_sdk.orchestrator.reconciling import Reconciled, reconcile_runs
    from aiflow_sdk.orchestrator.watching import Outcome, watch_backfill, watch_run

_HOMES = {
    "Airflow": "aiflow_sdk.orchestrator.airflow",
    "AirflowClient": "aiflow_sdk.orchestrator.client",
    "Backfill": "aiflow_sdk.orchestrator.airflow",
    "DeployedPipeline": "aiflow_sdk.orchestrator.deployed",
    "Outcome": "aiflow_sdk.orchestrator.watching",
    "Reconciled": "aiflow_sdk.orchestrator.reconciling",
    "Reprocess": "aiflow_sdk.orchestrator.airflow",
    "Request": "aiflow_sdk.orchestrator.airflow",
    "reconcile_runs": "aiflow_sdk.orchestrator.reconciling",
    "take_event_log": "aiflow_sdk.orchestrator.event_log",
    "watch_backfill": "aiflow_sdk.orchestrator.watching",
    "watch_log": "aiflow_sdk.orchestrator.logs",
    "watch_run": "aiflow_sdk.orchestrator.watching",
}

__all__ = [
    "Airflow",
    "AirflowClient",
    "Backfill",
    "DeployedPipeline",
    "Outcome",
    "Reconciled",
    "Reprocess",
    "Request",
    "reconcile_runs",
    "take_event_log",
    "watch_backfill",
    "watch_log",
    "watch_run",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
