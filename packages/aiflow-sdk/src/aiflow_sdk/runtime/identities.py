"""What is known, without reading rows, of the data that a run would read and of what lies where it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aiflow_sdk.code import enter_project
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Plan, PlanNode, Run
from aiflow_sdk.plugins import SharedSink, Sink, Source, VersionedSource, Write, load_plugin
from aiflow_sdk.runtime.rendering import fill_values, render_options
from aiflow_sdk.runtime.task import bound_environment

Kind = TypeVar("Kind", Source, Sink)


class Data:
    """The sources and sinks of a plan, for any number of runs: each is made once while its options stay."""

    def __init__(self, plan: Plan, root: Path) -> None:
        enter_project(root)
        self.plan = plan
        self.environment = bound_environment(plan, root)
        self._plugins: dict[str, tuple[dict[str, Any], Source | Sink]] = {}

    @property
    def source_ids(self) -> tuple[str, ...]:
        """The ids of the plan's sources."""
        return tuple(node.id for node in self._nodes("source"))

    def source_identities(self, run: Run) -> dict[str, str | None]:
        """Return node id → identity of every source; None where it has none or its data is not there."""
        return {node.id: self._identity(node, run, Source) for node in self._nodes("source")}

    def sink_identities(self, run: Run) -> dict[str, str | None]:
        """Return node id → identity of every sink; None where it has none or nothing was written yet."""
        return {node.id: self._identity(node, run, Sink) for node in self._nodes("sink")}

    def adding_sinks(self, run: Run) -> set[str]:
        """Return the ids of the sinks that replace nothing but what they wrote for the run's partition before."""
        found = set()
        for node in self._nodes("sink"):
            with suppress(AiflowError):  # the run itself will say what is wrong
                if self._plugin(node, run, Sink).replaces() == "nothing":
                    found.add(node.id)
        return found

    def found_sinks(self, run: Run) -> dict[str, tuple[str, str] | None]:
        """Return node id → where readers find what the sink writes, and its identity there; None where they do not."""
        found: dict[str, tuple[str, str] | None] = {}
        for node in self._nodes("sink"):
            try:
                sink = self._plugin(node, run, Sink)
                found[node.id] = sink.found(run, node.id) if isinstance(sink, SharedSink) else None
            except AiflowError:
                found[node.id] = None  # the run itself will say what is wrong
        return found

    def newest_generation(self, run: Run) -> int:
        """Return the greatest generation that a sink knows where the run would write; 0 where none knows any."""
        newest = 0
        for node in self._nodes("sink"):
            try:
                request = Write(node.id, run, fill_values(node, run), node.time)
                newest = max(newest, self._plugin(node, run, Sink).newest_generation(request) or 0)
            except AiflowError:
                continue  # the run itself will say what is wrong with its sink
        return newest

    def pins(self, run: Run) -> dict[str, dict[str, Any]]:
        """Return which version of another environment's tables the run is to read: source → environment and version.

        A source that waits for its data is left out: it reads what is there once it has waited.
        """
        if not self.environment.reads:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for node in self._nodes("source"):
            try:
                source = self._plugin(node, run, Source)
                reading = source.reading() if isinstance(source, VersionedSource) and not source.wait_minutes else None
            except AiflowError:
                continue  # the run itself will say what is wrong
            if reading is not None and reading.environment != run.environment:
                found[node.id] = {"environment": reading.environment, "version": reading.version}
        return found

    def _nodes(self, node_type: str) -> Iterator[PlanNode]:
        return (node for node in self.plan.node_list if node.type == node_type)

    def _identity(self, node: PlanNode, run: Run, kind: type[Kind]) -> str | None:
        try:
            plugin = self._plugin(node, run, kind)
            return plugin.identity(run, node.id) if isinstance(plugin, Sink) else plugin.identity(run)
        except AiflowError:
            return None  # nothing there to have an identity; the run itself will say what is wrong

    def _plugin(self, node: PlanNode, run: Run, kind: type[Kind]) -> Kind:
        options, _ = render_options(node, run, self.environment)
        known, plugin = self._plugins.get(node.id, (None, None))
        if known != options or not isinstance(plugin, kind):
            plugin = load_plugin(node.plugin or "", kind).load(options, self.environment)
            self._plugins[node.id] = options, plugin
        return plugin


def source_identities(plan: Plan, run: Run, *, root: Path) -> dict[str, str | None]:
    """Return node id → identity of every source; None where it has none or its data is not there."""
    return Data(plan, root).source_identities(run)


def sink_identities(plan: Plan, run: Run, *, root: Path) -> dict[str, str | None]:
    """Return node id → identity of every sink; None where it has none or nothing was written yet."""
    return Data(plan, root).sink_identities(run)
