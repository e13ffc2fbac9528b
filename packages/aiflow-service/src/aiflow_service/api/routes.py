"""The routes of every noun, in the order in which they are described."""

from __future__ import annotations

from aiflow_service.api import catalog, events, grants, health, ingest, lineage, runs, signin, teams, tokens

ROUTERS = (
    health.router,
    signin.router,
    ingest.router,
    events.router,
    runs.router,
    catalog.router,
    lineage.router,
    teams.router,
    grants.router,
    tokens.router,
)
"""A new noun's router is added here."""
