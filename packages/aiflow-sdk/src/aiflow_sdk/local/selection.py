"""Which tasks of a plan a run does, and whose staged frames stand for the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import ConfigurationError, DocumentError, RunError, Where
from aiflow_sdk.local.request import RunRequest
from aiflow_sdk.local.store import RunFolder, list_runs
from aiflow_sdk.plan import Plan, Run


@dataclass(frozen=True)
class Selection:
    """The tasks that a run does."""

    tasks: tuple[str, ...] = ()
    earlier: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Task that is left out and whose frames are needed → (run id, execution) that made them."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """What was asked for: ``only``, ``from``, ``until`` → node id."""

    def to_dict(self) -> dict[str, Any]:
        """Return the selection as JSON-ready data."""
        return {**self.asked, "earlier": {task: list(run) for task, run in self.earlier.items()}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Selection:
        """Return what a later process needs of the selection: the earlier runs."""
        return Selection(earlier={task: (run[0], run[1]) for task, run in (data.get("earlier") or {}).items()})


def select_tasks(plan: Plan, run: Run, request: RunRequest, root: Path) -> Selection:
    """Return the tasks that the request asks for.

    Raises ``UnknownNameError`` for an unknown node, ``RunError`` where a frame is needed that no earlier run of the
    partition made.
    """
    asked = {
        name: node
        for name, node in (("only", request.only), ("from", request.from_node), ("until", request.until_node))
        if node
    }
    if not asked:
        return Selection(tuple(task.id for task in plan.tasks))
    if "only" in asked and len(asked) > 1:
        raise ConfigurationError("bad-selection", "'only' selects one task, so it goes with neither 'from' nor 'until'")
    wanted = {task.id for task in plan.tasks}
    for name, node in asked.items():
        named = {task.id for task in _tasks_of(plan, node)}
        match name:
            case "only":
                wanted &= named
            case "from":
                wanted &= _reach(named, {task.id: _downstream(plan, task.id) for task in plan.tasks})
            case _:
                wanted &= _reach(named, {task.id: task.upstream for task in plan.tasks})
    if not wanted:
        raise ConfigurationError(
            "bad-selection",
            f"nothing lies between '{request.from_node}' and '{request.until_node}'",
            hint="swap them, or name nodes of one path",
        )
    missing = {
        up
        for task in plan.tasks
        if task.id in wanted
        for up in task.upstream
        if up not in wanted and not plan.task(up).waits
    }
    earlier = {task_id: _earlier_run(plan, run, task_id, root) for task_id in sorted(missing)}
    return Selection(tuple(task.id for task in plan.tasks if task.id in wanted), earlier, asked)


def _tasks_of(plan: Plan, node_id: str) -> list[Any]:
    """Return the tasks that hold a node: one, but of a source each that reads it."""
    plan.task_of(node_id)
    return [task for task in plan.tasks if node_id in task.node_ids]


def _downstream(plan: Plan, task_id: str) -> tuple[str, ...]:
    return tuple(task.id for task in plan.tasks if task_id in task.upstream)


def _reach(start: set[str], edges: Mapping[str, tuple[str, ...]]) -> set[str]:
    found, waiting = set(start), list(start)
    while waiting:
        for task_id in edges[waiting.pop()]:
            if task_id not in found:
                found.add(task_id)
                waiting.append(task_id)
    return found


def _earlier_run(plan: Plan, run: Run, task_id: str, root: Path) -> tuple[str, int]:
    """Return the newest run of the same partition in which the task succeeded."""
    wanted = (run.project, run.partition_key, run.last_partition_key)
    for record in list_runs(root, pipeline=run.pipeline_id, environment=run.environment):
        if (record.run["project"], record.run["partition_key"], record.run["last_partition_key"]) != wanted:
            continue
        try:
            task = RunFolder(root, record.run_id).load().tasks.get(task_id)
        except DocumentError:
            continue
        if task and task.state == "succeeded" and record.state != "running":
            return record.run_id, int(record.run["execution"])
    node = plan.task(task_id).stages[0]
    raise RunError(
        "no-earlier-run",
        f"no run of '{run.pipeline_id}' for {run.partition_text} has done the task '{task_id}', whose frame is needed",
        where=Where(about=f"pipeline '{run.pipeline_id}', task '{task_id}'"),
        hint=f"run it too: aiflow run {run.pipeline_id} --from {node}",
    )
