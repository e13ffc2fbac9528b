"""The routes of every noun, in the order in which they are described."""

from __future__ import annotations

from aiflow_service.api import (
    audit,
    catalog,
    configuration,
    cost,
    events,
    health,
    ingest,
    lineage,
    registry,
    runs,
)

ROUTERS = (
    health.router,
    ingest.router,
    events.router,
    runs.router,
    catalog.router,
    lineage.router,
    registry.router,
    audit.router,
    configuration.router,
    cost.router,
)
"""A new noun's router is added here."""
