"""What a run has told so far, as lines: one a node. Pure: records go in, text comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiflow_sdk.cli.console import (
    Console,
    format_bytes,
    format_rows,
    format_seconds,
    pad,
    plural,
    printable,
    text_width,
)

Phase = Literal["waiting", "running", "retrying", "done", "failed", "skipped", "blocked"]

_STYLES: Mapping[Phase, tuple[str, ...]] = {
    "waiting": ("dim",),
    "skipped": ("dim",),
    "blocked": ("dim",),
    "running": ("cyan",),
    "retrying": ("yellow",),
    "failed": ("red",),
    "done": (),
}
_PHASES: Mapping[str, Phase] = {"succeeded": "done", "skipped": "skipped"}
"""How the nodes of a task of a resumed or selected run stand when it begins."""
_WHAT_WIDTH = 44


@dataclass
class NodeLine:
    """One node and how far it has come."""

    id: str
    type: str
    by: str
    """Of a source or sink its kind, of a transform its engine."""
    what: str
    """The dataset, or the function."""
    phase: Phase = "waiting"
    facts: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0
    note: str = ""


@dataclass
class RunProgress:
    """One run, from its records; see :mod:`aiflow_sdk.local.records`."""

    started: Mapping[str, Any] = field(default_factory=dict)
    nodes: dict[str, NodeLine] = field(default_factory=dict)
    tasks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    finished: Mapping[str, Any] | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in one record of the run."""
        match record["record"]:
            case "run-started":
                self._start(record)
            case "task-started":
                self._note(record, "waiting", "")
            case "node-started":
                node = self.nodes[record["node_id"]]
                node.phase, node.began = "running", record["time"]
            case "node-finished":
                # What a lazy engine reports here may still grow; the task's end says it whole.
                node = self.nodes[record["node_id"]]
                node.phase, node.facts = "done", record
            case "task-finished":
                for facts in record["nodes"]:
                    self.nodes[facts["node_id"]].facts = facts
                for node in self._nodes_of(record):
                    node.phase, node.note = "done", ""
            case "task-retried":
                self._note(record, "retrying", f"failed, again in {format_seconds(record['delay_seconds'])}")
            case "task-repeated":
                self._note(record, "waiting", "starts again")
            case "task-failed":
                self._fail(record)
            case "run-finished":
                self.finished = record
                for node in self.nodes.values():
                    if node.phase in ("running", "waiting", "retrying"):
                        node.phase, node.note = "blocked", "cancelled"

    def header(self, console: Console) -> str:
        """Return the line above: pipeline, partition, environment, run, and how much there is to do."""
        record = self.started
        partition = record["partition"]
        parts = [
            console.style(record["pipeline_id"], "bold"),
            *([partition] if partition != "-" else []),
            record["environment"],
            f"run {record['run_id']}" + (f" execution {record['execution']}" if record["execution"] > 1 else ""),
        ]
        size = f"{plural(len(self.tasks), 'task')}, {plural(len(self.nodes), 'node')}"
        return f"{'  '.join(parts)}   {console.style(size, 'dim')}"

    def line(self, console: Console, node_id: str, now: float) -> str:
        """Return the line of a node."""
        node = self.nodes[node_id]
        facts = node.facts
        widths = self._widths
        where = []
        if (version := facts.get("table_version")) is not None:
            where.append(f"v{version}")
        if partitions := facts.get("partitions"):
            where.append(partitions[0] if len(partitions) == 1 else f"{partitions[0]} … {partitions[-1]}")
        if facts.get("superseded"):
            where.append("superseded by a newer run")
        counts = [f"{name} {number:,}" for name, number in (facts.get("counts") or {}).items()]
        mark = "▸ " if node.type == "transform" else "  "
        left = "  ".join(
            [
                f"  {mark}{pad(node.id, widths[0])}",
                pad(node.by, widths[1]),
                pad(" ".join([node.what, *where]), widths[2]),
            ]
        )
        measured = [
            pad(format_rows(facts.get("rows")), 14, right=True),
            pad(format_bytes(facts.get("bytes")), 7, right=True),
            pad(self._time(node, now), 8, right=True),
        ]
        return console.style(f"{left}  {'  '.join([*measured, *counts])}".rstrip(), *_STYLES[node.phase])

    def _time(self, node: NodeLine, now: float) -> str:
        if node.note:
            return node.note
        if node.phase == "done":
            return format_seconds(node.facts.get("seconds"))
        if node.phase == "running" and node.began:
            return format_seconds(max(0.0, now - node.began))
        return node.phase

    @property
    def _widths(self) -> tuple[int, int, int]:
        nodes = self.nodes.values()
        return (
            min(40, max(text_width(node.id) for node in nodes)),
            max(text_width(node.by) for node in nodes),
            max(_WHAT_WIDTH, min(60, max(text_width(node.what) for node in nodes))),
        )

    def _start(self, record: Mapping[str, Any]) -> None:
        self.started = record
        self.nodes = {node["id"]: _node_line(node) for node in record["nodes"]}
        self.tasks = {task["id"]: task for task in record["tasks"]}
        for task in record["tasks"]:
            phase = _PHASES.get(task["state"], "waiting")
            for node in self._nodes_of({"task_id": task["id"]}):
                if node.phase == "waiting":
                    node.phase = phase
                    node.note = "done before" if phase == "done" else ""

    def _nodes_of(self, record: Mapping[str, Any]) -> Sequence[NodeLine]:
        return [self.nodes[node_id] for node_id in self.tasks[record["task_id"]]["node_ids"]]

    def _note(self, record: Mapping[str, Any], phase: Phase, note: str) -> None:
        for node in self._nodes_of(record):
            node.phase, node.note = phase, note

    def _fail(self, record: Mapping[str, Any]) -> None:
        nodes = self._nodes_of(record)
        about = ((record.get("error") or {}).get("where") or {}).get("about") or ""
        named = [node for node in nodes if any(f"{kind} '{node.id}'" in about for kind in ("node", node.type))]
        at_work = [node for node in nodes if node.phase == "running"]
        for node in nodes:
            if node.phase != "done":
                node.phase, node.note = "blocked", "not run"
        guilty = (named or at_work or nodes)[0]
        guilty.phase, guilty.note = "failed", "failed"
        for task_id in record.get("blocked") or ():
            self._note({"task_id": task_id}, "blocked", "not run")


def _node_line(node: Mapping[str, Any]) -> NodeLine:
    if node["type"] == "transform":
        by, what = node["engine"], node["entrypoint"] or "sql"
    else:
        by, what = node["kind"], node.get("place") or ""
    return NodeLine(node["id"], node["type"], printable(by), printable(what).removeprefix("__here__:"))
