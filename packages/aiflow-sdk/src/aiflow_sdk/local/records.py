"""The records that a run tells of itself: the contract of the progress view, of ``--json`` and of the log files.

A record is a dict that JSON can hold. All carry ``record`` (its kind) and ``time`` (seconds since 1970); those of a run
also ``pipeline_id run_id execution trace_id environment partition``, those of a task ``task_id attempt``, those of a
node ``node_id``. Besides:

- ``run-started``: ``project generation cause version timeout_seconds resumed folder``; ``nodes``, a list of ``{id type
  kind engine entrypoint input_ids place}`` in order (``place``: what a source or sink names);
  ``tasks``, a list of ``{id engine cluster node_ids upstream state
  attempt}`` in order (of a resumed run some are ``succeeded``, of a selected one some are ``skipped``).
- ``task-started``: ``timeout_seconds``.
- ``node-started``: the runtime has come to this node.
- ``node-finished``: the fields of ``NodeFacts`` that are known. A node can finish twice: computed, then written.
- ``task-finished``: ``seconds``; ``nodes``, a list of ``NodeFacts`` as dicts; ``usage``, what it used of the machine
  (:mod:`aiflow_sdk.usage`), which ``task-retried`` and ``task-failed`` have too unless the process died.
- ``task-retried``: ``seconds error delay_seconds``. This attempt failed, the next one starts after the delay.
- ``task-repeated``: ``reason``. The attempt was ended through no fault of its own and starts again, uncounted.
- ``task-cancelled``: ``reason``. The attempt was ended with its run; a resume does it again.
- ``task-failed``: ``seconds error blocked``. The last attempt failed; ``blocked`` lists the tasks that cannot run now.
- ``log``: ``stream`` (``stdout stderr log``; ``output``: printed past Python's streams), ``level message``, and
  ``logger`` where one was used: one line of user code. A line in a log file has this form too. It has no ``task_id``
  where several tasks were at work and none can be named, no ``run_id`` where several runs were.
- ``worker-restarted``: ``reason``. The process that ran the tasks was ended or died; a new one goes on.
- ``run-finished``: ``state`` (``succeeded failed cancelled``), ``seconds errors``; ``tasks``, ``{id: state}``;
  ``superseded``, the sinks that changed nothing because a newer execution had written there.
- ``backfill-started``: ``pipeline_id environment first last``; ``partitions``, a list of ``{partition reason}`` (reason
  None: up to date, or as ``others`` says); ``parallel``, how many runs at once; ``ranges``, whether one run takes many
  partitions.
- ``backfill-finished``: ``pipeline_id environment first last state seconds``, and how many partitions ``succeeded
  failed skipped``.
- ``watching-ended``: nobody looks any more at what goes on in Airflow; ``pipeline_id``, ``run_id`` or ``backfill_id``.

Of a run in Airflow (``--on airflow``) there is what Airflow tells: no ``trace_id`` and ``generation``, of a backfill's
runs no nodes and tasks, and of ``NodeFacts`` those of what was written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.local.state import RunState, TaskState
from aiflow_sdk.local.store import partition_text

Record: TypeAlias = dict[str, Any]
OnRecord: TypeAlias = Callable[[Record], None]


def make_record(kind: str, **facts: Any) -> Record:
    """Return a record that is about no run."""
    return {"record": kind, "time": time.time(), **facts}


def run_record(kind: str, run: Mapping[str, Any], **facts: Any) -> Record:
    """Return a record about a run."""
    return {
        "record": kind,
        "time": time.time(),
        "pipeline_id": run["pipeline_id"],
        "run_id": run["run_id"],
        "execution": run["execution"],
        "trace_id": run["trace_id"],
        "environment": run["environment"],
        "partition": partition_text(run),
        **facts,
    }


def task_record(kind: str, run: Mapping[str, Any], task_id: str, attempt: int, **facts: Any) -> Record:
    """Return a record about one attempt of a task."""
    return run_record(kind, run, task_id=task_id, attempt=attempt, **facts)


def run_started(
    state: RunState, plan: Mapping[str, Any], *, resumed: bool, folder: str, facts: Mapping[str, Any] | None = None
) -> Record:
    """Return the record that begins a run; ``facts`` are what templates may name."""
    nodes = [
        {name: node.get(name) for name in ("id", "type", "kind", "engine", "entrypoint", "input_ids")}
        | {"place": _place(node, facts or {})}
        for node in plan["nodes"]
    ]
    tasks = [
        {name: task[name] for name in ("id", "engine", "cluster", "node_ids", "upstream")}
        | {"state": state.tasks[task["id"]].state, "attempt": state.tasks[task["id"]].attempt}
        for task in plan["tasks"]
    ]
    return run_record(
        "run-started",
        state.run,
        project=state.run["project"],
        generation=state.run["generation"],
        cause=state.run["cause"],
        version=plan["version"],
        timeout_seconds=state.timeout_seconds,
        resumed=resumed,
        folder=folder,
        nodes=nodes,
        tasks=tasks,
    )


def _place(node: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """Return what a source or sink names, its table, path or the like, as it is in this run; secrets stay names."""
    options = node.get("options") or {}
    named: list[str] = [
        options[name] for name in ("table", "path", "stream", "url") if isinstance(options.get(name), str)
    ]
    named += [str(node["dataset"][-1])] if node.get("dataset") else []
    if not named:
        return None
    if facts and "{{" in named[0]:
        from aiflow_sdk.variables import render

        with suppress(AiflowError):  # what cannot be rendered is told by the node itself
            return str(render(named[0], facts))
    return named[0]


def attempt_ended(state: RunState, task: TaskState, change: str, reason: str = "") -> Record:
    """Return the record of an attempt that did not succeed."""
    facts: dict[str, Any]
    match change:
        case "failed":
            blocked = [other.task_id for other in state.tasks.values() if other.state == "blocked"]
            facts = {"seconds": task.seconds, "error": task.error, "blocked": blocked}
        case "retried":
            facts = {"seconds": task.seconds, "error": task.error, "delay_seconds": task.pause_seconds}
        case _:
            facts = {"reason": reason}
    return task_record(f"task-{change}", state.run, task.task_id, task.attempt, **facts)


def run_finished(state: RunState) -> Record:
    """Return the record that ends a run."""
    return run_record(
        "run-finished",
        state.run,
        state=state.state,
        seconds=round(state.seconds, 3),
        errors=errors_of(state),
        tasks={task_id: task.state for task_id, task in state.tasks.items()},
        superseded=list(state.superseded),
    )


def errors_of(state: RunState) -> list[Mapping[str, Any]]:
    """Return the errors of the run itself and then of each task that failed."""
    failed = [task.error for task in state.tasks.values() if task.state == "failed" and task.error]
    return [*state.errors, *(error for error in failed if error not in state.errors)]
