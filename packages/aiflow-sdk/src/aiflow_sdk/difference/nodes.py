"""Which nodes of two versions are one another, and how those that are differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.difference.model import ABSENT, Difference, Effect, Kind, Path, differing, plain
from aiflow_sdk.difference.words import tell
from aiflow_sdk.frames.query import replace_names
from aiflow_sdk.ir import NodeIR, PipelineIR, canonical_json
from aiflow_sdk.plan import OPTIONS_ASIDE

NODE_EFFECTS: Mapping[str, Effect] = {
    "engine": "data",
    "entrypoint": "data",
    "sql": "data",
    "params": "data",
    "resources": "operation",
    "input_ids": "data",
    "output_schema": "data",
    "retries": "operation",
    "retry_delay_minutes": "operation",
    "retry_backoff": "operation",
    "timeout_minutes": "operation",
    "fuse": "operation",
    "external": "data",
    "implicit": "data",
    "bounded": "data",
}
"""Of each field of a node what hangs on it: that of :func:`aiflow_sdk.plan.meaning_of_node`, said of the IR. A node
that is new, gone or renamed is always a matter of data, because a write is known by its sink's id."""

_SCHEMAS = frozenset({"schema", "columns"})
"""Options by which a source or sink declares its columns."""


def match_nodes(before: PipelineIR, after: PipelineIR) -> dict[str, str]:
    """Return old id → new id of every node that both have: of the same id and type, else of the same content.

    A node that was renamed is found by its content, with the renaming of its inputs followed.
    """
    matched = {
        node_id: node_id
        for node_id, node in before.nodes.items()
        if node_id in after.nodes and after.nodes[node_id].type == node.type
    }
    free: dict[str, list[str]] = {}
    for node_id, node in after.nodes.items():
        if node_id not in before.nodes:
            free.setdefault(_content(node), []).append(node_id)
    for node_id, node in before.nodes.items():
        if node_id in after.nodes or not free:
            continue
        if candidates := free.get(_content(node, matched)):
            matched[node_id] = candidates.pop(0)
    return matched


def renaming_of(matched: Mapping[str, str]) -> dict[str, str]:
    """Return old id → new id of the nodes that were renamed."""
    return {old: new for old, new in matched.items() if old != new}


def compare_node(before: NodeIR, after: NodeIR, renamed: Mapping[str, str]) -> Iterator[Difference]:
    """Yield how a node that both versions have differs; what follows from the renaming of its inputs is none."""
    inputs = tuple(renamed.get(one, one) for one in before.input_ids)
    if inputs != after.input_ids:
        yield _said("node-rewired", "data", after, ("input_ids",), before.input_ids, after.input_ids)
    for path, old, new in _fields(before, after, renamed):
        yield _said(_kind(path), _effect(path), after, path, old, new)


def _fields(before: NodeIR, after: NodeIR, renamed: Mapping[str, str]) -> Iterator[tuple[Path, Any, Any]]:
    for name in NODE_EFFECTS:
        old, new = getattr(before, name), getattr(after, name)
        match name:
            case "input_ids":
                continue
            case "sql" if old and new and _renamed_query(old, renamed) == new:
                continue
            case "params" if after.type != "transform":
                yield from differing(plain(before.kind), plain(after.kind), ("kind",))
                yield from differing(before.options, after.options, ("options",))
            case _:
                yield from differing(plain(old), plain(new), (name,))


def _content(node: NodeIR, renamed: Mapping[str, str] | None = None) -> str:
    """Return all that a node is but its id; with the inputs' new names where they were renamed."""
    names = renamed or {}
    content = {name: value for name, value in node.to_dict().items() if name != "id"}
    content["input_ids"] = [names.get(one, one) for one in node.input_ids]
    if node.sql is not None:
        content["sql"] = _renamed_query(node.sql, names)
    return canonical_json(content)


def _renamed_query(query: str, renamed: Mapping[str, str]) -> str:
    changed = {old: new for old, new in renamed.items() if old != new}
    return replace_names(query, lambda name: f"{{{changed.get(name, name)}}}") if changed else query


def _kind(path: Path) -> Kind:
    match path:
        case ("engine",) | ("resources", *_):
            return "node-moved"
        case ("output_schema", *_):
            return "schema-changed"
        case ("options", name, *_) if name in _SCHEMAS:
            return "schema-changed"
        case _:
            return "node-changed"


def _effect(path: Path) -> Effect:
    match path:
        case ("kind",):
            return "data"
        case ("options", name, *_):
            return "operation" if name in OPTIONS_ASIDE else "data"
        case (name, *_):
            return NODE_EFFECTS[name]
        case _:
            return "data"


def _said(kind: Kind, effect: Effect, node: NodeIR, path: Path, before: Any, after: Any) -> Difference:
    return tell(Difference(kind, effect, node.id, path, before, after), node)


def whole_nodes(before: PipelineIR, after: PipelineIR, matched: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the nodes that are gone, new or renamed, as their whole content."""
    kept = set(matched.values())
    for node_id, node in before.nodes.items():
        if node_id not in matched:
            gone = Difference("node-removed", "data", node_id, (), plain(node.to_dict()), ABSENT)
            yield tell(gone, node)
        elif (new := matched[node_id]) != node_id:
            yield tell(Difference("node-renamed", "data", new, ("id",), node_id, new), node)
    for node_id, node in after.nodes.items():
        if node_id not in kept:
            yield tell(Difference("node-added", "data", node_id, (), ABSENT, plain(node.to_dict())), node)
