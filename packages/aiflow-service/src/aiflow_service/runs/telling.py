"""Runs as they are answered: one line of a list, or the whole story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiflow_service.database.moments import moment_text
from aiflow_service.runs.fold import RunFold


def is_told_of(row: Any) -> bool:
    """Tell whether a run's own events have told of it, and not its parts alone."""
    return RunFold.from_bytes(row.fold).is_own


def tell_run(row: Any) -> dict[str, Any]:
    """Return a run as a line of a list."""
    return _tell(row, RunFold.from_bytes(row.fold))


def tell_story(row: Any, parts: Sequence[Any], *, is_cut: bool) -> dict[str, Any]:
    """Return a run with its tasks, their attempts and nodes, and with what other runs were part of it."""
    fold = RunFold.from_bytes(row.fold)
    tasks: dict[str, list[dict[str, Any]]] = {}
    others = []
    for part in parts:
        told_fold = RunFold.from_bytes(part.fold)
        told = {**_tell(part, told_fold), **_details(told_fold)}
        if part.task_id is not None and part.parent_uid == row.uid:
            tasks.setdefault(part.task_id, []).append(told)
        else:
            others.append(told)
    ordered = [
        {"task_id": task_id, "state": attempts[-1]["state"], "attempts": attempts}
        for task_id, attempts in (
            (task_id, sorted(attempts, key=lambda one: (one["execution"] or 0, one["attempt"] or 0, one["started_at"])))
            for task_id, attempts in tasks.items()
        )
    ]
    return {**_tell(row, fold), **_details(fold), "tasks": ordered, "parts": others, "is_cut": is_cut}


def _tell(row: Any, fold: RunFold) -> dict[str, Any]:
    facts = fold.facet("aiflow_run")
    return {
        "run_id": row.uid,
        "team": row.team,
        "parent_run_id": row.parent_uid,
        "pipeline": row.pipeline,
        "project": row.project,
        "environment": row.environment,
        "job": {"id": row.job_id, "namespace": row.job_namespace, "name": row.job_name},
        "task_id": row.task_id,
        "partition": row.partition,
        "state": row.state,
        "cause": row.cause,
        "version": row.version,
        "execution": row.execution,
        "generation": facts.get("generation"),
        "attempt": row.attempt,
        "started_at": moment_text(row.started_at),
        "ended_at": moment_text(row.ended_at),
        "seconds": fold.seconds,
        "is_reconciled": fold.is_reconciled,
        "error": _error(fold),
        "trace_id": row.trace_id,
    }


def _details(fold: RunFold) -> dict[str, Any]:
    nominal, engine = fold.facet("nominalTime"), fold.facet("processing_engine")
    datasets = []
    for name, (_, value) in sorted(fold.datasets.items()):
        namespace, short = json.loads(name[2:])
        datasets.append({"is_output": name[0] == "w", "namespace": namespace, "name": short, **value})
    nodes = fold.facet_at_end("aiflow_nodes").get("nodes")
    handed_out = fold.facet("aiflow_run").get("configuration")
    return {
        "data_interval": [nominal.get("nominalStartTime"), nominal.get("nominalEndTime")] if nominal else None,
        "engine": {"name": engine.get("name"), "version": engine.get("version")} if engine else None,
        "nodes": nodes if isinstance(nodes, list) else [],
        "datasets": datasets,
        "configuration": handed_out if isinstance(handed_out, list) else [],
        "log_url": fold.facet("aiflow_airflow").get("log_url"),
        "external_query": fold.facet("externalQuery").get("externalQueryId"),
    }


def _error(fold: RunFold) -> dict[str, Any] | None:
    ours, said = fold.facet_at_end("aiflow_error"), fold.facet_at_end("errorMessage")
    if not ours and not said:
        return None
    return {
        "code": ours.get("code"),
        "message": said.get("message"),
        "where": ours.get("where"),
        "hint": ours.get("hint"),
        "retryable": ours.get("retryable"),
        "trace": said.get("stackTrace"),
    }
