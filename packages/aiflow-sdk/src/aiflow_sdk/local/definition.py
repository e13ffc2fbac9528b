"""Runs a decorated pipeline in this process: for notebooks and tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date as Date
from pathlib import Path
from typing import Any, Protocol

from aiflow_sdk.config import load_project
from aiflow_sdk.discovery.definition import find_root
from aiflow_sdk.errors import Where
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.local.executor import Executor, usable_processors
from aiflow_sdk.local.journal import Journal, open_listeners
from aiflow_sdk.local.ledger import Ledger
from aiflow_sdk.local.preparation import Prepared, start_run
from aiflow_sdk.local.records import OnRecord
from aiflow_sdk.local.request import RunRequest
from aiflow_sdk.local.summary import RunSummary, summarize_run
from aiflow_sdk.service import configure
from aiflow_sdk.workspace import Workspace

_LOGGER = logging.getLogger("aiflow.configuration")


class _Built(Protocol):
    ir: PipelineIR
    locations: Mapping[str, Where]
    functions: Mapping[str, Callable[..., Any]]


class Definition(Protocol):
    """A pipeline as ``@pipeline`` leaves it."""

    def build(self) -> Any:
        """Return what the builder made: ``ir``, ``locations`` and ``functions``."""


def run_definition(
    definition: Definition,
    *,
    date: str | Date | None = None,
    params: Mapping[str, Any] | None = None,
    environment: str | None = None,
    root: str | Path | None = None,
    on_record: OnRecord | None = None,
) -> RunSummary:
    """Run a pipeline in this process and return what came of it; a run that fails is returned, not raised.

    Functions that exist only here (lambdas, a notebook's) are called as they are. ``root`` is the project's folder
    (default: the one that the pipeline's module was imported from, of a notebook the current one). No time-out can end
    a task here, because there is no process to end, and what tasks print goes where it always goes, not into the run's
    logs.
    """
    built: _Built = definition.build()
    project = load_project(root or find_root(definition))
    if project.asking(environment):
        project = configure(project, environment, _LOGGER.warning)
    workspace = Workspace(project)
    plan = workspace.compile(built.ir, project.environment(environment), locations=built.locations, here=True)
    request = RunRequest(
        project=str(project.root),
        pipeline=built.ir.id,
        date=date.isoformat() if isinstance(date, Date) else date,
        params=params or {},
    )
    # Before the run has a folder: what is wrong with a listener is no run's failure.
    journal = Journal(open_listeners(project.environment(environment), workspace.registry, project))
    live = start_run(Prepared(project, plan, places=built.locations), request)
    executor = Executor(
        project.root,
        on_record or (lambda record: None),
        on_success=lambda live: Ledger(project.root, live.plan).write(live),
        record_event=journal.record,
        functions=built.functions,
        concurrency=plan.concurrency or usable_processors(),
    )
    try:
        executor.do(iter([live]))
    finally:
        journal.close()
    return summarize_run(live.folder)
