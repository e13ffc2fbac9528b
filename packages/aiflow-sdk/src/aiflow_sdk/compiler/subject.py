"""What the passes look at: one pipeline, where it was written, and the environment that it is compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.errors import AiflowError, Where
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.place import node_place
from aiflow_sdk.plugins import Registry, Sink, Source


@dataclass(frozen=True)
class Subject:
    """One compilation."""

    ir: PipelineIR
    project: Project
    environment: Environment
    registry: Registry
    code: CodeIndex
    locations: Mapping[str, Where] = field(default_factory=dict)
    here: bool = False
    """Whether functions that exist only in this process may stand in the plan."""
    loaded: dict[tuple[str, bool], Source | Sink | None] = field(default_factory=dict, compare=False, repr=False)
    """By node id the connectors that were made to be asked, with the partitions that are asked for and without; None
    where only a run can tell the options."""
    raw: dict[str, Sink] = field(default_factory=dict, compare=False, repr=False)
    """By node id the sinks that hold templates as they stand."""
    answers: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)
    """By node id and method what connectors answered."""
    _sources: dict[str, list[NodeIR]] = field(default_factory=dict, compare=False, repr=False)
    _places: dict[str, Where] = field(default_factory=dict, compare=False, repr=False)

    def where(self, node: NodeIR | None = None) -> Where:
        """Return where the node, or else the pipeline, was written."""
        node_id = node.id if node else ""
        if node_id not in self._places:
            self._places[node_id] = node_place(self.locations, self.ir.id, node_id)
        return self._places[node_id]

    @property
    def is_development(self) -> bool:
        """Whether clusters that the environment does not name are local: ``dev``, its copies, and ``pr-…``."""
        return self.environment.name.split("-", 1)[0] in ("dev", "pr")

    @cached_property
    def bounded(self) -> Mapping[str, bool]:
        """By node id whether its data ends: what follows an unbounded source does not."""
        found: dict[str, bool] = {}
        for node in self.ir.nodes.values():
            found[node.id] = node.bounded and all(found[input_id] for input_id in node.input_ids)
            if node.type == "source" and (plugin := self.source_class(node)):
                found[node.id] &= plugin.bounded
        return found

    def source_class(self, node: NodeIR) -> type[Source] | None:
        """Return the plugin of a source; None where there is none of its kind, which is told of the source itself."""
        try:
            return self.registry.sources.get(node.kind or "")
        except AiflowError:
            return None

    def upstream_sources(self, node: NodeIR) -> list[NodeIR]:
        """Return every source that the node's data comes from, in the pipeline's order."""
        if node.id in self._sources:
            return self._sources[node.id]
        found: set[str] = set()
        waiting = list(node.input_ids)
        while waiting:
            node_id = waiting.pop()
            if node_id not in found:
                found.add(node_id)
                waiting.extend(self.ir.nodes[node_id].input_ids)
        self._sources[node.id] = sources = [
            self.ir.nodes[node_id]
            for node_id in self.ir.order
            if node_id in found and self.ir.nodes[node_id].type == "source"
        ]
        return sources
