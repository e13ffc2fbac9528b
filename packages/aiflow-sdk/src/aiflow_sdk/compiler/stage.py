"""Pass 5: what each task reads from others and leaves for them."""

from __future__ import annotations

from aiflow_sdk.compiler.resolve import copy_resources, project_code, resolve_resources
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.plan import PlanNode, PlanTask


def make_tasks(subject: Subject, groups: list[tuple[str, ...]], nodes: dict[str, PlanNode]) -> tuple[PlanTask, ...]:
    """Return the plan's tasks, in the order of ``groups``, with what lies staged between them."""
    ir = subject.ir
    place = {node_id: number for number, node_id in enumerate(ir.order)}
    names = {group: _task_id(subject, group) for group in groups}
    made_by = {node_id: names[group] for group in groups for node_id in group if ir.nodes[node_id].type != "source"}
    awaited = {group[0] for group in groups if _is_wait(subject, group)}
    reads = {
        group: tuple(
            sorted(
                {i for n in group for i in ir.nodes[n].input_ids if i in made_by} - set(group), key=place.__getitem__
            )
        )
        for group in groups
    }
    staged = {input_id for inputs in reads.values() for input_id in inputs}
    tasks = []
    for group in groups:
        transforms = [ir.nodes[node_id] for node_id in group if ir.nodes[node_id].type == "transform"]
        last = transforms[-1] if transforms else None
        reference, cluster, resources = resolve_resources(subject, last) if last else copy_resources(subject)
        retries, delay, backoff, timeout = (
            (last.retries, last.retry_delay_minutes, last.retry_backoff, last.timeout_minutes) if last else (None,) * 4
        )
        is_wait = _is_wait(subject, group)
        above = (
            *(node_id for node_id in group if node_id in awaited and not is_wait),
            *(made_by[input_id] for input_id in reads[group]),
        )
        tasks.append(
            PlanTask(
                id=names[group],
                engine=(last.engine if last else None) or "python",
                engine_plugin=reference,
                code=project_code(subject, reference),
                cluster=cluster,
                resources=resources,
                node_ids=group,
                staged_inputs=reads[group],
                stages=tuple(node_id for node_id in group if node_id in staged),
                upstream=tuple(dict.fromkeys(above)),
                retries=ir.retries if retries is None else retries,
                retry_delay_seconds=60 * (ir.retry_delay_minutes if delay is None else delay),
                retry_backoff=ir.retry_backoff if backoff is None else backoff,
                timeout_seconds=60 * timeout if timeout is not None else None,
                bounded=is_wait or all(nodes[node_id].bounded for node_id in group),
                waits=is_wait,
            )
        )
    return tuple(tasks)


def _is_wait(subject: Subject, group: tuple[str, ...]) -> bool:
    """Whether the task holds a source alone, which it does only to wait for its data."""
    return len(group) == 1 and subject.ir.nodes[group[0]].type == "source"


def _task_id(subject: Subject, group: tuple[str, ...]) -> str:
    kinds = {node_id: subject.ir.nodes[node_id].type for node_id in group}
    transforms = [node_id for node_id in group if kinds[node_id] == "transform"]
    return transforms[-1] if transforms else next((n for n in group if kinds[n] == "sink"), group[0])
