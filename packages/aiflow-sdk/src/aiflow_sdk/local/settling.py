"""What becomes of runs whose process is gone, written to their folders."""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_sdk.local.records import Record, attempt_ended, run_finished
from aiflow_sdk.local.state import Loss, RunState, take_loss
from aiflow_sdk.local.store import RunFolder


def settle_loss(runs: Sequence[tuple[RunFolder, RunState]], loss: Loss, now: float) -> dict[str, list[Record]]:
    """Apply the loss of a process to the runs that it was doing; return run id → what there is to tell."""
    folders = {state.run_id: folder for folder, state in runs}
    told: dict[str, list[Record]] = {run_id: [] for run_id in folders}
    for state, task_id, change in take_loss([state for _, state in runs], loss, now):
        task = state.tasks[task_id]
        folders[state.run_id].save_task(task)
        told[state.run_id].append(attempt_ended(state, task, change, str(loss.error["message"])))
    for folder, state in runs:
        folder.save_tasks(state, "blocked")
        folder.save(state)
    return told


def settle_end(folder: RunFolder, state: RunState, now: float, *, cancelled: bool) -> list[Record]:
    """End a run whose process is gone and for which there will be no other; return what there is to tell."""
    told: list[Record] = []
    if cancelled:
        at_work = state.running
        state.cancel(now)
        for task_id in at_work:
            folder.save_task(state.tasks[task_id])
            told.append(attempt_ended(state, state.tasks[task_id], "cancelled", "the run was cancelled"))
    else:
        state.end(now)
    folder.save(state)
    return [*told, run_finished(state)]
