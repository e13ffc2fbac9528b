"""Which event a record of a run stands for: the local runner's records, and those of an operator of Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiflow_sdk.events import EventType
from aiflow_sdk.lineage.story import Lineage
from aiflow_sdk.plan import TaskResult

RECORDS = frozenset(
    {
        "run-started",
        "run-finished",
        "task-started",
        "task-finished",
        "task-failed",
        "task-retried",
        "task-repeated",
        "task-cancelled",
    }
)
"""The records that stand for an event."""


def event_of_record(
    lineage: Lineage, record: Mapping[str, Any], results: Mapping[str, TaskResult]
) -> dict[str, Any] | None:
    """Return the event that a record stands for, or None of those that stand for none.

    ``results`` are those of the tasks that have succeeded so far.
    """
    time = datetime.fromtimestamp(record["time"], UTC)
    match record["record"]:
        case "run-started":
            return lineage.run_event("START", time=time)
        case "run-finished":
            kinds: dict[str, EventType] = {"succeeded": "COMPLETE", "cancelled": "ABORT"}
            errors = record.get("errors") or [None]
            return lineage.run_event(
                kinds.get(record["state"], "FAIL"),
                results=results.values(),
                error=errors[0],
                time=time,
                columns=record.get("columns"),
            )
        case "task-started":
            return lineage.task_event("START", lineage.plan.task(record["task_id"]), record["attempt"], time=time)
        case "task-finished":
            task_id = record["task_id"]
            result = results.get(task_id) or TaskResult.from_dict(
                {"task_id": task_id, "seconds": record["seconds"], "nodes": record.get("nodes", [])}
            )
            task = lineage.plan.task(task_id)
            return lineage.task_event(
                "COMPLETE", task, record["attempt"], result=result, usage=record.get("usage"), time=time
            )
        case "task-failed" | "task-retried":
            task = lineage.plan.task(record["task_id"])
            return lineage.task_event(
                "FAIL", task, record["attempt"], error=record.get("error"), usage=record.get("usage"), time=time
            )
        case "task-repeated" | "task-cancelled":
            return lineage.task_event("ABORT", lineage.plan.task(record["task_id"]), record["attempt"], time=time)
    return None
