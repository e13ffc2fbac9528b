"""Lineage: which job reads and writes which dataset, which column comes from which; written, and walked."""

from aiflow_service.lineage.columns import ColumnWalk, walk_columns
from aiflow_service.lineage.tables import Basis, Direction, TableWalk, walk_tables
from aiflow_service.lineage.writing import ColumnEdge, Edge, LineageMemory, write_column_edges, write_edges

__all__ = [
    "Basis",
    "ColumnEdge",
    "ColumnWalk",
    "Direction",
    "Edge",
    "LineageMemory",
    "TableWalk",
    "walk_columns",
    "walk_tables",
    "write_column_edges",
    "write_edges",
]
