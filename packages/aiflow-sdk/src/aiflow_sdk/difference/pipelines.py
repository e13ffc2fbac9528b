"""Compares two versions of a pipeline: what they mean, and where their plans are known, what these add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.difference.model import Difference, Effect, Path, differing, plain
from aiflow_sdk.difference.nodes import compare_node, match_nodes, renaming_of, whole_nodes
from aiflow_sdk.difference.plans import compare_plans, settled_by_plans
from aiflow_sdk.difference.words import tell
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plan import Plan

PIPELINE_EFFECTS: Mapping[str, Effect] = {
    "id": "data",
    "schedule": "operation",
    "owner": "description",
    "sla_minutes": "operation",
    "tags": "description",
    "extra": "description",
    "description": "description",
    "start_date": "operation",
    "timezone": "data",
    "catchup": "operation",
    "retries": "operation",
    "retry_delay_minutes": "operation",
    "retry_backoff": "operation",
    "timeout_minutes": "operation",
    "max_active_runs": "operation",
    "concurrency": "operation",
    "notify": "operation",
    "params": "data",
    "partition": "data",
    "ranges": "operation",
}
"""Of each field of a pipeline what hangs on it. Id and project are data: partitions are known by them, so that under
others none was ever made."""


def compare_pipelines(
    before: PipelineIR, after: PipelineIR, plans: tuple[Plan, Plan] | None = None
) -> tuple[Difference, ...]:
    """Return how the newer version differs from the older: the pipeline first, then its nodes, each after its inputs.

    Without ``plans`` (the older's, the newer's) it is empty exactly where the two have one fingerprint. The plans add
    the user's code, the packages, the environment and what their defaults have come to; and they tell of a stated value
    that was the default anyway that it changes no data.
    """
    matched = match_nodes(before, after)
    renamed = renaming_of(matched)
    found = [
        tell(Difference("pipeline-changed", _effect(path), None, path, old, new))
        for path, old, new in _pipeline_fields(before, after)
    ]
    nodes = list(whole_nodes(before, after, matched))
    for old_id, new_id in matched.items():
        nodes += compare_node(before.nodes[old_id], after.nodes[new_id], renamed)
    if plans is None:
        return (*found, *_in_order(nodes, before, after))
    nodes = [settled_by_plans(difference, matched, *plans) for difference in nodes]
    of_plans = list(compare_plans(*plans, matched, [*found, *nodes]))
    nodes += [one for one in of_plans if one.node is not None]
    return (*found, *_in_order(nodes, before, after), *(one for one in of_plans if one.node is None))


def _pipeline_fields(before: PipelineIR, after: PipelineIR) -> Iterator[tuple[Path, Any, Any]]:
    for name in PIPELINE_EFFECTS:
        yield from differing(plain(getattr(before, name)), plain(getattr(after, name)), (name,))


def _effect(path: Path) -> Effect:
    return "data" if path == ("extra", "project") else PIPELINE_EFFECTS[path[0]]


def _in_order(nodes: list[Difference], before: PipelineIR, after: PipelineIR) -> list[Difference]:
    """Return the differences in the order of the newer version's nodes, those of removed ones where they stood."""
    places = {node_id: (place, 1) for place, node_id in enumerate(after.order)}
    place = -1
    for node_id in before.order:
        if node_id in places:
            place = places[node_id][0]
        else:
            places[node_id] = (place, 2)
    return sorted(nodes, key=lambda one: (places[one.node or ""], one.kind != "node-removed"))
