"""The passes in their order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from aiflow_sdk.code import CodeIndex, interpreter
from aiflow_sdk.compiler.check import find_problems
from aiflow_sdk.compiler.fuse import fuse_nodes
from aiflow_sdk.compiler.resolve import resolve_environment, resolve_nodes
from aiflow_sdk.compiler.stage import make_tasks
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.config import Environment, Project, load_project
from aiflow_sdk.errors import MissingExtraError, ProblemsError, Where
from aiflow_sdk.ir import PipelineIR, fingerprint
from aiflow_sdk.plan import Plan
from aiflow_sdk.plugins import Registry, installed_registry


def compile_pipeline(
    ir: PipelineIR,
    *,
    project: Project,
    environment: Environment,
    registry: Registry,
    locations: Mapping[str, Where] | None = None,
    code: CodeIndex | None = None,
    here: bool = False,
) -> Plan:
    """Return the plan of a pipeline for one environment.

    ``here`` allows functions that exist only in this process (notebooks, tests); such a plan runs nowhere else.
    Raises ``ProblemsError`` with every problem at once.
    """
    index = code or CodeIndex(project.root)
    subject = Subject(ir, project, environment, registry, index, locations or {}, here)
    problems = find_problems(subject)
    if not problems and any(node.sql is not None for node in ir.node_list):
        from aiflow_sdk.compiler.columns import column_problems

        problems.extend(column_problems(subject))
    if problems:
        raise ProblemsError(problems)
    nodes = resolve_nodes(subject)
    tasks = make_tasks(subject, fuse_nodes(subject), {node.id: node for node in nodes})
    fingerprints = {node.id: node.code for node in nodes if node.code}
    engines = {task.engine: task.code for task in tasks if task.code}
    lock = index.lock(project)
    definition = ir.fingerprint
    return Plan(
        project=ir.project or project.name,
        pipeline_id=ir.id,
        version=fingerprint([definition, fingerprints, lock, *([engines] if engines else [])]),
        definition=definition,
        lock=lock,
        environment=resolve_environment(subject),
        schedule=ir.schedule,
        owner=ir.owner,
        sla_minutes=ir.sla_minutes,
        tags=ir.tags,
        extra=ir.extra,
        description=ir.description,
        start_date=ir.start_date,
        timezone=ir.timezone,
        catchup=ir.catchup,
        max_active_runs=ir.max_active_runs,
        concurrency=ir.concurrency,
        timeout_seconds=60 * ir.timeout_minutes if ir.timeout_minutes is not None else None,
        notify=ir.notify,
        params=ir.params,
        partition=ir.partition,
        ranges=ir.ranges,
        node_list=nodes,
        tasks=tasks,
    )


def compile_pipeline_to_airflow_dag(
    pipeline_ir: PipelineIR, *, project: str | Path | None = None, environment: str | None = None
) -> Any:
    """Return the Airflow DAG of a pipeline, made by the package ``aiflow-airflow`` through its entry point.

    ``project`` is the project's folder (None: where ``discover_pipelines`` found the pipeline, else the current one),
    ``environment`` one of its environments (None: the default one). The DAG's tasks run in that folder, by the
    interpreter that its aiflow.toml names. No service is asked: the copy counts of what it handed out. Raises
    ``MissingExtraError`` where that package is not installed, and as :func:`compile_pipeline`.
    """
    for point in entry_points(group="aiflow.orchestrators", name="airflow"):
        found = load_project(project or pipeline_ir.origin or ".")
        if found.asking(environment):  # which a scheduler that reads DAGs does not do
            from aiflow_sdk.service import configure_offline

            found = configure_offline(found, environment, logging.getLogger("aiflow.configuration").warning)
        plan = compile_pipeline(
            pipeline_ir, project=found, environment=found.environment(environment), registry=installed_registry()
        )
        return point.load()(plan, found.root, Path(interpreter(found)))
    raise MissingExtraError(
        "missing-extra",
        "making an Airflow DAG needs the package aiflow-airflow",
        hint="pip install aiflow-airflow in Airflow's environment",
    )
