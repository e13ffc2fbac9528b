"""A pipeline while it is written: its nodes so far, where they stand, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiflow_sdk.builder.guard import make
from aiflow_sdk.errors import AiflowError, DefinitionError, Where
from aiflow_sdk.ir import NodeIR
from aiflow_sdk.variables import Variables


@dataclass
class Draft:
    """What all builders of one pipeline (branches included) write into."""

    pipeline_id: str
    vars: Variables
    roots: tuple[str, ...] = ()
    """Folders in which the user's modules are looked for."""
    nodes: dict[str, NodeIR] = field(default_factory=dict)
    locations: dict[str, Where] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """By node id the functions that exist only in this process."""
    problems: list[AiflowError] = field(default_factory=list)

    def add(self, where: Where, **fields: Any) -> None:
        """Add a node. Raises ``DefinitionError``."""
        node: NodeIR = make(NodeIR, **fields)
        if node.id in self.nodes:
            raise DefinitionError(
                "duplicate-node-id",
                f"two nodes are called '{node.id}'",
                hint=f"rename one; the other is at {self.locations[node.id]}",
            )
        self.nodes[node.id] = node
        self.locations[node.id] = replace(where, about=None)

    @contextmanager
    def noting(self, where: Where, node_id: object = None) -> Iterator[None]:
        """Note what is wrong and go on, so that all problems are told at once."""
        try:
            yield
        except AiflowError as error:
            about = f"pipeline '{self.pipeline_id}'" + (f", node '{node_id}'" if isinstance(node_id, str) else "")
            mine = error.where
            if mine and mine.about and not mine.path:
                error.where = replace(mine, about=None)
            self.problems.append(error.at(replace(where, about=about)))

    def readers(self) -> Mapping[str, list[str]]:
        """Return by node id the nodes that read it."""
        readers: dict[str, list[str]] = {node_id: [] for node_id in self.nodes}
        for node in self.nodes.values():
            for input_id in node.input_ids:
                readers.setdefault(input_id, []).append(node.id)
        return readers
