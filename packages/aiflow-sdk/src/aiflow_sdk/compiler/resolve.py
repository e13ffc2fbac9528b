"""Pass 3: every value spelled out for one environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiflow_sdk.compiler.resources import LOCAL, cluster_of, engine_options
from aiflow_sdk.compiler.subject import HERE, Subject
from aiflow_sdk.compiler.windows import fixed_values, partition_columns, time_column, with_grains
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.ir import FrozenMap, NodeIR
from aiflow_sdk.plan import PlanEnvironment, PlanNode


def resolve_environment(subject: Subject) -> PlanEnvironment:
    """Return the environment as a plan holds it."""
    environment = subject.environment
    return PlanEnvironment(
        name=environment.name,
        lake=environment.lake,
        staging=environment.staging or f"{environment.lake.rstrip('/')}/_staging",
        staging_keep_days=environment.staging_keep_days,
        spark=environment.spark,
        clusters=FrozenMap(environment.clusters),
        secrets=FrozenMap(environment.secrets),
    )


def resolve_nodes(subject: Subject) -> tuple[PlanNode, ...]:
    """Return the pipeline's nodes, each after its inputs, with plugins, options, fingerprints and partition columns."""
    bounded: dict[str, bool] = {}
    resolved = []
    for node in subject.ir.nodes.values():
        bounded[node.id] = node.bounded and all(bounded[input_id] for input_id in node.input_ids)
        match node.type:
            case "source":
                plugin = subject.registry.sources.get(node.kind or "")
                bounded[node.id] = node.bounded and plugin.bounded
                resolved.append(
                    PlanNode(**_connector(subject, node, plugin, subject.registry.sources), bounded=bounded[node.id])
                )
            case "sink":
                sink = subject.registry.sinks.get(node.kind or "")
                fixed = fixed_values(subject, node)
                columns = partition_columns(subject, node)
                overwrites = node.options.get("mode", "overwrite") == "overwrite"
                time = time_column(subject, node) if overwrites else None
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
                        params=FrozenMap({**node.params, **_output_names(subject, node)}),
                        input_ids=node.input_ids,
                        output_schema=node.output_schema,
                        external=node.external,
                        bounded=bounded[node.id],
                        code=_code(subject, node),
                    )
                )
    return tuple(resolved)


def resolve_resources(subject: Subject, node: NodeIR) -> tuple[str, str, FrozenMap]:
    """Return the ``module:object`` of the node's engine, its cluster, and the engine's options spelled out."""
    engine = subject.registry.engines.get(node.engine or "")
    reference = subject.registry.engines.reference(node.engine or "")
    return reference, cluster_of(subject, node), FrozenMap(engine.spelled_out(engine_options(node)))


def copy_resources(subject: Subject) -> tuple[str, str, FrozenMap]:
    """Return the same for a task that only copies a source into sinks."""
    engine = subject.registry.engines.get("python")
    return subject.registry.engines.reference("python"), LOCAL, FrozenMap(engine.spelled_out({}))


def _connector(
    subject: Subject, node: NodeIR, plugin: Any, family: Any, stated: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    options = {**with_grains(subject, node.options), **(stated or {})}
    try:
        plain = {key: value for key, value in options.items() if key != "partitions"}
        name = plugin.load(plain, subject.environment).dataset()
    except ConfigurationError:
        # A template or a secret stands in the options: the run will tell the name.
        name = None
    return {
        "id": node.id,
        "type": node.type,
        "kind": node.kind,
        "plugin": family.reference(node.kind),
        "options": FrozenMap(plugin.spelled_out(options)),
        "dataset": tuple(name) if name else None,
        "input_ids": node.input_ids,
    }


def _output_names(subject: Subject, node: NodeIR) -> dict[str, Any]:
    """Return the ``output_*`` names that the author gave the transform, from the sink that stands for them."""
    for sink in subject.ir.nodes.values():
        if sink.implicit and sink.input_ids == (node.id,):
            given = {
                "output_table": sink.options.get("table"),
                "output_path": sink.options.get("path"),
                "output_format": sink.options.get("format"),
            }
            return {name: value for name, value in given.items() if value is not None}
    return {}


def _code(subject: Subject, node: NodeIR) -> str | None:
    if node.entrypoint is None or node.entrypoint.startswith(HERE):
        return None
    return subject.code.fingerprint(node.entrypoint)
