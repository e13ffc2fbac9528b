"""Teams, and the projects that belong to them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text, UniqueConstraint

from aiflow_service.database.tables.metadata import ID, METADATA

DEFAULT_TEAM_ID = 1
"""The team of all that nobody has claimed; the first migration makes it."""

teams = Table(
    "teams",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("team_id", "name"),
)
