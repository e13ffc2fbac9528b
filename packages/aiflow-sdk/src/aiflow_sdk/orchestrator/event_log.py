"""Takes an Airflow's event log into the metadata service's audit: who did what to which pipeline there, and when.

The service says how far it has come and records each entry once, so this may be broken off and repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from aiflow_sdk.orchestrator.airflow import Airflow
from aiflow_sdk.orchestrator.deployed import PipelinesOfDags
from aiflow_sdk.orchestrator.reconciling import Recorder

_STATES = (
    "deferred",
    "failed",
    "queued",
    "removed",
    "restarting",
    "running",
    "scheduled",
    "skipped",
    "success",
    "up_for_reschedule",
    "up_for_retry",
    "upstream_failed",
)
"""What tasks' own processes write into the log as they go: nobody did it."""
_OVERLAP = timedelta(minutes=10)
"""So far back entries are asked for again: one that was being written may have become visible behind a later one."""
_BATCH = 500
_EVENT = re.compile(r"[^A-Za-z0-9_.:-]")
_MOST_EXTRA = 10_000


def take_event_log(airflow: Airflow, service: Recorder, since: datetime) -> int:
    """Take what is new and return how many entries were; the first time those since a moment.

    Raises ``OrchestratorError``, ``ReceiverError``.
    """
    client = airflow.client
    last = (service.get("audit/airflow", source=client.address) or {}).get("last_at")
    after = datetime.fromisoformat(last) - _OVERLAP if last else since
    pages = client.pages(
        "eventLogs", "event_logs", after=after.isoformat(), excluded_events=_STATES, order_by="event_log_id"
    )
    pipelines = PipelinesOfDags(client)
    entries = (_entry(one, pipelines) for one in pages)
    taken = 0
    while batch := list(islice(entries, _BATCH)):
        taken += int(service.post("audit/airflow", {"source": client.address, "entries": batch})["recorded"])
    return taken


def _entry(one: Mapping[str, Any], pipelines: PipelinesOfDags) -> dict[str, Any]:
    """Return an entry as the service takes it, with the pipeline that its DAG is, of whatever environment."""
    dag_id = one.get("dag_id")
    deployed = pipelines.find(dag_id) if dag_id else None
    told = {
        "number": one["event_log_id"],
        "at": one["when"],
        "user": _short(one.get("owner")),
        "event": _EVENT.sub("-", str(one["event"]))[:200],
        "dag_id": dag_id,
        "run_id": _short(one.get("run_id")),
        "task_id": one.get("task_id"),
        "environment": deployed.environment if deployed else None,
        "project": deployed.project if deployed else None,
        "pipeline": deployed.pipeline_id if deployed else None,
        "extra": (one.get("extra") or "")[:_MOST_EXTRA],
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _short(text: str | None) -> str | None:
    return text[:500] if text else None
