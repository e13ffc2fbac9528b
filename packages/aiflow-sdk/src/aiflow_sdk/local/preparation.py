"""From a request to a run that can be done: discovered, compiled, with its partition, its names and its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.code import enter_project
from aiflow_sdk.config import Project
from aiflow_sdk.errors import AiflowError, ProblemsError, RunError, UnknownNameError, Where
from aiflow_sdk.ir import thaw
from aiflow_sdk.local.executor import LiveRun
from aiflow_sdk.local.request import RunRequest
from aiflow_sdk.local.selection import Selection, select_tasks
from aiflow_sdk.local.settling import settle_loss
from aiflow_sdk.local.state import Loss, RunState
from aiflow_sdk.local.store import RunFolder, find_run, places_document, tasks_of_plan
from aiflow_sdk.partitions import check_date
from aiflow_sdk.plan import Plan, Run, make_run, read_plan
from aiflow_sdk.runtime import Data, claim_generation
from aiflow_sdk.workspace import Workspace

if TYPE_CHECKING:
    from aiflow_sdk.discovery.finding import Module

LOCAL = "local"
"""The kind of cluster that is this machine."""


@dataclass(frozen=True)
class Prepared:
    """A project and the plan of one of its pipelines, compiled a moment ago."""

    project: Project
    plan: Plan
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Node id → function that exists only in this process."""
    places: Mapping[str, Where] = field(default_factory=dict)
    """Node id → where it was written; under ``""`` the pipeline itself."""


def prepare(
    project: Project,
    pipeline: str,
    environment: str | None,
    watched: Callable[[Module], AbstractContextManager[None]] = lambda module: nullcontext(),
) -> Prepared:
    """Find the pipeline (``id`` or ``project/id``) in this process, each module imported ``watched``, and compile it.

    Raises ``AiflowError``; several at once as ``ProblemsError``.
    """
    # A notebook's run is prepared without it.
    from aiflow_sdk.discovery import discover_here

    target = project.environment(environment)
    discovery = discover_here(project, only=pipeline, watched=watched)
    try:
        found = discovery.pipeline(pipeline)
    except UnknownNameError as error:
        # Unless it is known and cannot be built: a module that cannot be imported may be the one that holds it.
        problems = discovery.problems_of(pipeline) or (error, *discovery.problems)
        raise problems[0] if len(problems) == 1 else ProblemsError(problems) from None
    enter_project(project.root)  # the cache may have spared the imports that would have added it
    plan = Workspace(project, marked=discovery.marked).compile(found.ir, target, locations=found.locations, here=True)
    return Prepared(project, plan, found.functions, found.locations)


def start_run(prepared: Prepared, request: RunRequest) -> LiveRun:
    """Return a new run. Raises ``AiflowError`` for a partition, param or node that the pipeline does not have."""
    first, _, last = (request.date or "").partition("..")
    for text in filter(None, (first, last)):
        check_date(text, prepared.plan.partition)
    run = make_run(
        prepared.plan,
        partition=first or None,
        last_partition=last or None,
        params=request.params,
        cause=request.cause,  # type: ignore[arg-type]  # Run checks it
    )
    return open_run(prepared, run, select_tasks(prepared.plan, run, request, prepared.project.root))


def open_run(prepared: Prepared, run: Run, selection: Selection | None = None, *, data: Data | None = None) -> LiveRun:
    """Give the run its generation and its folder; ``data`` spares making the plan's sinks anew for each of many runs.

    Raises ``StoreError``, or ``RunError`` (``cluster-not-local``) for a task that this machine is not meant to do.
    """
    plan, root = prepared.plan, prepared.project.root
    selection = selection or Selection(tuple(task.id for task in plan.tasks))
    check_clusters(plan, selection.tasks)
    data = data or Data(plan, root)
    sources = _sources_of_range(data, run)
    generation = claim_generation(data.environment, run, known=data.newest_generation(run))
    run = Run.model_validate({**dict(run), "generation": generation, "pins": data.pins(run)})
    state = RunState(
        run=run.to_full_dict(),
        tasks=tasks_of_plan(plan.document),
        started=time.time(),
        timeout_seconds=plan.timeout_seconds,
    )
    for task in state.tasks.values():
        if task.task_id not in selection.tasks:
            task.state = "skipped"
    folder = RunFolder(root, run.run_id)
    folder.create(state, plan.to_json(), selection=selection.to_dict(), places=prepared.places)
    folder.own()
    return LiveRun(plan, run, folder, state, selection.earlier, places=prepared.places, sources=sources)


