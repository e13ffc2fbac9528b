"""Runs a whole pipeline on rows that a test gives, with the real engines, and returns the rows of its sinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date as Date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.config import Environment, Project, load_project
from aiflow_sdk.discovery.definition import find_root
from aiflow_sdk.errors import DataError, ProblemsError, Where, did_you_mean, unknown_name
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plan import Plan, PlanNode, Run, make_run
from aiflow_sdk.plugins import Sink, Source, load_plugin
from aiflow_sdk.runtime import bound_environment, execute_task
from aiflow_sdk.runtime.rendering import render_options
from aiflow_sdk.testing.memory import MemorySink, MemorySource, MemoryStaging, make_frame
from aiflow_sdk.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

ENVIRONMENT = "dev-test"
"""What the environment of a test is called: every cluster that it does not name is local."""


def run_pipeline(
    pipeline: Any,
    date: str | Date | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    environment: str | Environment | None = None,
    root: str | Path | None = None,
) -> dict[str, pl.DataFrame]:
    """Run the pipeline on ``inputs`` and return what each sink would hold: sink id → polars frame.

    ``pipeline`` is the decorated function or its IR. ``date`` names the partition (default: the last complete one).
    ``inputs`` gives for each source, by node id, what it would yield: a list of dicts, a dict of columns, or any
    frame; a partition column that the source fixes to one value may be left out, and ISO text becomes the type that
    the source's ``output_schema`` says. ``params`` stand for the pipeline's defaults, ``environment`` (name or value)
    for secrets and engines: nothing is read from or written to its lake. ``root`` is the project's folder, where it
    cannot be told from the pipeline's file.

    Raises what a real run would: what the compiler finds (several as ``ProblemsError``), ``UserCodeError``,
    ``DataError`` and so on.
    """
    ir, functions, locations = _read_definition(pipeline)
    project = load_project(root if root is not None else find_root(pipeline))
    plan = _compile(ir, project, _test_environment(project, environment), locations)
    run = make_run(plan, partition=date, params=params, cause="test")
    given = dict(inputs or {})
    _check_inputs(plan, given)
    written: dict[str, pl.DataFrame] = {}
    overrides: dict[str, Source | Sink] = {}
    for node in plan.node_list:
        match node.type:
            case "source":
                overrides[node.id] = _source(plan, ir, node, run, given[node.id], project.root)
            case "sink":
                overrides[node.id] = _sink(plan, node, run, written, project.root)
            case "transform":
                pass
    staging = MemoryStaging()
    for task in plan.tasks:
        execute_task(plan, task.id, run, root=project.root, functions=functions, overrides=overrides, staging=staging)
    return written


def _read_definition(pipeline: Any) -> tuple[PipelineIR, Mapping[str, Callable[..., Any]], Mapping[str, Where]]:
    if isinstance(pipeline, PipelineIR):
        return pipeline, {}, {}
    if not hasattr(pipeline, "build"):
        raise TypeError(f"run_pipeline takes a function decorated with @pipeline(…) or its IR, not {pipeline!r}")
    built = pipeline.build()
    return built.ir, built.functions, built.locations


def _test_environment(project: Project, environment: str | Environment | None) -> Environment:
    known = environment if isinstance(environment, Environment) else project.environment(environment)
    name = ENVIRONMENT if environment is None else known.name
    # A lake that is not there: a connector that would read it says so instead of finding somebody's data.
    return replace(known, name=name, lake=".aiflow/no-lake", staging="", reads_from=None, root=project.root)


def _compile(ir: PipelineIR, project: Project, environment: Environment, locations: Mapping[str, Where]) -> Plan:
    try:
        return Workspace(project).compile(ir, environment, locations=locations, here=True)
    except ProblemsError as error:
        if len(error.problems) == 1:
            raise error.problems[0] from None
        raise


def _check_inputs(plan: Plan, inputs: Mapping[str, Any]) -> None:
    sources = [node.id for node in plan.node_list if node.type == "source"]
    about = f"pipeline '{plan.pipeline_id}'"
    for node_id in inputs:
        if node_id not in sources:
            raise unknown_name("unknown-test-input", "source in inputs:", node_id, sources, where=Where(about=about))
    for node_id in sources:
        if node_id not in inputs:
            near = did_you_mean(node_id, inputs)
            raise DataError(
                "missing-test-input",
                f"inputs has no rows for the source '{node_id}'",
                where=Where(about=about),
                hint=near or f'add "{node_id}": [{{…}}] to inputs',
            )


def _source(plan: Plan, ir: PipelineIR, node: PlanNode, run: Run, rows: Any, root: Path) -> MemorySource:
    import polars as pl

    frame = make_frame(rows, ir.nodes[node.id].output_schema, node.id)
    options, wanted = render_options(node, run, bound_environment(plan, root))
    # What a source fixes to one value stands in every row that it yields, so a test need not repeat it.
    fixed = {one.column: one.keys[0] for one in wanted if one.follow_run and len(one.keys) == 1}
    fixed |= {
        column: value for column, value in (options.get("partitions") or {}).items() if isinstance(value, str | int)
    }
    lacking = [pl.lit(value).alias(column) for column, value in fixed.items() if column not in frame.columns]
    return MemorySource(node_id=node.id, frame=frame.with_columns(lacking) if frame.width else frame)


def _sink(plan: Plan, node: PlanNode, run: Run, written: dict[str, pl.DataFrame], root: Path) -> MemorySink:
    environment = bound_environment(plan, root)
    options, _ = render_options(node, run, environment)
    sink = load_plugin(node.plugin or "", Sink).load(options, environment, where=Where(about=f"sink '{node.id}'"))
    return MemorySink(node_id=node.id, columns=sink.partition_columns(), kept=written)
