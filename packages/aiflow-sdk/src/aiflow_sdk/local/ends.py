"""Tells the end of runs that nobody is left to tell of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.events import Spool
from aiflow_sdk.ir import invalid_document
from aiflow_sdk.lineage import Lineage, end_open, ends_with, event_of_record, open_starts
from aiflow_sdk.local.records import Record, attempt_ended, run_finished, task_record
from aiflow_sdk.local.state import RunState
from aiflow_sdk.local.store import RunFolder, newest_run_ids
from aiflow_sdk.plan import Run, TaskResult, read_plan

NEWEST_RUNS = 1000
"""How many of the newest runs are looked at: of older ones what is to be told was told."""
_NOTHING: Mapping[str, int] = {}


def tell_ends(root: Path, looked_at: Mapping[str, int] = _NOTHING) -> Mapping[str, int]:
    """Spool the end of every run of a project that was killed together with whoever would have told of it.

    Here such a run stays ``interrupted``, and may be gone on with; who hears of its events would believe for ever that
    it is running. Where its folder knows the end already, and only the telling is missing, that end is told. What
    cannot be read or written is left to the next one who looks. Returns run id → size of its spool, of the runs that
    need no second look while nothing is added: whoever looks again says so by ``looked_at``.
    """
    try:
        run_ids = newest_run_ids(root, NEWEST_RUNS)
    except OSError:
        return looked_at
    seen: dict[str, int] = {}
    for run_id in run_ids:
        folder = RunFolder(root, run_id)
        try:
            size = folder.events_path.stat().st_size
            if looked_at.get(run_id) != size:
                # Nobody else tells of it, or goes on with it, between what is read here and what is told.
                with folder.held() as is_held:
                    if not is_held:
                        continue
                    if folder.record().state == "running":
                        end_open(folder.events_path)
                    else:
                        _tell_known_end(folder)
                    size = folder.events_path.stat().st_size
            seen[run_id] = size
        except (AiflowError, OSError):
            continue
    return seen


def results_of(state: RunState) -> dict[str, TaskResult]:
    """Return what the tasks of a run that have succeeded gave, by task."""
    return {
        task.task_id: TaskResult.from_dict(
            {"task_id": task.task_id, "seconds": task.seconds or 0, "nodes": list(task.nodes)}
        )
        for task in state.tasks.values()
        if task.state == "succeeded"
    }


def _tell_known_end(folder: RunFolder) -> None:
    """Spool the end of a run as its folder has it, and of its attempts, where the spool breaks off before that.

    The state is written before it is told: whoever was killed, or could not write, in between has left it to be told.
    """
    path = folder.events_path
    if ends_with(path, folder.run_id):
        return
    starts = open_starts(path)
    if not any(start["run"]["runId"] == folder.run_id for start in starts):
        return
    state = folder.load()
    try:
        run = Run.model_validate(dict(state.run))
    except ValidationError as error:
        raise invalid_document("run", error) from error
    lineage = Lineage(read_plan(folder.plan_text()), run)
    results, ended = results_of(state), (folder.path / "run.json").stat().st_mtime
    for record in _records_of(starts, state):
        if event := event_of_record(lineage, {**record, "time": ended}, results):
            Spool(path).append(event)


def _records_of(starts: list[Mapping[str, Any]], state: RunState) -> Iterator[Record]:
    """Yield what is to be told of attempts that have no end, as their tasks tell it, and then of the run."""
    for start in starts:
        facets = start["run"].get("facets")
        about = facets.get("aiflow_run") if isinstance(facets, dict) else None
        task = state.tasks.get(str(about.get("task_id"))) if isinstance(about, dict) else None
        if about is None or task is None or not isinstance(about.get("attempt"), int):
            continue  # the run's own, or whatever it is
        if task.attempt != about["attempt"] or task.state not in ("succeeded", "failed"):
            yield task_record("task-cancelled", state.run, task.task_id, about["attempt"])
        elif task.state == "failed":
            yield attempt_ended(state, task, "failed")
        else:
            yield task_record("task-finished", state.run, task.task_id, task.attempt, seconds=task.seconds)
    yield run_finished(state)
