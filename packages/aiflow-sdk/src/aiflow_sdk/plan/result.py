"""What a task did, as far as its engine measured it; what was not measured is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from aiflow_sdk.ir import Frozen, FrozenMap, PlainMap
from aiflow_sdk.plan.run import JobHandle


class NodeFacts(Frozen):
    """What is known of one node of an attempt."""

    node_id: str
    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    counts: PlainMap = FrozenMap()
    """What user code counted, such as ``bad_rows``."""
    table_version: int | None = None
    columns: tuple[tuple[str, str], ...] | None = None
    """Name and Arrow type name of each column, where the frame told them."""
    dialect: str | None = None
    """Of a query: the dialect of SQL that its engine read it in, as sqlglot calls it."""
    identity: str | None = None
    """Of a source or sink: fingerprint of the data read or written, for telling whether it changed."""
    superseded: bool = False
    """A newer generation had written the partition, so nothing was changed."""
    environment: str | None = None
    """Of a source: the environment whose lake the table was read in."""
    address: str | None = None
    """Where the data lies, without credentials."""
    partitions: tuple[str, ...] = ()
    """The partition keys read or written, as ``column=value``."""

    dataset: tuple[str, str] | None = None
    """Of a source or sink: namespace and name for lineage, as the run's own options tell them."""
    location: str | None = None
    """Where the run's time decides which part of the dataset is touched: where that lies, as the node's options say."""
    touched: tuple[tuple[str, str, str], ...] = ()
    """Of an external function: (``read`` or ``write``, namespace, name) of each dataset that it named."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the facts that ``to_dict`` described; what a newer aiflow says more is left out."""
        return cls.model_validate({name: value for name, value in data.items() if name in cls.model_fields})


class TaskResult(Frozen):
    """What one successful attempt of a task did."""

    task_id: str
    seconds: float
    nodes: tuple[NodeFacts, ...] = ()
    job: JobHandle | None = None
    """Of a continuous task: the job that was started and goes on."""

    def node(self, node_id: str) -> NodeFacts:
        """Return the facts of the node, empty where none are known."""
        return next((facts for facts in self.nodes if facts.node_id == node_id), NodeFacts(node_id=node_id))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TaskResult:
        """Return the result that ``to_dict`` described; what a newer aiflow says more is left out."""
        known = {name: value for name, value in data.items() if name in TaskResult.model_fields}
        return TaskResult.model_validate({**known, "nodes": tuple(map(NodeFacts.from_dict, data.get("nodes", ())))})
