"""The tables, a module for each noun.

Moments are microseconds since 1970; see :mod:`aiflow_service.database.moments`.
"""

from aiflow_service.database.tables.access import claims, grants, memberships, principals, tokens
from aiflow_service.database.tables.audit import audit, taken_entries
from aiflow_service.database.tables.catalog import (
    columns,
    dataset_names,
    datasets,
    jobs,
    namespaces,
)
from aiflow_service.database.tables.configuration import configuration_items
from aiflow_service.database.tables.events import events, refusals
from aiflow_service.database.tables.ledger import makings
from aiflow_service.database.tables.lineage import column_edges, declared_edges, declared_jobs, edges
from aiflow_service.database.tables.metadata import METADATA, counters
from aiflow_service.database.tables.registry import documents, pipeline_releases, pipelines, releases, versions
from aiflow_service.database.tables.runs import runs
from aiflow_service.database.tables.teams import DEFAULT_TEAM_ID, projects, teams
from aiflow_service.database.tables.usage import billed_units, usage

__all__ = [
    "DEFAULT_TEAM_ID",
    "METADATA",
    "audit",
    "billed_units",
    "claims",
    "column_edges",
    "columns",
    "configuration_items",
    "counters",
    "dataset_names",
    "datasets",
    "declared_edges",
    "declared_jobs",
    "documents",
    "edges",
    "events",
    "grants",
    "jobs",
    "makings",
    "memberships",
    "namespaces",
    "pipeline_releases",
    "pipelines",
    "principals",
    "projects",
    "refusals",
    "releases",
    "runs",
    "taken_entries",
    "teams",
    "tokens",
    "usage",
    "versions",
]
