"""Pass 4: nodes become tasks. Neighbours on one engine and cluster share a task and pass frames in memory."""

from __future__ import annotations

from collections import defaultdict

from aiflow_sdk.compiler.resources import cluster_of
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.ir import NodeIR


def fuse_nodes(subject: Subject) -> list[tuple[str, ...]]:
    """Return the nodes of each task, each task after those that it reads from, each node after its inputs.

    A transform joins the task of its inputs when engine, cluster and resources are the same. A node that several
    transforms read, that has its own retries or time limit, or that says ``fuse=False`` ends a fusion; so does a join
    that would make two tasks wait for each other. Sources and sinks ride along; a sink of a bare source is a task.
    """
    nodes = subject.ir.nodes
    readers: dict[str, list[str]] = defaultdict(list)
    for node in nodes.values():
        if node.type == "transform":
            for input_id in dict.fromkeys(node.input_ids):
                readers[input_id].append(node.id)

    group: dict[str, str] = {node.id: node.id for node in nodes.values() if node.type == "transform"}
    for node in nodes.values():
        if node.type != "transform" or not _fusible(node):
            continue
        for input_id in dict.fromkeys(node.input_ids):
            above = nodes[input_id]
            if above.type != "transform" or not _fusible(above) or len(readers[input_id]) > 1:
                continue
            if not _same_place(subject, above, node) or group[input_id] == group[node.id]:
                continue
            merged = {key: (group[node.id] if value == group[input_id] else value) for key, value in group.items()}
            if _is_acyclic(subject, merged):
                group = merged
    return _tasks(subject, group)


def _fusible(node: NodeIR) -> bool:
    own = (node.retries, node.retry_delay_minutes, node.timeout_minutes)
    return node.fuse and not node.external and all(value is None for value in own)


def _same_place(subject: Subject, one: NodeIR, other: NodeIR) -> bool:
    return (
        one.engine == other.engine
        and cluster_of(subject, one) == cluster_of(subject, other)
        and _stated(one) == _stated(other)
    )


def _stated(node: NodeIR) -> dict[str, object]:
    return {key: value for key, value in node.resources.items() if key not in ("engine", "cluster")}


def _is_acyclic(subject: Subject, group: dict[str, str]) -> bool:
    needs: dict[str, set[str]] = defaultdict(set)
    for node_id, own in group.items():
        needs[own] |= {group[i] for i in subject.ir.nodes[node_id].input_ids if i in group and group[i] != own}
    waiting = set(group.values())
    while waiting:
        ready = {own for own in waiting if not needs[own] & waiting}
        if not ready:
            return False
        waiting -= ready
    return True


def _tasks(subject: Subject, group: dict[str, str]) -> list[tuple[str, ...]]:
    nodes = subject.ir.nodes
    members: dict[str, set[str]] = defaultdict(set)
    for node_id, own in group.items():
        members[own].add(node_id)
        members[own] |= {i for i in nodes[node_id].input_ids if nodes[i].type == "source"}
    for node in nodes.values():
        if node.type == "sink":
            (input_id,) = node.input_ids
            # A bare source that is copied: the sink is a task of its own.
            members[group.get(input_id, node.id)] |= {node.id, input_id}
    tasks = [tuple(node_id for node_id in subject.ir.order if node_id in held) for held in members.values()]
    return _in_order(subject, tasks)


def _in_order(subject: Subject, tasks: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    made_by = {node_id: task for task in tasks for node_id in task if subject.ir.nodes[node_id].type != "source"}
    ordered: list[tuple[str, ...]] = []
    waiting = sorted(tasks)
    while waiting:
        for task in waiting:
            above = {made_by[i] for n in task for i in subject.ir.nodes[n].input_ids if i in made_by} - {task}
            if not above & set(waiting):
                ordered.append(task)
                waiting.remove(task)
                break
    return ordered
