"""Pass 1: everything that is wrong with a pipeline, at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiflow_sdk.compiler.resources import cluster_of, engine_options
from aiflow_sdk.compiler.subject import HERE, Subject
from aiflow_sdk.compiler.windows import time_problems, window_problems
from aiflow_sdk.errors import AiflowError, DefinitionError, UnknownNameError, Where, did_you_mean, unknown_name
from aiflow_sdk.frames import check_signature
from aiflow_sdk.ir import NodeIR
from aiflow_sdk.plugins import Engine, Family
from aiflow_sdk.variables import TIME_NAMES, names_in

EXTRAS = {"spark": ("spark",), "flink": ("env",)}
"""What functions on an engine may ask for by name, beside ``inputs``, ``params`` and ``context``."""


def find_problems(subject: Subject) -> list[AiflowError]:
    """Return every problem of the pipeline in its environment, in the order of its nodes."""
    problems: list[AiflowError] = []
    for node in subject.ir.nodes.values():
        problems.extend(_template_problems(subject, node))
        match node.type:
            case "source":
                problems.extend(_plugin_problems(subject, node, subject.registry.sources))
                problems.extend(window_problems(subject, node))
            case "transform":
                problems.extend(_transform_problems(subject, node))
            case "sink":
                problems.extend(_plugin_problems(subject, node, subject.registry.sinks))
                problems.extend(time_problems(subject, node))
    return problems


def _plugin_problems(subject: Subject, node: NodeIR, family: Family[Any]) -> Iterator[AiflowError]:
    where = subject.where(node)
    try:
        plugin = family.get(node.kind or "", where=where)
    except AiflowError as error:
        yield error
        return
    yield from plugin.problems(node.options, where=where)


def _transform_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    where = subject.where(node)
    try:
        engine = subject.registry.engines.get(node.engine or "", where=where)
    except AiflowError as error:
        yield error
        return
    meant = node.resources.get("engine")
    if meant not in (None, node.engine):
        yield DefinitionError(
            "wrong-resources",
            f"the engine is '{node.engine}' but the resources are resources.{meant}(…)",
            where=where,
            hint=f"write resources.{node.engine}(…)",
        )
    else:
        yield from engine.problems(engine_options(node), where=where)
    yield from _cluster_problems(subject, node)
    if node.sql is not None:
        yield from _sql_problems(subject, node, engine)
    elif node.entrypoint is not None:
        yield from _function_problems(subject, node)


def _cluster_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    try:
        name = cluster_of(subject, node)
        stated = subject.environment.clusters.get(name)
        if stated is None:
            return
        about = f"environments.{subject.environment.name}.clusters.{name}"
        where = Where(subject.project.config_path.name if subject.project.config_path else None, about=about)
        plugin = subject.registry.clusters.get(str(stated.get("kind")), where=where)
        yield from plugin.problems({key: value for key, value in stated.items() if key != "kind"}, where=where)
    except AiflowError as error:
        yield error


def _function_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    entrypoint = node.entrypoint or ""
    where = subject.where(node)
    if entrypoint.startswith(HERE):
        if not subject.here:
            yield DefinitionError(
                "function-not-importable",
                f"'{entrypoint.removeprefix(HERE)}' exists only where it was typed, so no other process can run it",
                where=where,
                hint="put it into a module of the project and name it 'package.module:function'",
            )
        return
    try:
        path, line, definition = subject.code.function_source(entrypoint)
    except UnknownNameError as error:
        # The name is wrong where it is written, not where it was looked for.
        looked_in = [f"looked in {error.where.path}"] if error.where and error.where.path else []
        error.where, error.notes = where, (*error.notes, *looked_in)
        yield error
        return
    except AiflowError as error:
        yield error.at(where)
        return
    if definition is not None:
        extras = EXTRAS.get(node.engine or "", ())
        for problem in check_signature(definition, node.input_ids, tuple(node.params), extras):
            problem.where, problem.notes = where, (*problem.notes, f"the function stands in {path}:{line}")
            yield problem


def _sql_problems(subject: Subject, node: NodeIR, engine: type[Engine]) -> Iterator[AiflowError]:
    from aiflow_sdk.compiler.sql import parse_query

    where = subject.where(node)
    if engine.sql_dialect is None:
        yield DefinitionError("no-sql", f"the engine '{node.engine}' runs no SQL", where=where, hint="write a function")
        return
    try:
        parse_query(node, engine.sql_dialect, where)
    except AiflowError as error:
        yield error


def _template_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    where = subject.where(node)
    names = names_in([node.params, node.sql or ""])
    if subject.ir.partition is None and (timed := sorted(names & TIME_NAMES)):
        yield DefinitionError(
            "no-time-partition",
            f"'{{{{ {timed[0]} }}}}' stands for the run's partition, and this pipeline has none",
            where=where,
            hint='add partition="day" to @pipeline, or a schedule that tells it',
        )
    for name in sorted(names):
        if name.startswith("params.") and name.removeprefix("params.") not in subject.ir.params:
            wanted = name.removeprefix("params.")
            error = unknown_name("unknown-param", "param", wanted, subject.ir.params, where=where)
            error.hint = did_you_mean(wanted, subject.ir.params) or f'add params={{"{wanted}": …}} to @pipeline'
            yield error
