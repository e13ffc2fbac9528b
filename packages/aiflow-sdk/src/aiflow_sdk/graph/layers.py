"""Where each node stands in a picture: in which layer, and in which row of it.

After Sugiyama, Tagawa and Toda (1981): layers by the longest way, each long edge led through the layers between, the
order in a layer by the mean of its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from aiflow_sdk.ir import PipelineIR

_SWEEPS = 8


@dataclass
class Placed:
    """A node, or a place at which an edge passes through a layer."""

    id: str
    above: list[str] = field(default_factory=list)
    """What leads here, in the layer before."""
    below: list[str] = field(default_factory=list)
    passes: bool = False
    row: float = 0.0


def place_nodes(ir: PipelineIR) -> list[list[Placed]]:
    """Return the layers from left to right, in each what stands there from top to bottom, rows at least 1 apart."""
    layers = _layers(ir)
    if not layers:
        return []
    for sweep in range(_SWEEPS):
        _order(layers, downwards=sweep % 2 == 0)
    _settle_rows(layers)
    return layers


def _layers(ir: PipelineIR) -> list[list[Placed]]:
    level: dict[str, int] = {}
    for node in ir.nodes.values():
        level[node.id] = max((level[input_id] + 1 for input_id in node.input_ids), default=0)
    for node in ir.nodes.values():
        if not node.input_ids:
            # A source stands beside its first reader.
            readers = [level[below] for above, below in ir.edges if above == node.id]
            level[node.id] = min(readers) - 1 if readers else 0
    layers: list[list[Placed]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    placed = {node_id: Placed(node_id) for node_id in ir.nodes}
    for node_id, number in level.items():
        layers[number].append(placed[node_id])
    for above, below in ir.edges:
        last = placed[above]
        for number in range(level[above] + 1, level[below]):
            step = Placed(f"{above}→{below}@{number}", passes=True)
            layers[number].append(step)
            _join(last, step)
            last = step
        _join(last, placed[below])
    return layers


def _join(above: Placed, below: Placed) -> None:
    above.below.append(below.id)
    below.above.append(above.id)


def _order(layers: list[list[Placed]], *, downwards: bool) -> None:
    steps = list(pairwise(layers))
    for fixed, moved in steps if downwards else [(below, above) for above, below in reversed(steps)]:
        rank = {at.id: number for number, at in enumerate(fixed)}
        own = {at.id: number for number, at in enumerate(moved)}
        moved.sort(key=lambda at, r=rank, o=own: fmean([r[i] for i in _neighbours(at, downwards)] or [o[at.id]]))  # type: ignore[misc]


def _neighbours(at: Placed, downwards: bool) -> list[str]:
    return at.above if downwards else at.below


def _settle_rows(layers: list[list[Placed]]) -> None:
    """Give each its row: as near to the mean of its neighbours as those beside it allow."""
    rows = {at.id: at for layer in layers for at in layer}
    for layer in layers:
        for number, at in enumerate(layer):
            at.row = float(number)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            wanted = [fmean([rows[i].row for i in _neighbours(at, downwards)] or [at.row]) for at in layer]
            for at, row in zip(layer, _apart(wanted), strict=True):
                at.row = row
    top = min(at.row for at in rows.values())
    for at in rows.values():
        at.row -= top


def _apart(wanted: list[float]) -> list[float]:
    """Return rows at least 1 apart in the same order, nearest to the wanted ones (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for number, row in enumerate(wanted):
        pools.append((row - number, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, many), (high, more) = pools[-2], pools[-1]
            pools[-2:] = [((low * many + high * more) / (many + more), many + more)]
    flat = [mean for mean, many in pools for _ in range(many)]
    return [row + number for number, row in enumerate(flat)]
