"""A pipeline while it is written: its nodes so far, where they stand, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        node: NodeIR = make(NodeIR, fields)
        if node.id in self.nodes:
            raise DefinitionError(
                "duplicate-node-id",
                f"two nodes are called '{node.id}'",
                hint=f"rename one; the other is at {self.locations[node.id]}",
            )
        self.nodes[node.id] = node
        self.locations[node.id] = replace(where, about=None) if where.about else where

    def noting(self, where: Where, node_id: object = None) -> _Noting:
        """Note what is wrong inside ``with`` and go on, so that all problems are told at once."""
        return _Noting(self, where, node_id)

    def note(self, error: AiflowError, where: Where, node_id: object) -> None:
        """Note a problem of the node, or else of the pipeline, written at ``where``."""
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


class _Noting:
    __slots__ = ("_draft", "_node_id", "_where")

    def __init__(self, draft: Draft, where: Where, node_id: object) -> None:
        self._draft = draft
        self._where = where
        self._node_id = node_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, AiflowError):
            return False
        self._draft.note(error, self._where, self._node_id)
        return True
