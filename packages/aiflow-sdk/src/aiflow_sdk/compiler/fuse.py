"""Pass 4: nodes become tasks. Neighbours on one engine and cluster share a task and pass frames in memory."""

from __future__ import annotations

import heapq
from collections import defaultdict

from aiflow_sdk.compiler.resources import cluster_of, engine_options
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.ir import NodeIR
from aiflow_sdk.variables import has_template


def fuse_nodes(subject: Subject) -> list[tuple[str, ...]]:
    """Return the nodes of each task, each task after those that it reads from, each node after its inputs.

    A transform joins the task of its inputs when engine, cluster and resources are the same. A node that several
    transforms read, that has its own retries or time limit, or that says ``fuse=False`` ends a fusion. Sources and
    sinks ride along; a sink of a bare source is a task, and so is a source that waits for its data.
    """
    nodes = subject.ir.nodes
    readers: dict[str, list[NodeIR]] = defaultdict(list)
    for node in nodes.values():
        if node.type == "transform":
            for input_id in dict.fromkeys(node.input_ids):
                readers[input_id].append(node)
    # A node joins its reader's task only where that is its one reader, so no other task can lie between the two, and
    # no two tasks ever wait for each other. Readers come first here, so their task is known.
    group: dict[str, str] = {}
    for node_id in reversed(subject.ir.order):
        node, reader = nodes[node_id], readers[node_id][0] if len(readers[node_id]) == 1 else None
        if node.type == "transform":
            joins = reader and _fusible(node) and _fusible(reader) and _same_place(subject, node, reader)
            group[node_id] = group[reader.id] if reader and joins else node_id
    return _tasks(subject, group)


def waits(source: NodeIR) -> bool:
    """Whether a source waits for its data; what a template says is known only where it runs."""
    minutes = source.options.get("wait_minutes", 0)
    return has_template(minutes) if isinstance(minutes, str) else bool(minutes)


def _fusible(node: NodeIR) -> bool:
    own = (node.retries, node.retry_delay_minutes, node.retry_backoff, node.timeout_minutes)
    return node.fuse and not node.external and all(value is None for value in own)


def _same_place(subject: Subject, one: NodeIR, other: NodeIR) -> bool:
    return (
        one.engine == other.engine
        and cluster_of(subject, one) == cluster_of(subject, other)
        and engine_options(one) == engine_options(other)
    )


def _tasks(subject: Subject, group: dict[str, str]) -> list[tuple[str, ...]]:
    nodes = subject.ir.nodes
    place = {node_id: number for number, node_id in enumerate(subject.ir.order)}
    members: dict[str, set[str]] = defaultdict(set)
    for node_id, own in group.items():
        members[own].add(node_id)
        members[own] |= {i for i in nodes[node_id].input_ids if nodes[i].type == "source"}
    for node in nodes.values():
        if node.type == "sink":
            (input_id,) = node.input_ids
            # A bare source that is copied: the sink is a task of its own.
            members[group.get(input_id, node.id)] |= {node.id, input_id}
        elif node.type == "source" and waits(node):
            members[node.id].add(node.id)
    return _in_order(subject, [tuple(sorted(held, key=place.__getitem__)) for held in members.values()])


def _in_order(subject: Subject, tasks: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the tasks, each after those that it needs, otherwise sorted."""
    nodes = subject.ir.nodes
    made_by = {node_id: task for task in tasks for node_id in task if nodes[node_id].type != "source"}
    made_by |= {task[0]: task for task in tasks if len(task) == 1 and nodes[task[0]].type == "source"}
    needs: dict[tuple[str, ...], int] = {}
    needed_by: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for task in tasks:
        above = {made_by[i] for n in task for i in (n, *nodes[n].input_ids) if i in made_by} - {task}
        needs[task] = len(above)
        for one in above:
            needed_by[one].append(task)
    ready = [task for task, count in needs.items() if not count]
    heapq.heapify(ready)
    ordered: list[tuple[str, ...]] = []
    while ready:
        task = heapq.heappop(ready)
        ordered.append(task)
        for later in needed_by[task]:
            needs[later] -= 1
            if not needs[later]:
                heapq.heappush(ready, later)
    return ordered
