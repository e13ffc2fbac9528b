"""Connections and variables of a team in an environment: every version of each."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Table, Text, UniqueConstraint

from aiflow_service.database.tables.metadata import ID, METADATA

configuration_items = Table(
    "configuration_items",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("environment", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("value", LargeBinary),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("team_id", "environment", "kind", "name", "version"),
)
"""``kind``: ``connection`` or ``variable``. ``value`` is JSON that refers to secrets and holds none; null: that
version removed it. A row never changes; the one of the greatest version counts."""
