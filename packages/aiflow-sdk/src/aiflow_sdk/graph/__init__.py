"""A pipeline's graph, drawn: as text for terminals, as Mermaid, and as SVG and HTML for notebooks and pages."""

from aiflow_sdk.graph.mermaid import draw_mermaid
from aiflow_sdk.graph.picture import draw_html, draw_svg
from aiflow_sdk.graph.text import Row, draw_text, lay_out_rows
from aiflow_sdk.graph.words import describe_node, describe_pipeline, name_kind

__all__ = [
    "Row",
    "describe_node",
    "describe_pipeline",
    "draw_html",
    "draw_mermaid",
    "draw_svg",
    "draw_text",
    "lay_out_rows",
    "name_kind",
]
