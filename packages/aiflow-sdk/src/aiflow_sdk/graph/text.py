"""The graph for a terminal: one line a node, what feeds it above it, and lines beside them as in ``git log --graph``.

A source is ``○``, a transform ``●``, a sink ``◆``::

    ○ orders        onelake  raw.orders {dt={{ ds }}}
    │ ○ users       onelake  raw.users
    ├─╯
    ● joined        spark    etl.join:main
    ◆ features      onelake  feature.users
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiflow_sdk.graph.words import describe_node, describe_pipeline, name_kind
from aiflow_sdk.ir import NodeIR, PipelineIR

_GLYPHS = {"source": "○", "transform": "●", "sink": "◆"}
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    0: " ", _UP | _DOWN: "│", _LEFT | _RIGHT: "─",
    _UP | _LEFT: "╯", _UP | _RIGHT: "╰", _DOWN | _LEFT: "╮", _DOWN | _RIGHT: "╭",
    _UP | _DOWN | _LEFT: "┤", _UP | _DOWN | _RIGHT: "├", _UP | _LEFT | _RIGHT: "┴", _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip
_ASCII = str.maketrans("○●◆│─╯╰╮╭┤├┴┬┼·…", "o*#|-'`..+++++-~")


@dataclass(frozen=True)
class Row:
    """One line of the drawing: the lines beside it, and its node; None of a line that only connects."""

    lanes: str
    node: NodeIR | None = None


def draw_text(
    ir: PipelineIR, *, tasks: Mapping[str, str] | None = None, width: int | None = None, ascii_only: bool = False
) -> str:
    """Return the pipeline as text. ``tasks`` (node id → task id) adds a column, ``width`` cuts longer lines."""
    rows = lay_out_rows(ir)
    lanes = max((len(row.lanes) for row in rows), default=0)
    ids = max((len(row.node.id) for row in rows if row.node), default=0)
    kinds = max((len(name_kind(row.node)) for row in rows if row.node), default=0)
    names = max(map(len, (tasks or {}).values()), default=0)
    lines = [ir.id, f"  {describe_pipeline(ir)}", ""]
    for row in rows:
        line = f"  {row.lanes:<{lanes}}"
        if row.node:
            line += f" {row.node.id:<{ids}}  {name_kind(row.node):<{kinds}}"
            if tasks:
                line += f"  {tasks.get(row.node.id, ''):<{names}}"
            line += f"  {describe_node(row.node)}"
        lines.append(line.rstrip())
    cut = [_cut(line, width) for line in lines] if width else lines
    text = "\n".join(cut)
    return text.translate(_ASCII) if ascii_only else text


def lay_out_rows(ir: PipelineIR) -> list[Row]:
    """Return the lines of the drawing, each node below its inputs and near them."""
    left = Counter(input_id for node in ir.node_list for input_id in node.input_ids)
    lanes: list[str | None] = []
    rows: list[Row] = []
    ended_in: int | None = None
    for node in _by_depth(ir):
        from_lanes = [lanes.index(input_id) for input_id in node.input_ids]
        left.subtract(node.input_ids)
        ending = {lane for lane in from_lanes if not left[lanes[lane] or ""]}
        lane = min(ending) if ending else lanes.index(None) if None in lanes else len(lanes)
        if lane == len(lanes):
            lanes.append(None)
        if from_lanes and from_lanes != [lane]:
            rows.append(Row(_connect(lanes, from_lanes, ending, lane)))
        elif not from_lanes and ended_in == lane:
            # What begins here does not follow from what ended in the line above.
            rows.append(Row("".join("│ " if alive else "  " for alive in lanes).rstrip()))
        for other in ending:
            lanes[other] = None
        lanes[lane] = node.id
        rows.append(
            Row(
                " ".join(
                    _GLYPHS[node.type] if at == lane else "│" if alive else " " for at, alive in enumerate(lanes)
                ).rstrip(),
                node,
            )
        )
        ended_in = None
        if not left[node.id]:
            lanes[lane], ended_in = None, lane
            while lanes and lanes[-1] is None:
                lanes.pop()
    return rows


def _by_depth(ir: PipelineIR) -> list[NodeIR]:
    """Return the nodes, each after its inputs and as near to them as can be: from each end back to its sources."""
    read = {input_id for node in ir.node_list for input_id in node.input_ids}
    placed: dict[str, NodeIR] = {}
    waiting = [node_id for node_id in reversed(ir.order) if node_id not in read]
    while waiting:
        node = ir.nodes[waiting[-1]]
        missing = [input_id for input_id in node.input_ids if input_id not in placed]
        if missing:
            waiting.extend(reversed(missing))
        else:
            placed.setdefault(waiting.pop(), node)
    return list(placed.values())


def _connect(lanes: list[str | None], inputs: list[int], ending: set[int], target: int) -> str:
    """Return the line that leads the lanes of the inputs into the lane of the node below."""
    directions = [_UP | _DOWN if alive else 0 for alive in lanes]
    directions[target] |= _DOWN
    for lane in set(inputs) - {target}:
        directions[lane] |= _RIGHT if lane < target else _LEFT
        directions[target] |= _LEFT if lane < target else _RIGHT
        if lane in ending:
            directions[lane] &= ~_DOWN
    low, high = min(*inputs, target), max(*inputs, target)
    line = ""
    for at, direction in enumerate(directions):
        through = low < at < high
        if through and at in inputs:
            direction |= _LEFT | _RIGHT
        # A lane that has no part in it is crossed, not met.
        line += _LINES[direction] if direction or not through else "─"
        line += "─" if low <= at < high else " "
    return line.rstrip()


def _cut(line: str, width: int) -> str:
    columns = 0
    for at, character in enumerate(line):
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns > width:
            return line[: max(0, at - 1)].rstrip() + "…"
    return line
