"""How one column comes of another, in the words of OpenLineage's column lineage, and what becomes of it on a way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

How: TypeAlias = Literal[
    "IDENTITY", "TRANSFORMATION", "AGGREGATION", "JOIN", "GROUP_BY", "FILTER", "SORT", "WINDOW", "CONDITIONAL"
]
"""The subtypes of openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json."""

DIRECT: tuple[How, ...] = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
"""Of these the value itself goes into the result, the later the more it is changed; of the others it only decides."""

Origin: TypeAlias = tuple[str, str, How]
"""Id of a node, its column, and how it is used."""
Origins: TypeAlias = frozenset[Origin]
NOTHING: Origins = frozenset()
UNKNOWN = ""
"""Stands for the node of an origin that is there and cannot be named; the column is then what the query says."""


def after(how: How, before: How) -> How:
    """Return how a column is used that was used as ``before`` says, and what came of it as ``how`` says."""
    for one in (how, before):
        if one not in DIRECT:
            return one
    return max(how, before, key=DIRECT.index)


def through(how: How, origins: Iterable[Origin]) -> set[Origin]:
    """Return the origins of what is used as ``how`` says and has these origins itself."""
    return {(node, column, after(how, before)) for node, column, before in origins}
