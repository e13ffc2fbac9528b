"""What the rows of a partition depend on, of all that a plan says: the one rule of whether a change makes it stale."""

from __future__ import annotations

from typing import Any

from aiflow_sdk.ir import fingerprint, thaw
from aiflow_sdk.plan.model import Plan, PlanNode

NODE_ASIDE = frozenset({"code", "dataset", "plugin"})
"""Fields of a node that its rows do not depend on, or that are compared by themselves."""
OPTIONS_ASIDE = frozenset({"wait_minutes", "restated"})
"""Options of a source that say when its rows are read, and not which."""


def meaning_of(plan: Plan) -> str:
    """Return the fingerprint of what the data depends on: who owns the pipeline, or when it is late, changes no row.

    It covers the nodes, the partition and the time zone. The user's code, the installed packages and the values of
    params have fingerprints of their own beside it.
    """
    return fingerprint([[meaning_of_node(node) for node in plan.node_list], plan.partition, plan.timezone])


def meaning_of_node(node: PlanNode) -> dict[str, Any]:
    """Return what the rows of a node depend on, JSON-ready."""
    fields = {name: value for name, value in node.to_full_dict().items() if name not in NODE_ASIDE}
    options = {name: value for name, value in thaw(node.options).items() if name not in OPTIONS_ASIDE}
    return {**fields, "options": options}
