"""Pipelines, their versions, and the releases that made a version the current one of an environment."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from aiflow_service.database.tables.metadata import ID, METADATA

documents = Table(
    "documents",
    METADATA,
    Column("team_id", BigInteger, ForeignKey("teams.id"), primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""Definitions and plans by the SHA-256 of their text, once in each team, however many versions hold them."""

pipelines = Table(
    "pipelines",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("project_id", BigInteger, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("project_id", "name"),
    Index("ix_pipelines_team_id", "team_id"),
)

versions = Table(
    "versions",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("pipeline_id", BigInteger, ForeignKey("pipelines.id"), nullable=False),
    Column("environment", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("ir_digest", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    UniqueConstraint("pipeline_id", "plan_digest", "ir_digest"),
    Index("ix_versions_pipeline_id_version", "pipeline_id", "version"),
)
"""``version`` and ``definition`` are the fingerprints that the plan states. A plan is made for one environment, so the
same version is one row in each."""

releases = Table(
    "releases",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("project_id", BigInteger, ForeignKey("projects.id"), nullable=False),
    Column("environment", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("project_version", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("message", Text),
    Column("commit", Text),
    Column("is_dirty", SmallInteger),
    Column("recorded_at", BigInteger, nullable=False),
    UniqueConstraint("project_id", "environment", "key"),
    Index("ix_releases_order", "project_id", "environment", "at", "number", "key"),
)
"""``key`` tells a release from all others; their order is that of ``at``, ``number`` and ``key``. ``is_dirty``: whether
the folder differed from the commit; null where there was no repository."""

pipeline_releases = Table(
    "pipeline_releases",
    METADATA,
    Column("pipeline_id", BigInteger, ForeignKey("pipelines.id"), primary_key=True),
    Column("release_id", BigInteger, ForeignKey("releases.id"), primary_key=True),
    Column("version_id", BigInteger, ForeignKey("versions.id")),
    Index("ix_pipeline_releases_release_id", "release_id"),
    sqlite_with_rowid=False,
)
"""What became of a pipeline in a release: a row only where that was something; without a version it was removed."""
