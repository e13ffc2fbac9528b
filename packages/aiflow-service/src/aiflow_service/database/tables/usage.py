"""What attempts of tasks used: the facts that costs are computed from."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, SmallInteger, Table, Text

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

billed_units = Table(
    "billed_units",
    METADATA,
    Column("run_id", BigInteger, ForeignKey("usage.run_id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("cluster", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("amount", Float, nullable=False),
    Column("estimated", SmallInteger, nullable=False),
)
"""What clusters billed for attempts, each in units of its own. ``estimated``: 1 where the cluster did not settle it."""
