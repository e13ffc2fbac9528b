"""The graph as Mermaid text, for Markdown files and pages: https://mermaid.js.org/syntax/flowchart.html."""

from __future__ import annotations

from collections.abc import Mapping

from aiflow_sdk.graph.words import describe_node, name_kind
from aiflow_sdk.ir import NodeIR, PipelineIR

_SHAPES = {"source": ("([", "])"), "transform": ("[", "]"), "sink": ("[(", ")]")}
_CLASSES = (
    "classDef source fill:#e6f4f1,stroke:#0f766e,color:#12312d",
    "classDef transform fill:#eef0fb,stroke:#4f46e5,color:#1e1b4b",
    "classDef sink fill:#fdf3e1,stroke:#b45309,color:#451a03",
)


def draw_mermaid(ir: PipelineIR, *, tasks: Mapping[str, str] | None = None) -> str:
    """Return the pipeline as a Mermaid flowchart; ``tasks`` (node id → task id) draws a box around each task."""
    names = {node_id: f"n{number}" for number, node_id in enumerate(ir.nodes)}
    by_task: dict[str | None, list[NodeIR]] = {None: []}
    for node in ir.nodes.values():
        by_task.setdefault((tasks or {}).get(node.id), []).append(node)
    lines = ["flowchart LR"]
    for number, (task, nodes) in enumerate(by_task.items()):
        indent = "  " if task is None else "    "
        if task is not None:
            lines.append(f'  subgraph t{number}["{escape(task)}"]')
        lines.extend(f"{indent}{names[node.id]}{_label(node)}:::{node.type}" for node in nodes)
        if task is not None:
            lines.append("  end")
    lines.extend(f"  {names[above]} --> {names[below]}" for above, below in ir.edges)
    lines.extend(f"  {line}" for line in _CLASSES)
    return "\n".join(lines) + "\n"


def _label(node: NodeIR) -> str:
    before, after = _SHAPES[node.type]
    detail = f"{name_kind(node)} {describe_node(node)}".strip()
    return f'{before}"{escape(node.id)}<br/>{escape(detail if len(detail) <= 60 else detail[:59] + "…")}"{after}'


def escape(text: str) -> str:
    """Return text as a label may hold it.

    Mermaid knows entities by number: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters.
    """
    return "".join(character if character not in '"#<>&`{}[]()|\\' else f"#{ord(character)};" for character in text)
