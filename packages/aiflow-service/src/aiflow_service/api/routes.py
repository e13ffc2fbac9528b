"""The routes of every noun, in the order in which they are described."""

from __future__ import annotations

from aiflow_service.api import (
    audit,
    catalog,
    configuration,
    cost,
    events,
    grants,
    health,
    ingest,
    lineage,
    registry,
    runs,
    signin,
    teams,
    tokens,
)

ROUTERS = (
    health.router,
    signin.router,
    ingest.router,
    events.router,
    runs.router,
    catalog.router,
    lineage.router,
    registry.router,
    audit.router,
    configuration.router,
    cost.router,
    teams.router,
    grants.router,
    tokens.router,
)
"""A new noun's router is added here."""
