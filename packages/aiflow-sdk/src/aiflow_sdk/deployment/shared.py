"""Tables that several pipelines write: no mistake of any one of them, and worth knowing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from aiflow_sdk.config import Environment
from aiflow_sdk.discovery import Discovered
from aiflow_sdk.errors import Where
from aiflow_sdk.plan import Plan, PlanNode
from aiflow_sdk.workspace import Workspace


@dataclass
class SharedTables:
    """The sinks of the pipelines of a project, by what they write."""

    workspace: Workspace
    environment: Environment
    _sinks: dict[tuple[str, str, str], list[tuple[Discovered, PlanNode]]] = field(default_factory=dict)
    """By namespace and name, and the part of it that the run's time decides."""

    def add(self, pipeline: Discovered, plan: Plan) -> None:
        """Take note of a pipeline's sinks, as far as it is known before a run where they write."""
        for node in plan.node_list:
            if node.type == "sink" and node.dataset:
                part = self.workspace.part_of(node)
                self._sinks.setdefault((*node.dataset, part), []).append((pipeline, node))

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each table that two pipelines write, one of which replaces what the other wrote."""
        for (_, name, _), sinks in self._sinks.items():
            if len({(pipeline.project, pipeline.id) for pipeline, _ in sinks}) == 1:
                continue
            if any(self.workspace.replaces_run(node, self.environment) for _, node in sinks):
                *others, last = (f"pipeline '{pipeline.id}' ({_place(pipeline, node)})" for pipeline, node in sinks)
                yield f"{', '.join(others)} and {last} write {name}, and what one wrote another replaces"


def _place(pipeline: Discovered, node: PlanNode) -> Where:
    known = pipeline.locations.get(node.id, pipeline.where)
    return Where(known.path, known.line)
