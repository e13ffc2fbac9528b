"""What attempts of tasks used: the facts that costs are computed from."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Table, Text

from aiflow_service.database.tables.metadata import ID, METADATA

usage = Table(
    "usage",
    METADATA,
    Column("run_id", ID, ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("project", Text),
    Column("pipeline", Text, nullable=False),
    Column("environment", Text),
    Column("task_id", Text, nullable=False),
    Column("nodes", Text, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float),
    Column("memory_gib_seconds", Float),
    Index("ix_usage_team_id_ended_at", "team_id", "ended_at"),
    Index("ix_usage_ended_at", "ended_at"),
)
"""One row an attempt that has ended, whatever its events and however often they came. ``nodes``: the task's nodes,
joined by commas. A figure that nobody measured is NULL: it is estimated from ``seconds`` where a cost is asked for."""
