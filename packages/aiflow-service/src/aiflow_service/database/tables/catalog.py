"""Namespaces, jobs, datasets under all their names, and columns."""

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

namespaces = Table(
    "namespaces",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
)

jobs = Table(
    "jobs",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("namespace_id", BigInteger, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("project_id", BigInteger, ForeignKey("projects.id")),
    Column("environment", Text),
    Column("facts", LargeBinary, nullable=False, server_default=""),
    UniqueConstraint("team_id", "namespace_id", "name"),
    Index("ix_jobs_project_id", "project_id"),
)
"""``facts``: JSON, the newest of each job facet that is read, with the moment that it is of."""

datasets = Table(
    "datasets",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("namespace_id", BigInteger, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("merged_into", BigInteger, ForeignKey("datasets.id")),
    Column("schema_time", BigInteger),
    Column("schema_digest", Text),
    Column("facts", LargeBinary, nullable=False, server_default=""),
    Column("is_owned", SmallInteger, nullable=False, server_default="1"),
    Index("ix_datasets_namespace_id_name", "namespace_id", "name"),
    Index("ix_datasets_merged_into", "merged_into"),
)
"""``merged_into``: the dataset that this one turned out to be; a row that has it is nobody's neighbour any more.

``is_owned`` 0: it was only read until now, by the team first, which alone sees it; whoever writes it will own it."""

dataset_names = Table(
    "dataset_names",
    METADATA,
    Column("namespace_id", BigInteger, ForeignKey("namespaces.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("dataset_id", BigInteger, ForeignKey("datasets.id"), nullable=False),
    Index("ix_dataset_names_dataset_id", "dataset_id"),
    sqlite_with_rowid=False,
)
"""Every name that a dataset is known by, its first one included."""

columns = Table(
    "columns",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("dataset_id", BigInteger, ForeignKey("datasets.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("ordinal", Integer),
    Column("type", Text),
    Column("description", Text),
    UniqueConstraint("dataset_id", "name"),
)
"""``ordinal``: from 0, in the dataset's newest schema; null where that has no such column (any more)."""
