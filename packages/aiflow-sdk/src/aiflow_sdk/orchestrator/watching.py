"""Looks at runs in Airflow until they end, and tells of them in the records that a local run tells of itself.

See :mod:`aiflow_sdk.local.records`. Watching changes nothing: whoever stops leaves Airflow's runs as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiflow_sdk.errors import RunError
from aiflow_sdk.local.records import OnRecord, Record, make_record
from aiflow_sdk.local.store import RunRecord
from aiflow_sdk.orchestrator.airflow import Airflow, Backfill
from aiflow_sdk.orchestrator.deployed import DeployedPipeline
from aiflow_sdk.orchestrator.logs import read_error
from aiflow_sdk.orchestrator.patience import ENDED, patiently, pause_seconds, read_moment

_ERRORS_READ = 20


@dataclass(frozen=True)
class Outcome:
    """How what was watched has ended."""

    state: str
    """``succeeded``, ``failed``, or ``cancelled`` where some of a backfill's runs were never made."""
    seconds: float
    succeeded: int = 0
    errors: tuple[Mapping[str, Any], ...] = ()

    @property
    def exit_code(self) -> int:
        """As a command ends: 0 where all succeeded, else 1."""
        return 0 if self.state == "succeeded" else 1


def watch_run(airflow: Airflow, pipeline: DeployedPipeline, run: RunRecord, take: OnRecord) -> Outcome:
    """Tell of a run until it has ended. Raises ``OrchestratorError`` where Airflow does not answer for two minutes."""
    watch = _Watch(airflow, pipeline, take)
    began = time.monotonic()
    watch.start(run)
    while run.state not in ENDED:
        time.sleep(pause_seconds(began))
        run = patiently(airflow.run, pipeline.dag_id, run.run_id)
        watch.look(run)
    return watch.finish(run)


def watch_backfill(airflow: Airflow, pipeline: DeployedPipeline, backfill: Backfill, take: OnRecord) -> Outcome:
    """Tell of a backfill until all its runs have ended, in whatever order they do. Raises as :func:`watch_run`."""
    began = time.monotonic()
    started: set[str] = set()
    ended: dict[str, Outcome] = {}
    while True:
        is_finished = patiently(airflow.is_finished, backfill)
        runs = patiently(airflow.runs_of, pipeline, backfill)
        for key, run in sorted(runs.items()):
            if key in ended or run.state == "queued":
                continue
            if key not in started:
                started.add(key)
                take(_run_record("run-started", pipeline, run, nodes=[], tasks=[]))
            if run.state in ENDED:
                read_error = sum(one.state == "failed" for one in ended.values()) < _ERRORS_READ
                ended[key] = _Watch(airflow, pipeline, take).conclude(run, read_error)
        missing = [key for key in backfill.due if key not in ended]
        if not missing or (is_finished and not any(key in runs for key in missing)):
            break
        time.sleep(pause_seconds(began))
    failed = [one for one in ended.values() if one.state == "failed"]
    state = "failed" if failed else "cancelled" if missing else "succeeded"
    errors = tuple(error for one in failed for error in one.errors)
    seconds = time.monotonic() - began
    take(
        make_record(
            "backfill-finished",
            pipeline_id=pipeline.pipeline_id,
            environment=pipeline.environment,
            first=backfill.first,
            last=backfill.last,
            state=state,
            seconds=round(seconds, 3),
            succeeded=len(ended) - len(failed),
            failed=len(failed),
            skipped=len(backfill.skipped),
        )
    )
    return Outcome(state, seconds, len(ended) - len(failed), errors)


def backfill_started(
    pipeline: DeployedPipeline, first: str, last: str, due: Sequence[str], skipped: Sequence[str], reason: str
) -> Record:
    """Return the record that begins a backfill: which partitions it makes, and which have had their run."""
    partitions: list[dict[str, Any]] = [{"partition": key, "reason": reason} for key in due]
    partitions += [{"partition": key, "reason": None} for key in skipped]
    return make_record(
        "backfill-started",
        pipeline_id=pipeline.pipeline_id,
        environment=pipeline.environment,
        first=first,
        last=last,
        partitions=sorted(partitions, key=lambda one: str(one["partition"])),
        others="had a run already",
        parallel=None,
        ranges=False,
    )


