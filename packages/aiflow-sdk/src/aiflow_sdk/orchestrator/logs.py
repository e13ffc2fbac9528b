"""What Airflow's logs of tasks tell: lines, as a local run's log has them, and the error that a task ended with."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiflow_sdk.errors import RunError, Where, unknown_name
from aiflow_sdk.local.records import Record, make_record
from aiflow_sdk.local.store import RunRecord
from aiflow_sdk.orchestrator.airflow import Airflow
from aiflow_sdk.orchestrator.patience import ENDED, patiently, pause_seconds, read_moment

_ERROR = re.compile(r"error\[([a-z-]+)\]: (.*)", re.DOTALL)
_PLACED = re.compile(r"(.*?) \(([^()]*\b(?:pipeline|node|task) '[^()]*)\)(?:; (.*))?", re.DOTALL)
"""An error as it says itself: what, where, and what to do; see :class:`aiflow_sdk.errors.AiflowError`."""
_CHATTER = re.compile(r"airflow\.|aiflow_airflow\.|(task|py\.warnings)$")
"""Loggers of Airflow itself, and of ours in its process."""


def watch_log(
    airflow: Airflow, run: RunRecord, *, task: str | None = None, attempt: int | None = None, is_followed: bool = False
) -> Iterator[Record]:
    """Yield what a run's tasks logged, a ``log`` record a line; ``is_followed`` goes on until the run has ended.

    Raises ``UnknownNameError`` (``unknown-task``).
    """
    dag_id, told = str(run.run["dag_id"]), Counter[tuple[str, int, str]]()
    began = time.monotonic()
    while True:
        tasks = patiently(airflow.attempts, dag_id, run.run_id)
        if task is not None and tasks and task not in [one["task_id"] for one in tasks]:
            raise unknown_name("unknown-task", "task", task, [one["task_id"] for one in tasks])
        for one in tasks:
            if task is not None and one["task_id"] != task:
                continue
            for number in range(1, (one.get("try_number") or 0) + 1):
                if attempt is not None and number != attempt:
                    continue
                place = one["task_id"], number
                lines = patiently(airflow.log, dag_id, run.run_id, *place)
                if lines and run.state not in ENDED and not _is_whole(lines[-1]):
                    lines = lines[:-1]
                yield from _log_records(run, *place, _untold(place, lines, told))
        if not is_followed or run.state in ENDED:
            return
        time.sleep(pause_seconds(began))
        run = patiently(airflow.run, dag_id, run.run_id)


def _is_whole(line: Any) -> bool:
    """Tell whether a line has a time: Airflow gives one that is being written as it lies there, and without."""
    return isinstance(line, dict) and bool(line.get("timestamp"))


def _untold(place: tuple[str, int], lines: Sequence[Any], told: Counter[tuple[str, int, str]]) -> Iterator[Any]:
    """Yield the lines that were not told yet, by what they say.

    Their numbers say nothing: Airflow merges the lines of several sources by their times, below a heading of as many
    lines as there are sources, and a task that has ended has fewer.
    """
    now = Counter[tuple[str, int, str]]()
    for line in lines:
        key = (*place, json.dumps(line, sort_keys=True))
        now[key] += 1
        if now[key] > told[key]:
            told[key] = now[key]
            yield line


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


def _log_records(run: RunRecord, task_id: str, attempt: int, lines: Iterable[Any]) -> Iterator[Record]:
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
            "time": read_moment(told.get("timestamp")) or record["time"],
            "pipeline_id": run.pipeline_id,
            "run_id": run.run_id,
            "environment": run.run["environment"],
            "partition": run.partition,
            "task_id": task_id,
            "attempt": attempt,
            **({"logger": logger} if logger and logger != "aiflow.task" else {}),
        }
