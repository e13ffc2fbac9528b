"""What can be said only of the whole pipeline: nodes that lead nowhere, sinks that are read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.builder.draft import Draft
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import FrozenMap, NodeIR
from aiflow_sdk.partitions import is_window

_PLACE = frozenset({"table", "path", "stream", "topic", "feature_group"})
_PLACE_OR_SCOPE = _PLACE | {"connection", "url", "database", "schema", "bucket"}
_SAME = FrozenMap({"$window": "same"})


def wiring_problems(draft: Draft) -> Iterator[tuple[str, DefinitionError]]:
    """Yield the id of a node and what is wrong with how it is connected."""
    readers = draft.readers()
    for node in draft.nodes.values():
        if node.type == "transform" and not node.external and not readers[node.id]:
            yield (
                node.id,
                DefinitionError(
                    "unused-node",
                    f"nobody reads or writes what '{node.id}' makes",
                    hint="write it with p.write(…) or output_table=…; external=True where its function writes itself",
                ),
            )
        # After another mistake its reader may be the node that was refused.
        if node.type == "source" and not readers[node.id] and not draft.problems:
            yield (
                node.id,
                DefinitionError(
                    "unused-node",
                    f"nobody reads or writes the source '{node.id}'",
                    hint="give it to a transform, write it with p.write(…), or leave it away",
                ),
            )
    sinks = {place: node.id for node in draft.nodes.values() if node.type == "sink" and (place := _place(node))}
    for node in draft.nodes.values():
        place = _place(node) if node.type == "source" else None
        if place in sinks and not _reads_another_time(node):
            yield (
                node.id,
                DefinitionError(
                    "sink-read-back",
                    f"'{node.id}' reads what '{sinks[place]}' writes in the same run",
                    hint="use the dataset that is written instead; an earlier partition is window.offset(-1)",
                ),
            )


def one_spelling(node: NodeIR, partition: str | None) -> NodeIR:
    """Return a source with ``window.same()`` of a day, week or month written as ``{{ ds }}``, which means the same."""
    partitions = node.params.get("partitions") if node.type == "source" else None
    if partition in (None, "hour") or type(partitions) is not FrozenMap:
        return node
    if not any(type(value) is FrozenMap and value == _SAME for value in partitions.values()):
        return node
    spelled = {column: "{{ ds }}" if value == _SAME else value for column, value in partitions.items()}
    return NodeIR.make(**{**dict(node), "params": {**node.params, "partitions": spelled}})


def _place(node: NodeIR) -> tuple[Any, ...] | None:
    options: Mapping[str, Any] = node.params
    if node.type == "source" and node.kind == "files" and options.get("root") != "lake":
        return None  # the project's own files; sinks write into the lake
    said = [(name, value) for name, value in options.items() if name in _PLACE_OR_SCOPE and value is not None]
    return (node.kind, *said) if any(value for name, value in said if name in _PLACE) else None


def _reads_another_time(source: NodeIR) -> bool:
    """Whether it reads a fixed version, or another partition than the run's own: a window, an offset, a literal."""
    partitions = source.params.get("partitions")
    if source.params.get("version") is not None:
        return True
    if not isinstance(partitions, Mapping):
        return False
    return any(not _is_runs_own(value) for value in partitions.values())


def _is_runs_own(value: Any) -> bool:
    if is_window(value):
        return value["$window"] in ("same", "covering")
    return value in ("{{ ds }}", "{{ ds_nodash }}", "{{ data_interval_start }}")
