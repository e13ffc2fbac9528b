"""Looks at runs in Airflow until they end, and tells of them in the records that a local run tells of itself.

See :mod:`aiflow_sdk.local.records`. Watching changes nothing: whoever stops leaves Airflow's runs as they are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from aiflow_sdk.errors import OrchestratorError, RunError, Where, unknown_name
from aiflow_sdk.local.records import OnRecord, Record, make_record
from aiflow_sdk.local.store import RunRecord
from aiflow_sdk.orchestrator.airflow import Airflow, Backfill, DeployedPipeline

ENDED = frozenset({"succeeded", "failed"})

_SOON_SECONDS = 1.0
_LATER_SECONDS = 5.0
_LATER_AFTER_SECONDS = 120.0
_PATIENCE_SECONDS = 120.0
"""How long an Airflow that does not answer is asked again while it is watched: it may be starting anew."""
_ERRORS_READ = 20
_ERROR = re.compile(r"error\[([a-z-]+)\]: (.*)", re.DOTALL)
_PLACED = re.compile(r"(.*?) \(([^()]*\b(?:pipeline|node|task) '[^()]*)\)(?:; (.*))?", re.DOTALL)
"""An error as it says itself: what, where, and what to do; see :class:`aiflow_sdk.errors.AiflowError`."""
_CHATTER = re.compile(r"airflow\.|aiflow_airflow\.|(task|py\.warnings)$")
"""Loggers of Airflow itself, and of ours in its process."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        time.sleep(_pause(began))
        run = _patiently(airflow.run, pipeline.dag_id, run.run_id)
        watch.look(run)
    return watch.finish(run)


def watch_backfill(airflow: Airflow, pipeline: DeployedPipeline, backfill: Backfill, take: OnRecord) -> Outcome:
    """Tell of a backfill until all its runs have ended, in whatever order they do. Raises as :func:`watch_run`."""
    began = time.monotonic()
    started: set[str] = set()
    ended: dict[str, Outcome] = {}
    while True:
        is_finished = _patiently(airflow.is_finished, backfill)
        runs = _patiently(airflow.runs_of, pipeline, backfill)
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
        time.sleep(_pause(began))
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


