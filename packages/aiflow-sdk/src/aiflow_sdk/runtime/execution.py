"""What the tasks of one execution share although each runs in a process of its own: generation, pins, what is told.

The first task to begin claims them and leaves them beside the execution's staged frames, in
``<staging>/<run>/<execution>/execution.json``; whoever comes later takes what lies there. That a sink has made a
partition is noted in ``<staging>/told/<project>/<pipeline>/<sink>/<partition>``, for those who tell others of it: what
is made a second time is told in another way. What a task has done is noted in
``<staging>/<run>/<execution>/_results/<task>.json``: the last one to end tells of the whole run. Of several that take
themselves for the last, one says so first in ``<staging>/<run>/<execution>/_complete/<which tasks have ended>``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import StoreError
from aiflow_sdk.lineage import column_facets
from aiflow_sdk.plan import Plan, Run, TaskResult
from aiflow_sdk.runtime.generation import claim_generation
from aiflow_sdk.runtime.identities import Data
from aiflow_sdk.runtime.task import bound_environment
from aiflow_sdk.stores import Store, folder_name, open_store


class Joined(NamedTuple):
    """An execution as each of its tasks knows it."""

    run: Run
    """With the generation and the pins that all of them share."""
    again: frozenset[str]
    """The sinks that had made all of the run's partitions, and said so, before the execution began."""
    is_first: bool
    """Whether this task is the first of the execution, in this attempt of it or in one before."""


def join_execution(plan: Plan, task_id: str, run: Run, root: Path) -> Joined:
    """Return what all tasks of the run's execution share, as ``task_id`` joins it.

    Idempotent: every task and attempt of one execution gets the same. Raises ``StoreError``.
    """
    data = Data(plan, root)
    store = _staging(data.environment)
    claim = uuid4().hex
    key = f"{run.run_id}/{run.execution}/execution.json"
    agreed = _read(store, key)
    if agreed is None:
        document = {
            "generation": claim_generation(data.environment, run, known=data.newest_generation(run)),
            "pins": data.pins(run),
            "again": sorted(_told(plan, run, store)),
            # What the claim is signed with tells a put whose answer was lost from another task's.
            "claim": claim,
            "first": task_id,
        }
        store.put_if_absent(key, json.dumps(document).encode())
        agreed = _read(store, key)
    if agreed is None:
        raise StoreError(
            "no-generation",
            f"what execution {run.execution} of run {run.run_id} agreed on is gone from "
            f"{data.environment.staging_address}",
            hint="see who removes files from the environment's staging",
            retryable=True,
        )
    shared = {"generation": agreed["generation"], "pins": agreed["pins"]}
    # Who claimed it in an earlier attempt may have died before anybody heard of it.
    is_first = agreed.get("claim") == claim or (run.attempt > 1 and agreed.get("first") == task_id)
    return Joined(Run.model_validate({**dict(run), **shared}), frozenset(agreed["again"]), is_first)


def note_told(plan: Plan, run: Run, result: TaskResult, root: Path) -> None:
    """Note of the sinks that a task has written that their partitions were made. Raises ``StoreError``."""
    store = _staging(bound_environment(plan, root))
    for facts in result.nodes:
        if plan.nodes[facts.node_id].type == "sink" and not facts.superseded:
            for partition in run.partitions:
                store.put(_told_key(run, facts.node_id, partition.key), run.run_id.encode())


def note_ended(plan: Plan, run: Run, result: TaskResult, root: Path) -> None:
    """Note what a task of the execution has done. Raises ``StoreError``."""
    if len(plan.tasks) > 1:  # of one alone nobody asks
        content = json.dumps({"attempt": run.attempt, "result": result.to_full_dict()}).encode()
        _staging(bound_environment(plan, root)).put(f"{_results(run, run.execution)}/{result.task_id}.json", content)


def ended_tasks(plan: Plan, run: Run, root: Path, *, some: bool = False) -> dict[str, Any]:
    """Return which tasks have ended in this execution (``now``), and what each has done, here or in an earlier one.

    Of two that end at once the one that notes it later sees the other. What they have done (``results``) is only
    looked up once there is none left that has never ended, unless ``some`` will do. Raises ``StoreError``.
    """
    if len(plan.tasks) < 2:
        return {"now": [], "results": {}}
    store = _staging(bound_environment(plan, root))
    keys: dict[str, str] = {}
    now: list[str] = []
    for execution in range(run.execution, 0, -1):
        found = {key.rpartition("/")[2].removesuffix(".json"): key for key in store.list(_results(run, execution))}
        now = now or (sorted(found) if execution == run.execution else [])
        keys = {**found, **keys}
    if not (some or keys.keys() >= {task.id for task in plan.tasks}):
        return {"now": now, "results": {}}
    noted = {task_id: _read(store, key) for task_id, key in keys.items()}
    return {"now": now, "results": {task_id: one["result"] for task_id, one in noted.items() if one}}


def tells_of_run(plan: Plan, run: Run, task_id: str, now: Iterable[str], root: Path) -> bool:
    """Claim that this task tells of the run's end after these tasks have ended in this execution, ``now``.

    Exactly one task is answered True, however often it asks: an attempt of it may have died before it told. Which tasks
    have ended belongs to the claim because after a clear of a part one that is not the last may take itself for that,
    until Airflow says what else is to be done. Raises ``StoreError``.
    """
    if len(plan.tasks) < 2:
        return True
    store = _staging(bound_environment(plan, root))
    which = hashlib.sha256("\n".join(sorted(now)).encode()).hexdigest()[:32]
    key = f"{run.run_id}/{run.execution}/_complete/{which}"
    return store.put_if_absent(key, task_id.encode()) or store.read(key) == task_id.encode()


def columns_of_run(plan: Plan, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the columns come from that a run has written, JSON-ready; ``results`` are its tasks' documents.

    Whoever tells of the run's end on Airflow stands in Airflow's environment, which has nothing that reads a query.
    """
    found = [TaskResult.from_dict(one) for one in results.values()]
    return column_facets(plan, {facts.node_id: facts for result in found for facts in result.nodes})


def _results(run: Run, execution: int) -> str:
    return f"{run.run_id}/{execution}/_results"


def _told(plan: Plan, run: Run, store: Store) -> Iterator[str]:
    """Yield the sinks that have made all of the run's partitions before; of a run without any it is not known."""
    for node in plan.node_list:
        keys = [_told_key(run, node.id, partition.key) for partition in run.partitions]
        if node.type == "sink" and keys and all(store.read(key) is not None for key in keys):
            yield node.id


def _told_key(run: Run, node_id: str, partition: str) -> str:
    return "/".join(("told", *map(folder_name, (run.project, run.pipeline_id, node_id, partition))))


def _staging(environment: Environment) -> Store:
    return open_store(environment.staging_root, storage=resolve_secrets(dict(environment.storage), environment))


def _read(store: Store, key: str) -> dict[str, Any] | None:
    text = store.read(key)
    return json.loads(text) if text else None