@dataclass
class _Watch:
    """One run that is looked at again and again; what has changed is told."""

    airflow: Airflow
    pipeline: DeployedPipeline
    take: OnRecord
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)
    written: list[dict[str, Any]] = field(default_factory=list)

    def start(self, run: RunRecord) -> None:
        """Tell what there is to do."""
        self._read_tasks()
        upstream: dict[str, list[str]] = {name: [] for name in self.tasks}
        for name, task in self.tasks.items():
            for other in task.get("downstream_task_ids") or ():
                upstream.setdefault(other, []).append(name)
        self.take(
            _run_record(
                "run-started",
                self.pipeline,
                run,
                project=self.pipeline.project,
                cause=run.run["cause"],
                version=self.pipeline.version,
                resumed=False,
                folder=run.folder,
                nodes=[node for task in self.tasks.values() for node in task["nodes"]],
                tasks=[
                    {
                        "id": name,
                        "engine": task["nodes"][0]["engine"],
                        "cluster": "airflow",
                        "node_ids": [node["id"] for node in task["nodes"]],
                        "upstream": upstream[name],
                        "state": "waiting",
                        "attempt": 0,
                    }
                    for name, task in self.tasks.items()
                ],
            )
        )

    def look(self, run: RunRecord) -> None:
        """Tell how the tasks stand that stand otherwise than before."""
        for task in patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id):
            name, state = task["task_id"], task.get("state") or "none"
            now = state, task.get("try_number") or 0
            if name not in self.tasks or self.seen.get(name) == now:
                continue
            was, self.seen[name] = self.seen.get(name, ("none", 0)), now
            if state in ("running", "deferred", "success", "failed", "up_for_retry") and was[0] not in (
                "running",
                "deferred",
            ):
                self._tell("task-started", run, task, timeout_seconds=None)
                for node in self.tasks[name]["nodes"][:1]:
                    began = read_moment(task.get("start_date")) or time.time()
                    self.take(self._record("node-started", run, task, node_id=node["id"]) | {"time": began})
            match state:
                case "success" | "skipped":
                    self._tell_done(run, task)
                case "failed":
                    error = self.error_of(run, task)
                    self._tell("task-failed", run, task, seconds=task.get("duration"), error=error, blocked=[])
                case "up_for_retry":
                    self._tell(
                        "task-retried",
                        run,
                        task,
                        seconds=task.get("duration"),
                        error=self.error_of(run, task),
                        delay_seconds=_delay(self.tasks[name], task.get("try_number") or 1),
                    )

    def finish(self, run: RunRecord) -> Outcome:
        """Tell how the run has ended."""
        self.look(run)
        attempts = patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id)
        failed = [task for task in attempts if task.get("state") == "failed"]
        errors = [self.error_of(run, task) for task in failed] if run.state == "failed" else []
        if run.state == "failed" and not errors:
            errors = [_error_of_run(run)]
        states = {task["task_id"]: task.get("state") for task in attempts}
        self._tell_end(run, errors, states)
        return Outcome(run.state, run.seconds, int(run.state == "succeeded"), tuple(errors))

    def conclude(self, run: RunRecord, read_error: bool) -> Outcome:
        """Tell of a run of a backfill, which has ended, as a whole."""
        errors: list[Mapping[str, Any]] = []
        if run.state == "failed":
            errors.append(_error_of_run(run))
            if read_error:
                attempts = patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id)
                errors = [self.error_of(run, one) for one in attempts if one.get("state") == "failed"] or errors
        facts = [_facts(event) for event in patiently(self.airflow.written, self.pipeline.dag_id, run.run_id)]
        written = _run_record("task-finished", self.pipeline, run, task_id="", attempt=1, seconds=run.seconds)
        self.take({**written, "nodes": facts})
        self._tell_end(run, errors, {})
        return Outcome(run.state, run.seconds, int(run.state == "succeeded"), tuple(errors))

    def error_of(self, run: RunRecord, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what went wrong in a task, as its log tells it."""
        name, number = task["task_id"], task.get("try_number") or 1
        lines = patiently(self.airflow.log, self.pipeline.dag_id, run.run_id, name, number)
        return read_error(lines, run, name)

    def _read_tasks(self) -> None:
        found = patiently(self.airflow.tasks, self.pipeline.dag_id)
        self.tasks = {task["task_id"]: task for task in found}

    def _tell_done(self, run: RunRecord, task: Mapping[str, Any]) -> None:
        name, seconds = task["task_id"], task.get("duration")
        events = patiently(self.airflow.written, self.pipeline.dag_id, run.run_id)
        facts = {event["node"]: _facts(event) for event in events if event.get("node")}
        nodes = [
            facts.get(node["id"], {"node_id": node["id"]}) | {"superseded": False} for node in self.tasks[name]["nodes"]
        ]
        self._tell("task-finished", run, task, seconds=seconds, nodes=nodes)

    def _tell_end(self, run: RunRecord, errors: Sequence[Mapping[str, Any]], tasks: Mapping[str, Any]) -> None:
        self.take(
            _run_record(
                "run-finished",
                self.pipeline,
                run,
                state=run.state,
                seconds=round(run.seconds, 3),
                errors=list(errors),
                tasks=dict(tasks),
                superseded=[],
            )
        )

    def _tell(self, kind: str, run: RunRecord, task: Mapping[str, Any], **facts: Any) -> None:
        self.take(self._record(kind, run, task, **facts))

    def _record(self, kind: str, run: RunRecord, task: Mapping[str, Any], **facts: Any) -> Record:
        number = task.get("try_number") or 1
        return _run_record(kind, self.pipeline, run, task_id=task["task_id"], attempt=number, **facts)


def _error_of_run(run: RunRecord) -> Mapping[str, Any]:
    return RunError(
        "run-failed-in-airflow",
        f"the run for {run.partition} failed and none of its tasks did",
        hint=f"it may have been marked as failed, or have taken too long: {run.folder}",
    ).to_dict()


def _run_record(kind: str, pipeline: DeployedPipeline, run: RunRecord, **facts: Any) -> Record:
    return make_record(
        kind,
        pipeline_id=pipeline.pipeline_id,
        run_id=run.run_id,
        execution=1,
        environment=pipeline.environment,
        partition=run.partition,
        **facts,
    )


def _facts(event: Mapping[str, Any]) -> dict[str, Any]:
    partition = event.get("partition")
    return {
        "node_id": event.get("node"),
        "rows": event.get("rows"),
        "bytes": event.get("bytes"),
        "seconds": None,
        "table_version": event.get("table_version"),
        "address": event.get("address"),
        "partitions": [partition] if partition else [],
    }


def _delay(task: Mapping[str, Any], attempt: int) -> float:
    """Return how long the pause after the attempt is at least; Airflow stretches one that grows, to twice that."""
    delay = task.get("retry_delay") or {}
    seconds = float(delay.get("days", 0) * 86_400 + delay.get("seconds", 0)) if isinstance(delay, dict) else 0.0
    factor = float(task.get("retry_exponential_backoff") or 1)
    return min(max(seconds, 86_400.0), seconds * factor ** min(attempt - 1, 99))