def watch_log(
    airflow: Airflow, run: RunRecord, *, task: str | None = None, attempt: int | None = None, is_followed: bool = False
) -> Iterator[Record]:
    """Yield what a run's tasks logged, a ``log`` record a line; ``is_followed`` goes on until the run has ended.

    Raises ``UnknownNameError`` (``unknown-task``).
    """
    dag_id, told = str(run.run["dag_id"]), dict[tuple[str, int], int]()
    began = time.monotonic()
    while True:
        tasks = _patiently(airflow.attempts, dag_id, run.run_id)
        if task is not None and tasks and task not in [one["task_id"] for one in tasks]:
            raise unknown_name("unknown-task", "task", task, [one["task_id"] for one in tasks])
        for one in tasks:
            if task is not None and one["task_id"] != task:
                continue
            for number in range(1, (one.get("try_number") or 0) + 1):
                if attempt is not None and number != attempt:
                    continue
                place = one["task_id"], number
                lines = _patiently(airflow.log, dag_id, run.run_id, *place)
                yield from _log_records(run, *place, lines[told.get(place, 0) :])
                told[place] = len(lines)
        if not is_followed or run.state in ENDED:
            return
        time.sleep(_pause(began))
        run = _patiently(airflow.run, dag_id, run.run_id)


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
        for task in _patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id):
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
                    began = _moment(task.get("start_date")) or time.time()
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
                        delay_seconds=_delay(self.tasks[name]),
                    )

    def finish(self, run: RunRecord) -> Outcome:
        """Tell how the run has ended."""
        self.look(run)
        attempts = _patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id)
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
                attempts = _patiently(self.airflow.attempts, self.pipeline.dag_id, run.run_id)
                errors = [self.error_of(run, one) for one in attempts if one.get("state") == "failed"] or errors
        facts = [_facts(event) for event in _patiently(self.airflow.written, self.pipeline.dag_id, run.run_id)]
        written = _run_record("task-finished", self.pipeline, run, task_id="", attempt=1, seconds=run.seconds)
        self.take({**written, "nodes": facts})
        self._tell_end(run, errors, {})
        return Outcome(run.state, run.seconds, int(run.state == "succeeded"), tuple(errors))

    def error_of(self, run: RunRecord, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what went wrong in a task, as its log tells it."""
        name, number = task["task_id"], task.get("try_number") or 1
        lines = _patiently(self.airflow.log, self.pipeline.dag_id, run.run_id, name, number)
        return read_error(lines, run, name)

    def _read_tasks(self) -> None:
        found = _patiently(self.airflow.tasks, self.pipeline.dag_id)
        self.tasks = {task["task_id"]: task for task in found}

    def _tell_done(self, run: RunRecord, task: Mapping[str, Any]) -> None:
        name, seconds = task["task_id"], task.get("duration")
        events = _patiently(self.airflow.written, self.pipeline.dag_id, run.run_id)
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


def read_error(lines: Sequence[Any], run: RunRecord, task_id: str) -> Mapping[str, Any]:
    """Return the error that a task's log ends with, the user's traceback in its notes; see ``aiflow_airflow.operator``.

    Of a task that ended without one (killed, timed out, marked as failed) it is ``task-failed-in-airflow``.
    """
    notes: list[str] = []
    last = ""
    for line in lines:
        told = line if isinstance(line, dict) else {"event": str(line)}
        text = str(told.get("event", ""))
        if found := _ERROR.fullmatch(text):
            code, message = found.groups()
            about, hint = f"task '{task_id}'", None
            if placed := _PLACED.fullmatch(message):
                message, about, hint = placed.groups()
            kind = "UserCodeError" if notes and notes[0].startswith("Traceback ") else "RunError"
            return {
                "type": kind,
                "code": code,
                "message": message,
                "where": {"about": about},
                "hint": hint,
                "retryable": False,
                "notes": notes,
            }
        if told.get("logger") == "aiflow.task" and told.get("level") == "error":
            notes.append(text)
        elif told.get("level") in ("error", "critical"):
            last = text
    error = RunError(
        "task-failed-in-airflow",
        f"the task '{task_id}' failed{': ' + last if last else ''}",
        where=Where(about=f"task '{task_id}'"),
        hint=f"its log tells more: {run.folder}",
    )
    return error.to_dict()


def _error_of_run(run: RunRecord) -> Mapping[str, Any]:
    return RunError(
        "run-failed-in-airflow",
        f"the run for {run.partition} failed and none of its tasks did",
        hint=f"it may have been marked as failed, or have taken too long: {run.folder}",
    ).to_dict()


def _log_records(run: RunRecord, task_id: str, attempt: int, lines: Sequence[Any]) -> Iterator[Record]:
    for line in lines:
        told = line if isinstance(line, dict) else {"event": str(line), "timestamp": None}
        text, logger = str(told.get("event", "")), str(told.get("logger") or "")
        if text.startswith(("::group::", "::endgroup::")) or "timestamp" not in told:
            continue  # headings, and where the log lies
        if _CHATTER.match(logger) and told.get("level") in ("debug", "info", None):
            continue  # what Airflow says of itself
        if raised := [one for one in told.get("error_detail") or () if isinstance(one, dict)]:
            if any(_ERROR.match(str(one.get("exc_value"))) for one in raised):
                continue  # said already, with the user's traceback
            text = f"{text}: {raised[-1].get('exc_type')}: {raised[-1].get('exc_value')}"
        record = make_record("log", stream="log", level=str(told.get("level") or "info"), message=text)
        yield {
            **record,
            "time": _moment(told.get("timestamp")) or record["time"],
            "pipeline_id": run.pipeline_id,
            "run_id": run.run_id,
            "environment": run.run["environment"],
            "partition": run.partition,
            "task_id": task_id,
            "attempt": attempt,
            **({"logger": logger} if logger and logger != "aiflow.task" else {}),
        }


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


def _patiently(ask: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Return an answer; an Airflow that is away for a moment is asked again."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask(*arguments, **options)
        except OrchestratorError as error:
            if not error.retryable or time.monotonic() > until:
                raise
            time.sleep(_LATER_SECONDS)


def _pause(began: float) -> float:
    """Return how long to wait before the next look: the longer it takes, the less often."""
    share = min(1.0, (time.monotonic() - began) / _LATER_AFTER_SECONDS)
    return _SOON_SECONDS + share * (_LATER_SECONDS - _SOON_SECONDS)


def _delay(task: Mapping[str, Any]) -> float:
    delay = task.get("retry_delay") or {}
    return float(delay.get("days", 0) * 86_400 + delay.get("seconds", 0)) if isinstance(delay, dict) else 0.0


def _moment(text: Any) -> float | None:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