def _sources_of_range(data: Data, run: Run) -> dict[str, dict[str, str | None]]:
    """Return partition → identities of its sources, of a run for several partitions."""
    if run.last_partition_key is None:
        return {}  # such a run's tasks tell what they read
    params = thaw(run.params)
    return {
        partition.key: data.source_identities(make_run(data.plan, partition=partition.key, params=params))
        for partition in run.partitions
    }


def resume_run(prepared: Prepared, request: RunRequest) -> LiveRun:
    """Return a run that failed or was cancelled, to go on with what has not succeeded.

    Raises ``RunError`` where it succeeded, is being done, or the pipeline's definition has changed since.
    """
    plan, root = prepared.plan, prepared.project.root
    folder = find_run(root, request.resume or "")
    folder.own()
    try:
        check_clusters(plan, [task.id for task in plan.tasks])
        record, state = folder.record(), folder.load()
        _check_resumable(plan, record.pipeline_id, str(state.run["environment"]), record.definition, state)
    except AiflowError:
        folder.disown()
        raise
    state.resume(time.time())
    state.timeout_seconds = plan.timeout_seconds
    fresh = tasks_of_plan(plan.document)
    for task_id, task in state.tasks.items():
        task.retries, task.timeout_seconds = fresh[task_id].retries, fresh[task_id].timeout_seconds
    folder.write_plan(plan.to_json())
    folder.save_tasks(state, "waiting")
    folder.save(state, version=plan.version, places=places_document(prepared.places))
    return LiveRun(
        plan,
        Run.model_validate(dict(state.run)),
        folder,
        state,
        Selection.from_dict(record.selection).earlier,
        resumed=True,
        places=prepared.places,
    )


def continue_runs(root: Path, run_ids: Sequence[str], loss: Loss | None) -> list[LiveRun]:
    """Return runs that another process of this session was doing when it was lost, ready to go on."""
    runs: list[LiveRun] = []
    for run_id in run_ids:
        folder = RunFolder(root, run_id)
        folder.own()
        runs.append(replace(load_run(root, run_id), folder=folder, told=[]))
    if loss:
        told = settle_loss([(live.folder, live.state) for live in runs], loss, time.time())
        for live in runs:
            live.told = told[live.run.run_id]
    return runs


def load_run(root: Path, run_id: str) -> LiveRun:
    """Return a run as its folder tells it."""
    folder = RunFolder(root, run_id)
    state = folder.load()
    earlier = Selection.from_dict(folder.record().selection).earlier
    plan, run = read_plan(folder.plan_text()), Run.model_validate(dict(state.run))
    return LiveRun(plan, run, folder, state, earlier, places=folder.places())


def check_clusters(plan: Plan, task_ids: Iterable[str]) -> None:
    """Raise ``RunError`` where one of the tasks belongs to a cluster that the environment says is not this machine."""
    for task_id in task_ids:
        cluster = plan.task(task_id).cluster
        kind = (plan.environment.clusters.get(cluster) or {}).get("kind", LOCAL)
        if kind != LOCAL:
            name = plan.environment.name
            raise RunError(
                "cluster-not-local",
                f"task '{task_id}' runs on the cluster '{cluster}', which is '{kind}' in the environment '{name}', "
                "and not on this machine",
                where=Where("aiflow.toml", about=f"environments.{name}.clusters.{cluster}"),
                hint="run it in an environment where the cluster is local (--env dev), or deploy the pipeline",
            )


def _check_resumable(plan: Plan, pipeline_id: str, environment: str, definition: str, state: RunState) -> None:
    if state.state == "succeeded":
        raise RunError("run-succeeded", f"run {state.run_id} has succeeded", hint="start a new run instead of resuming")
    mine: Mapping[str, Any] = {"pipeline": plan.pipeline_id, "environment": plan.environment.name}
    theirs = {"pipeline": pipeline_id, "environment": environment}
    for what, name in theirs.items():
        if name != mine[what]:
            raise RunError("resume-mismatch", f"run {state.run_id} is of the {what} '{name}', not '{mine[what]}'")
    if definition != plan.definition:
        raise RunError(
            "resume-mismatch",
            f"the definition of '{plan.pipeline_id}' has changed since run {state.run_id} began",
            hint="start a new run; changed code inside a function is no obstacle to resuming",
        )
