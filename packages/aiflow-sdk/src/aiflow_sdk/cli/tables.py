"""What lies where a pipeline reads and writes: rows, for the eye and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.code import enter_project
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import Registry, Scan, Source, installed_registry, load_plugin
from aiflow_sdk.runtime import bound_environment
from aiflow_sdk.runtime.rendering import partition_keys, render_options

if TYPE_CHECKING:
    from aiflow_sdk.plan import Plan, PlanNode, Run


def open_source(plan: Plan, node: PlanNode, run: Run, root: Path) -> Source:
    """Return the source of a node as the run would read it."""
    enter_project(root)
    environment = bound_environment(plan, root)
    options, _ = render_options(node, run, environment)
    return load_plugin(node.plugin or "", Source).load(options, environment)


def open_written(plan: Plan, sink: PlanNode, run: Run, root: Path, registry: Registry | None = None) -> Source | None:
    """Return what reads what a sink has written, of the run's partitions alone where a column tells them.

    It is the source of the sink's kind, with the options that both know; None where there is none.
    """
    registry = registry or installed_registry()
    if sink.kind not in registry.sources.kinds:
        return None
    enter_project(root)
    environment = bound_environment(plan, root)
    options, _ = render_options(sink, run, environment)
    kind = registry.sources.get(sink.kind or "")
    shared: dict[str, Any] = {
        name: value for name, value in options.items() if name in kind.model_fields and name != "partitions"
    }
    if (column := told_by(sink, run)) and "partitions" in kind.model_fields:
        shared["partitions"] = {column: [partition.key for partition in run.partitions]}
    try:
        return kind.load(shared, environment)
    except AiflowError:
        return None  # a source that is made otherwise than its sink


def told_by(sink: PlanNode, run: Run) -> str | None:
    """Return the column that tells the run's partitions in what the sink writes, or None."""
    keys = tuple(partition.key for partition in run.partitions)
    if not keys or sink.time:
        return sink.time if keys else None
    # Of rows that are added it is the one that every run fills with its own partition.
    return next((column for column, raw in sink.fill.items() if partition_keys(raw, run)[0] == keys), None)


def read_rows(source: Source, run: Run, limit: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return up to ``limit`` rows and the names of the columns. Raises ``AiflowError``."""
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    for batch in source.scan(Scan(run, limit=limit)):
        columns = columns or list(batch.schema.names)
        rows.extend(batch.slice(0, limit - len(rows)).to_pylist())
        if len(rows) >= limit:
            break
    return rows, columns


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dates as ISO text, numbers as they are, the rest as text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value.isoformat() if hasattr(value, "isoformat") else str(value)
