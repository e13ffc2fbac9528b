"""Fingerprints of the data that a run would read, and of what lies where it writes, without reading rows."""

from __future__ import annotations

from pathlib import Path

from aiflow_sdk.code import enter_project
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.plugins import Sink, Source, load_plugin
from aiflow_sdk.runtime.rendering import render_options
from aiflow_sdk.runtime.task import bound_environment


def source_identities(plan: Plan, run: Run, *, root: Path) -> dict[str, str | None]:
    """Return node id → identity of every source; None where it has none or its data is not there."""
    return _identities(plan, run, root, Source)


def sink_identities(plan: Plan, run: Run, *, root: Path) -> dict[str, str | None]:
    """Return node id → identity of every sink; None where it has none or nothing was written yet."""
    return _identities(plan, run, root, Sink)


def _identities(plan: Plan, run: Run, root: Path, base: type[Source] | type[Sink]) -> dict[str, str | None]:
    enter_project(root)
    environment = bound_environment(plan, root)
    wanted = "source" if base is Source else "sink"
    found: dict[str, str | None] = {}
    for node in plan.node_list:
        if node.type != wanted:
            continue
        try:
            options, _ = render_options(node, run, environment)
            plugin = load_plugin(node.plugin or "", base).load(options, environment)
            found[node.id] = plugin.identity(run)
        except AiflowError:
            # Nothing there to have an identity; the run itself will say what is wrong.
            found[node.id] = None
    return found
