"""What a run has told so far, as lines: one a node. Pure: records go in, text comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiflow_sdk.cli.console import (
    Console,
    cut_middle,
    format_bytes,
    format_rows,
    format_seconds,
    pad,
    printable,
    text_width,
)
from aiflow_sdk.errors import plural
from aiflow_sdk.local.store import short_run_id

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
_HERE = "__here__:"
"""As ``ir.HERE`` says it; importing that would bring pydantic into every run's view."""
_WHAT_WIDTH = 44
_LEAST_WHAT_WIDTH = 12
"""A terminal without room for so much says it in a line below."""
_LEAST_ROWS_WIDTH = 8


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


@dataclass(frozen=True)
class _Widths:
    """How wide each column is."""

    id: int
    by: int
    what: int
    rows: int = 14
    bytes: int = 7
    time: int = 8

    @property
    def total(self) -> int:
        """The width of a line, what is counted in user code left out."""
        columns = (self.id, self.by, self.what, self.rows, self.bytes, self.time)
        return 4 + sum(columns) + 2 * (len(columns) - 1)


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
                self._time_last(record)
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
        """Return the line above: pipeline, partition, environment, run, and how much there is to do.

        On a terminal the run has its short id, which is all that other commands need.
        """
        record = self.started
        partition = record["partition"]
        run_id = short_run_id(record["run_id"]) if console.is_terminal else record["run_id"]
        parts = [
            console.style(record["pipeline_id"], "bold"),
            *([partition] if partition != "-" else []),
            record["environment"],
            f"run {run_id}" + (f" execution {record['execution']}" if record["execution"] > 1 else ""),
        ]
        size = f"{plural(len(self.tasks), 'task')}, {plural(len(self.nodes), 'node')}"
        head = "  ".join(parts)
        if console.is_terminal and text_width(head) + len(size) + 3 >= console.width:
            return head
        return f"{head}   {console.style(size, 'dim')}"

    @property
    def doing_seconds(self) -> float | None:
        """How long this doing of the run took; of one that was resumed, what went before is not counted."""
        return self.finished["time"] - self.started["time"] if self.finished and self.started else None

    def lines(self, console: Console, node_id: str, now: float) -> list[str]:
        """Return the line of a node, and a second one for what a narrow terminal has no room for beside the numbers."""
        node = self.nodes[node_id]
        style = _STYLES[node.phase]
        widths = self._widths(console)
        where, counts = _where(node.facts), _counts(node.facts)
        mark = "▸ " if node.type == "transform" else "  "
        left = f"  {mark}{pad(cut_middle(node.id, widths.id), widths.id)}  {pad(node.by, widths.by)}"
        measured = self._measured(node, now, widths)
        whole = " ".join([node.what, *where])
        beside = f"  {'  '.join(counts)}" if counts else ""
        line = f"{left}  {pad(whole, widths.what)}  {measured}{beside}"
        room = console.width if console.is_terminal else None
        if room is None or text_width(line.rstrip()) < room:
            return [console.style(line.rstrip(), *style)]
        if widths.what >= _LEAST_WHAT_WIDTH:
            what = node.what if text_width(node.what) <= widths.what else cut_middle(node.what, widths.what)
            first, more = f"{left}  {pad(what, widths.what)}  {measured}", [*where, *counts]
        else:
            first, more = f"{left}  {measured}", [whole, *counts]
        second = [f"      {cut_middle('  '.join(more), room - 7)}"] if any(more) else []
        return [console.style(text.rstrip(), *style) for text in (first, *second)]

    def _measured(self, node: NodeLine, now: float, widths: _Widths) -> str:
        rows, size, time = (
            format_rows(node.facts.get("rows")),
            format_bytes(node.facts.get("bytes")),
            self._time(node, now),
        )
        if not rows and not size:
            return pad(time, widths.rows + widths.bytes + widths.time + 4, right=True)
        cells = ((rows, widths.rows), (size, widths.bytes), (time, widths.time))
        return "  ".join(pad(text, width, right=True) for text, width in cells)

    def _time(self, node: NodeLine, now: float) -> str:
        if node.note:
            return node.note
        if node.phase == "done":
            return format_seconds(node.facts.get("seconds"))
        if node.phase == "running" and node.began:
            return format_seconds(max(0.0, now - node.began))
        return node.phase

    def _widths(self, console: Console) -> _Widths:
        """Return the columns' widths: of a terminal that is narrow the one that says what gives way first."""
        nodes = self.nodes.values()
        by = max(text_width(node.by) for node in nodes)
        ids = max(text_width(node.id) for node in nodes)
        longest = max(_WHAT_WIDTH, min(60, max(text_width(node.what) for node in nodes)))
        widths = _Widths(min(40, ids), by, longest)
        if not console.is_terminal or widths.total < console.width:
            return widths
        rows = max(_LEAST_ROWS_WIDTH, *(text_width(format_rows(node.facts.get("rows"))) for node in nodes))
        widths = _Widths(min(ids, max(12, console.width // 4)), by, 0, rows, 6, 7)
        return replace(widths, what=min(longest, max(0, console.width - 1 - widths.total)))

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

    def _time_last(self, record: Mapping[str, Any]) -> None:
        """Give a task's seconds to its last transform where nobody measured it: a lazy engine does all at the end."""
        transforms = [node for node in self._nodes_of(record) if node.type == "transform"]
        if transforms and transforms[-1].facts.get("seconds") is None and record.get("seconds") is not None:
            transforms[-1].facts = {**transforms[-1].facts, "seconds": record["seconds"]}

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


def _where(facts: Mapping[str, Any]) -> list[str]:
    where = []
    if (version := facts.get("table_version")) is not None:
        where.append(f"v{version}")
    partitions = facts.get("partitions")
    if partitions and not (facts.get("location") and len(partitions) == 1):  # the node's line has it in its path
        where.append(partitions[0] if len(partitions) == 1 else f"{partitions[0]} … {partitions[-1]}")
    if facts.get("superseded"):
        where.append("superseded by a newer run")
    return where


def _counts(facts: Mapping[str, Any]) -> list[str]:
    return [f"{name} {number:,}" for name, number in (facts.get("counts") or {}).items()]


def _node_line(node: Mapping[str, Any]) -> NodeLine:
    if node["type"] == "transform":
        by, what = node["engine"], node["entrypoint"] or "sql"
    else:
        by, what = node["kind"], node.get("place") or ""
    return NodeLine(node["id"], node["type"], printable(by), printable(what).removeprefix(_HERE))
