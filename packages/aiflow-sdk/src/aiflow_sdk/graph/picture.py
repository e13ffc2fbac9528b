"""The graph as a picture: SVG for any page, HTML around it for notebooks. Nothing is loaded from elsewhere."""

from __future__ import annotations

import unicodedata
from html import escape

from aiflow_sdk.graph.layers import Placed, place_nodes
from aiflow_sdk.graph.words import describe_node, describe_pipeline, name_kind
from aiflow_sdk.ir import NodeIR, PipelineIR

_MARGIN, _GAP, _HEIGHT, _PITCH = 12.0, 56.0, 50.0, 66.0
_CHARACTER, _SMALL = 7.3, 6.1
_MOST_CHARACTERS = 48
# Fill, line and text of each type; their own background, so that light and dark pages show them alike.
_COLOURS = {
    "source": ("#e6f4f1", "#0f766e", "#12312d"),
    "transform": ("#eef0fb", "#4f46e5", "#1e1b4b"),
    "sink": ("#fdf3e1", "#b45309", "#451a03"),
}
_ROUNDING = {"source": 25, "transform": 5, "sink": 12}
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def draw_svg(ir: PipelineIR) -> str:
    """Return the pipeline as one SVG element, from its sources on the left to its sinks on the right."""
    layers = place_nodes(ir)
    widths = [max((_width(ir.nodes[at.id]) for at in layer if not at.passes), default=0.0) for layer in layers]
    lefts = [_MARGIN + sum(widths[:number]) + number * _GAP for number in range(len(layers))]
    height = 2 * _MARGIN + max((at.row for layer in layers for at in layer), default=0.0) * _PITCH + _HEIGHT
    width = (lefts[-1] + widths[-1] if layers else 0.0) + _MARGIN
    spots = {at.id: (lefts[number], widths[number], at) for number, layer in enumerate(layers) for at in layer}
    wide, high = f"{width:.0f}", f"{height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
        f' role="img" aria-label="{escape(f"graph of pipeline {ir.id}")}" font-family="{escape(_FONT)}">'
    )
    parts = [
        head,
        f"<title>{escape(ir.id)}</title>",
    ]
    for number, layer in enumerate(layers[1:], 1):
        parts.extend(_edge(spots[above], spots[at.id], lefts[number]) for at in layer for above in at.above)
    parts.extend(_box(ir.nodes[at.id], left, width, _middle(at)) for left, width, at in spots.values() if not at.passes)
    return "".join([*parts, "</svg>"])


def draw_html(ir: PipelineIR) -> str:
    """Return the picture with the pipeline's id and schedule above it."""
    return (
        '<div style="overflow-x:auto">'
        f'<div style="font:13px system-ui,sans-serif;margin:4px 12px"><b>{escape(ir.id)}</b>'
        f' <span style="opacity:.7">{escape(describe_pipeline(ir))}</span></div>{draw_svg(ir)}</div>'
    )


def _box(node: NodeIR, left: float, width: float, middle: float) -> str:
    fill, line, text = _COLOURS[node.type]
    top = middle - _HEIGHT / 2
    says = node.type if node.type == "transform" else f"{name_kind(node)} {node.type}"
    whole = f"{node.id}\n{name_kind(node)} {describe_node(node)}"
    return (
        f"<g><title>{escape(whole)}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT}" rx="{_ROUNDING[node.type]}"'
        f' fill="{fill}" stroke="{line}" stroke-width="1.2"><desc>{escape(says)}</desc></rect>'
        f'<text x="{left + width / 2:.1f}" y="{top + 21:.1f}" text-anchor="middle" font-size="12" font-weight="600"'
        f' fill="{text}">{escape(_short(node.id))}</text>'
        f'<text x="{left + width / 2:.1f}" y="{top + 38:.1f}" text-anchor="middle" font-size="10"'
        f' fill="{text}" fill-opacity=".8">{escape(_short(_detail(node)))}</text></g>'
    )


def _edge(above: tuple[float, float, Placed], below: tuple[float, float, Placed], left: float) -> str:
    start, end = above[0] + above[1], left
    from_y, to_y = _middle(above[2]), _middle(below[2])
    bend = (end - start) / 2
    path = (
        f"M{start:.1f},{from_y:.1f} C{start + bend:.1f},{from_y:.1f} {end - bend:.1f},{to_y:.1f} {end:.1f},{to_y:.1f}"
    )
    if below[2].passes:
        path += f" H{end + below[1]:.1f}"
    else:
        path += " m-6,-4 l6,4 l-6,4"
    return f'<path d="{path}" fill="none" stroke="#8a8f98" stroke-width="1.4"/>'


def _middle(at: Placed) -> float:
    return _MARGIN + at.row * _PITCH + _HEIGHT / 2


def _detail(node: NodeIR) -> str:
    return f"{name_kind(node)} {describe_node(node)}".strip()


def _width(node: NodeIR) -> float:
    return max(90.0, _CHARACTER * _columns(_short(node.id)), _SMALL * _columns(_short(_detail(node)))) + 26


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
