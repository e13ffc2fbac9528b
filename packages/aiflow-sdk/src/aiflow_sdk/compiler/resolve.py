"""Pass 3: every value spelled out for one environment."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, assert_never

from aiflow_sdk.compiler.connector import dataset_of, partition_columns, replaces_run
from aiflow_sdk.compiler.resources import LOCAL, cluster_of, engine_options
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.compiler.windows import fixed_values, time_column, with_grains
from aiflow_sdk.config import Environment
from aiflow_sdk.config.configuration import ConfigurationItem
from aiflow_sdk.ir import FrozenMap, NodeIR, fingerprint
from aiflow_sdk.plan import PlanEnvironment, PlanItem, PlanLake, PlanListener, PlanNode


def resolve_environment(subject: Subject) -> PlanEnvironment:
    """Return the environment as a plan holds it: of its clusters those that the pipeline runs on."""
    environment = subject.environment
    used = {cluster_of(subject, node) for node in subject.ir.node_list if node.type == "transform"}
    return PlanEnvironment(
        name=environment.name,
        lake=environment.lake,
        staging=environment.staging or f"{environment.lake.rstrip('/')}/_staging",
        staging_keep_days=environment.staging_keep_days,
        spark=environment.spark,
        clusters=FrozenMap({name: stated for name, stated in environment.clusters.items() if name in used}),
        secrets=FrozenMap(environment.secrets),
        storage=FrozenMap(environment.storage),
        reads=tuple(
            PlanLake(environment=one.environment, lake=one.lake, storage=FrozenMap(one.storage))
            for one in environment.reads
        ),
        listeners=tuple(
            PlanListener(
                name=name,
                kind=str(stated["kind"]),
                plugin=subject.registry.listeners.reference(str(stated["kind"])),
                options=FrozenMap({key: value for key, value in stated.items() if key != "kind"}),
            )
            for name, stated in sorted(environment.hearers.items())
        ),
        grants_keep_hours=environment.grants_keep_hours,
        configuration=tuple(
            PlanItem(**one.facts())
            for one in sorted(environment.handed_out, key=lambda one: (one.environment, one.name))
            if _is_used(one, environment, used)
        ),
    )


def _is_used(item: ConfigurationItem, environment: Environment, clusters: Set[str]) -> bool:
    """Tell whether the plan holds what was handed out: of clusters those that the pipeline runs on."""
    table, _, name = item.name.partition(".")
    match table:
        case "clusters":
            return name in clusters
        case "reads_storage":
            return bool(environment.reads)
        case _:
            return True


def resolve_nodes(subject: Subject) -> tuple[PlanNode, ...]:
    """Return the pipeline's nodes, each after its inputs, with plugins, options, fingerprints and partition columns."""
    bounded = subject.bounded
    implicit = {node.input_ids[0]: node for node in subject.ir.nodes.values() if node.implicit}
    resolved = []
    for node in subject.ir.nodes.values():
        match node.type:
            case "source":
                plugin = subject.registry.sources.get(node.kind or "")
                resolved.append(
                    PlanNode(**_connector(subject, node, plugin, subject.registry.sources), bounded=bounded[node.id])
                )
            case "sink":
                sink = subject.registry.sinks.get(node.kind or "")
                fixed = fixed_values(subject, node)
                columns = partition_columns(subject, node)
                time = time_column(subject, node) if replaces_run(subject, node) else None
                # A sink that takes the option answers for its identity by it too.
                stated = {"time": time} if time and "time" in sink.model_fields else {}
                resolved.append(
                    PlanNode(
                        **_connector(subject, node, sink, subject.registry.sinks, stated),
                        bounded=bounded[node.id],
                        fill=FrozenMap({column: fixed[column] for column in columns if column in fixed}),
                        time=time,
                    )
                )
            case "transform":
                resolved.append(
                    PlanNode(
                        id=node.id,
                        type=node.type,
                        engine=node.engine,
                        entrypoint=node.entrypoint,
                        sql=node.sql,
                        params=FrozenMap({**node.params, **_output_names(implicit.get(node.id))}),
                        input_ids=node.input_ids,
                        output_schema=node.output_schema,
                        external=node.external,
                        bounded=bounded[node.id],
                        code=_code(subject, node),
                    )
                )
            case _ as never:
                assert_never(never)
    return tuple(resolved)


def resolve_resources(subject: Subject, node: NodeIR) -> tuple[str, str, FrozenMap]:
    """Return the ``module:object`` of the node's engine, its cluster, and the engine's options spelled out."""
    engine = subject.registry.engines.get(node.engine or "")
    reference = subject.registry.engines.reference(node.engine or "")
    return reference, cluster_of(subject, node), engine.spelled_out(engine_options(node))


def copy_resources(subject: Subject) -> tuple[str, str, FrozenMap]:
    """Return the same for a task that only copies a source into sinks."""
    engine = subject.registry.engines.get("python")
    return subject.registry.engines.reference("python"), LOCAL, engine.spelled_out({})


def _connector(
    subject: Subject, node: NodeIR, plugin: Any, family: Any, stated: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    options = {**with_grains(subject, node.options), **(stated or {})}
    dataset = dataset_of(subject, node)
    reference = family.reference(node.kind)
    return {
        "id": node.id,
        "type": node.type,
        "kind": node.kind,
        "plugin": reference,
        "code": project_code(subject, reference),
        "options": plugin.spelled_out(options),
        "dataset": tuple(dataset.name) if dataset else None,
        "input_ids": node.input_ids,
    }


def _output_names(sink: NodeIR | None) -> dict[str, Any]:
    """Return the ``output_*`` names that the author gave a transform, from the implicit sink that stands for them."""
    given = {f"output_{name}": sink.options.get(name) for name in ("table", "path", "format")} if sink else {}
    return {name: value for name, value in given.items() if value is not None}


def project_code(subject: Subject, reference: str) -> str | None:
    """Return the fingerprint of the code that a plugin of the project's own reaches; None of an installed one, which
    the lock's fingerprint covers."""
    if subject.code.module_path(reference.partition(":")[0]) is None:
        return None
    return subject.code.fingerprint(reference)


def _code(subject: Subject, node: NodeIR) -> str | None:
    function = subject.code.fingerprint(node.entrypoint) if node.entrypoint and not node.is_here else None
    # What a node makes depends on an engine of the project's own as on its function.
    engine = project_code(subject, subject.registry.engines.reference(node.engine or ""))
    return fingerprint([function, engine]) if engine else function
