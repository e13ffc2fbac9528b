"""What two plans tell beyond their definitions: code, packages, environment, and what defaults have come to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aiflow_sdk.difference.model import Difference, Effect, Kind, Path, differing, is_same, plain
from aiflow_sdk.difference.words import tell
from aiflow_sdk.ir import freeze
from aiflow_sdk.plan import NODE_ASIDE, OPTIONS_ASIDE, Plan, PlanNode

_TOLD_ELSEWHERE = frozenset({"id", "type", "input_ids", "code"})
_LAKES = frozenset({"lake", "reads"})
"""Where partitions lie, and with them the memory of what they were made of."""
_DERIVED = frozenset({"plugin", "dataset"})
_MOVES = ("engine_plugin", "cluster", "resources")


def settled_by_plans(difference: Difference, matched: Mapping[str, str], before: Plan, after: Plan) -> Difference:
    """Return the difference, as one of description alone where the plans spell the option out alike."""
    if difference.effect != "data" or difference.path[:1] != ("options",):
        return difference
    old_id = next(old for old, new in matched.items() if new == difference.node)
    name = difference.path[1]
    old, new = (plan.nodes[node].options for plan, node in ((before, old_id), (after, difference.node or "")))
    if name in old and name in new and is_same(old[name], new[name]):
        return replace(difference, effect="description", text=f"{difference.text} (as it was by default)")
    return difference


def compare_plans(
    before: Plan, after: Plan, matched: Mapping[str, str], told: Collection[Difference]
) -> Iterator[Difference]:
    """Yield what the plans tell that was not told yet. ``matched``: old id → new id of the nodes that both have."""
    known = {(one.node, one.path) for one in told}
    if before.project != after.project and (None, ("extra", "project")) not in known:
        yield _of_pipeline("pipeline-changed", "data", ("project",), before.project, after.project)
    for old_id, new_id in matched.items():
        # Of a plan without the node (an older document's) nothing can be said.
        if old_id in before.nodes and new_id in after.nodes:
            yield from _compare_node(before, after, old_id, new_id, known)
    groups = _groups(before, matched), _groups(after, matched.values())
    if groups[0] != _renamed_groups(groups[1], {new: old for old, new in matched.items()}):
        yield _of_pipeline("tasks-changed", "operation", ("tasks",), _listed(groups[0]), _listed(groups[1]))
    if before.lock != after.lock:
        yield _of_pipeline("packages-changed", "data", ("lock",), before.lock, after.lock)
    old, new = (freeze(plan.document["environment"]) for plan in (before, after))
    for path, one, other in differing(old, new, ("environment",)):
        effect: Effect = "data" if path[1] in _LAKES else "operation"
        yield _of_pipeline("environment-changed", effect, path, one, other)


def _compare_node(
    before: Plan, after: Plan, old_id: str, new_id: str, known: Collection[tuple[str | None, Path]]
) -> Iterator[Difference]:
    old, new = before.nodes[old_id], after.nodes[new_id]
    tops = {path[:2] if path[:1] in (("options",), ("params",)) else path[:1] for node, path in known if node == new_id}
    for name in type(new).model_fields:
        # What a class or a name follows from was told already.
        if name in _TOLD_ELSEWHERE or (tops and name in _DERIVED):
            continue
        stated = plain(getattr(old, name)), plain(getattr(new, name))
        for path, one, other in differing(*stated, (name,)):
            if path[:1] not in tops and path[:2] not in tops:
                yield _of_node("node-changed", _effect(path), new, path, one, other)
    if new.code != old.code and (old.entrypoint, old.kind, old.sql) == (new.entrypoint, new.kind, new.sql):
        yield _of_node("code-changed", "data", new, ("code",), old.code, new.code)
    if new.type == "transform" and new.engine == old.engine:
        tasks = before.task_of(old_id), after.task_of(new_id)
        for name in _MOVES:
            held = plain(getattr(tasks[0], name)), plain(getattr(tasks[1], name))
            for path, one, other in differing(*held, (name,)):
                # A cluster is stated as one of the resources.
                if (new_id, ("resources", "cluster") if name == "cluster" else path) not in known:
                    yield _of_node("node-moved", "operation", new, path, one, other)


def _effect(path: Path) -> Effect:
    match path:
        case ("dataset",):
            return "description"
        case ("options", name, *_) if name in OPTIONS_ASIDE:
            return "operation"
        case (name, *_) if name in NODE_ASIDE:
            return "operation"
        case _:
            return "data"


def _groups(plan: Plan, nodes: Iterable[str]) -> set[frozenset[str]]:
    """Return which of these nodes share a task."""
    wanted = set(nodes)
    shared = {frozenset(wanted.intersection(task.node_ids)) for task in plan.tasks}
    return {group for group in shared if group}


def _renamed_groups(groups: set[frozenset[str]], names: Mapping[str, str]) -> set[frozenset[str]]:
    return {frozenset(names[node] for node in group) for group in groups}


def _listed(groups: set[frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def _of_node(kind: Kind, effect: Effect, node: PlanNode, path: Path, before: Any, after: Any) -> Difference:
    return tell(Difference(kind, effect, node.id, path, before, after), node)


def _of_pipeline(kind: Kind, effect: Effect, path: Path, before: Any, after: Any) -> Difference:
    return tell(Difference(kind, effect, None, path, before, after))
