"""The tables, a module for each noun.

Moments are microseconds since 1970; see :mod:`aiflow_service.database.moments`.
"""

from aiflow_service.database.tables.access import claims, grants, memberships, principals, tokens
from aiflow_service.database.tables.catalog import (
    columns,
    dataset_names,
    datasets,
    jobs,
    namespaces,
)
from aiflow_service.database.tables.events import events, refusals
from aiflow_service.database.tables.lineage import column_edges, edges
from aiflow_service.database.tables.metadata import METADATA, counters
from aiflow_service.database.tables.runs import runs
from aiflow_service.database.tables.teams import DEFAULT_TEAM_ID, projects, teams

__all__ = [
    "DEFAULT_TEAM_ID",
    "METADATA",
    "claims",
    "column_edges",
    "columns",
    "counters",
    "dataset_names",
    "datasets",
    "edges",
    "events",
    "grants",
    "jobs",
    "memberships",
    "namespaces",
    "principals",
    "projects",
    "refusals",
    "runs",
    "teams",
    "tokens",
]
