"""Pass 1: everything that is wrong with a pipeline, at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, assert_never

from aiflow_sdk.compiler.connector import check_options, check_place, dataset_of, partition_values, replaces_run
from aiflow_sdk.compiler.resources import cluster_of, engine_options
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.compiler.windows import time_problems, window_problems
from aiflow_sdk.errors import AiflowError, DefinitionError, UnknownNameError, did_you_mean, unknown_name
from aiflow_sdk.frames import check_signature
from aiflow_sdk.ir import HERE, NodeIR
from aiflow_sdk.partitions import is_window
from aiflow_sdk.plugins import DatasetPart, Engine, Family
from aiflow_sdk.variables import TIME_NAMES, names_in

_OWN = ("{{ ds }}", "{{ ds_nodash }}", "{{ data_interval_start }}")
"""How a partition's value names the run's own."""


def find_problems(subject: Subject) -> list[AiflowError]:
    """Return every problem of the pipeline in its environment, in the order of its nodes."""
    problems: list[AiflowError] = []
    datasets: dict[str, DatasetPart | None] = {}
    for node in subject.ir.nodes.values():
        problems.extend(_template_problems(subject, node))
        match node.type:
            case "source":
                problems.extend(_connector_problems(subject, node, subject.registry.sources, datasets))
            case "transform":
                problems.extend(_transform_problems(subject, node))
            case "sink":
                problems.extend(_connector_problems(subject, node, subject.registry.sinks, datasets))
            case _ as never:
                assert_never(never)
        problems.extend(_continuity_problems(subject, node))
    problems.extend(_read_back_problems(subject, datasets))
    problems.extend(_shared_sink_problems(subject, datasets))
    problems.extend(_environment_problems(subject))
    return problems


def _connector_problems(
    subject: Subject, node: NodeIR, family: Family[Any], datasets: dict[str, DatasetPart | None]
) -> Iterator[AiflowError]:
    """Yield what is wrong with a source or sink. Where nothing is, its name is put into ``datasets``."""
    where = subject.where(node)
    try:
        plugin = family.get(node.kind or "", where=where)
        wrong = check_options(subject, node, plugin)
        if not wrong:
            datasets[node.id] = dataset_of(subject, node)
            wrong = list(window_problems(subject, node) if node.type == "source" else time_problems(subject, node))
        yield from wrong
        if node.type == "sink" and not wrong:
            check_place(subject, node)
    except AiflowError as error:
        yield error


def _continuity_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    """Yield a problem where unbounded data reaches an engine that runs only what ends."""
    above = [subject.ir.nodes[input_id] for input_id in node.input_ids if not subject.bounded[input_id]]
    if node.type == "sink":
        above = [one for one in above if one.type == "source"]  # a transform's sinks are in its own task
    kind = node.engine or "python"
    # Told where the data comes to the engine, not of each node that it goes through afterwards.
    entering = [one for one in above if one.type == "source" or one.engine != node.engine]
    if not entering or kind not in subject.registry.engines.kinds:
        return
    try:
        continuous = subject.registry.engines.get(kind).continuous
    except AiflowError:
        return  # told of the engine
    if not continuous:
        yield DefinitionError(
            "no-continuous-tasks",
            f"'{entering[0].id}' gives data without an end, and the engine '{kind}' of '{node.id}' runs only what ends",
            where=subject.where(node),
            hint="take an engine that runs continuous tasks, or a source that ends",
        )


def _read_back_problems(subject: Subject, datasets: Mapping[str, DatasetPart | None]) -> Iterator[AiflowError]:
    """Yield the sources that read, of the run's own partition, what a sink of the same run writes."""
    nodes = subject.ir.nodes
    sinks = {one: node_id for node_id, one in datasets.items() if one and nodes[node_id].type == "sink"}
    for node_id, dataset in datasets.items():
        node = nodes[node_id]
        if dataset not in sinks or node.type != "source" or node.options.get("version") is not None:
            continue
        values = partition_values(subject, node).values()
        if all(value["$window"] in ("same", "covering") if is_window(value) else value in _OWN for value in values):
            yield DefinitionError(
                "sink-read-back",
                f"'{node_id}' reads what '{sinks[dataset]}' writes in the same run: {dataset.name.name}",
                where=subject.where(node),
                hint="use the dataset that is written instead; an earlier partition is window.offset(-1)",
            )


def _shared_sink_problems(subject: Subject, datasets: Mapping[str, DatasetPart | None]) -> Iterator[AiflowError]:
    """Yield the sinks that would replace what another sink of the same run writes."""
    nodes = subject.ir.nodes
    first: dict[DatasetPart, str] = {}
    for node_id, dataset in datasets.items():
        if dataset is None or nodes[node_id].type != "sink":
            continue
        if (other := first.setdefault(dataset, node_id)) == node_id:
            continue
        if replaces_run(subject, nodes[node_id]) or replaces_run(subject, nodes[other]):
            yield DefinitionError(
                "shared-sink",
                f"'{other}' and '{node_id}' both write {dataset.name.name}, and each replaces what the other wrote",
                where=subject.where(nodes[node_id]),
                hint='join the datasets and write once, write to two tables, or say mode="overwrite_partitions"',
            )


def _environment_problems(subject: Subject) -> Iterator[AiflowError]:
    """Yield what is wrong with the clusters that the pipeline runs on, and with the environment's listeners."""
    environment, registry = subject.environment, subject.registry
    used: set[str] = set()
    for node in subject.ir.nodes.values():
        if node.type == "transform":
            try:
                used.add(cluster_of(subject, node))
            except AiflowError as error:
                yield error
    yield from _staging_problems(subject)
    clusters = {name: stated for name, stated in environment.clusters.items() if name in used}
    for table, family, named in (
        ("clusters", registry.clusters, clusters),
        ("listeners", registry.listeners, environment.listeners),
    ):
        for name, stated in named.items():
            where = subject.project.place_of("environments", environment.name, table, name)
            try:
                plugin: Any = family.get(str(stated.get("kind")), where=where)
                yield from plugin.problems({key: value for key, value in stated.items() if key != "kind"}, where=where)
            except AiflowError as error:
                yield error


def _staging_problems(subject: Subject) -> Iterator[AiflowError]:
    """Yield that staging lies where the environment only reads; that its lake does is told of each sink."""
    with suppress(AiflowError):
        subject.environment.own_root  # noqa: B018 it raises
        try:
            subject.environment.staging_root  # noqa: B018 likewise
        except AiflowError as error:
            yield error.at(subject.project.place_of("environments", subject.environment.name, "staging"))


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
    if node.sql is not None:
        yield from _sql_problems(subject, node, engine)
    elif node.entrypoint is not None:
        yield from _function_problems(subject, node, engine)


def _function_problems(subject: Subject, node: NodeIR, engine: type[Engine]) -> Iterator[AiflowError]:
    entrypoint = node.entrypoint or ""
    where = subject.where(node)
    if node.is_here:
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
        for problem in check_signature(definition, node.input_ids, tuple(node.params), engine.extras):
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
