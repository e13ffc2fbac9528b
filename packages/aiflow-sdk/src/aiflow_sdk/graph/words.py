"""What a drawing says of a pipeline and its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiflow_sdk.ir import DatasetCondition, NodeIR, PipelineIR

_PLACES = ("table", "path", "stream", "topic", "feature_group", "url")


def name_kind(node: NodeIR) -> str:
    """Return the engine of a transform, the kind of a source or sink."""
    return (node.engine if node.type == "transform" else node.kind) or ""


def describe_node(node: NodeIR) -> str:
    """Return the rest of what matters in one line: ``raw.orders {dt={{ ds }}}``, ``etl.clean:main on emr-prod``."""
    if node.type == "transform":
        cluster = node.resources.get("cluster")
        text = node.entrypoint or " ".join((node.sql or "").split())
        return f"{text} on {cluster}" if cluster else str(text)
    parts = [str(node.params[name]) for name in _PLACES if node.params.get(name)][:1]
    if partitions := node.params.get("partitions"):
        parts.append("{" + ", ".join(f"{column}={_value(value)}" for column, value in partitions.items()) + "}")
    if node.type == "sink":
        if (mode := node.params.get("mode", "overwrite")) != "overwrite":
            parts.append(str(mode))
        if columns := node.params.get("partition_by"):
            parts.append(f"by {columns if isinstance(columns, str) else ', '.join(map(str, columns))}")
    return " ".join(parts)


def describe_pipeline(ir: PipelineIR) -> str:
    """Return when it runs, for what, and whose it is, in one line."""
    schedule = f"when {_condition(ir.schedule)} changes" if isinstance(ir.schedule, DatasetCondition) else ir.schedule
    parts = [
        schedule or "by hand",
        f"one {ir.partition} a run" if ir.partition else "",
        ir.timezone if ir.timezone != "UTC" else "",
        f"owner {ir.owner}" if ir.owner else "",
        " ".join(f"#{tag}" for tag in ir.tags),
    ]
    return " · ".join(part for part in parts if part)


def _condition(condition: DatasetCondition) -> str:
    if condition.op == "dataset":
        return str(condition.name)
    items = (f"({_condition(item)})" if item.items else _condition(item) for item in condition.items)
    return (" and " if condition.op == "all" else " or ").join(items)


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "$window" in value:
        return f"{value['$window']}({value.get('n', '')})"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
