"""Who reads and writes what, and which column comes from which."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, SmallInteger, Table, Text

from aiflow_service.database.tables.metadata import METADATA

edges = Table(
    "edges",
    METADATA,
    Column("job_id", BigInteger, ForeignKey("jobs.id"), primary_key=True),
    Column("is_write", SmallInteger, primary_key=True),
    Column("dataset_id", BigInteger, ForeignKey("datasets.id"), primary_key=True),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Index("ix_edges_dataset", "dataset_id", "is_write", "job_id"),
    sqlite_with_rowid=False,
)
"""``is_write`` 0: the job reads the dataset; 1: it writes it. Seen: see :mod:`aiflow_service.lineage`."""

column_edges = Table(
    "column_edges",
    METADATA,
    Column("target_id", BigInteger, ForeignKey("columns.id"), primary_key=True),
    Column("source_id", BigInteger, ForeignKey("columns.id"), primary_key=True),
    Column("job_id", BigInteger, ForeignKey("jobs.id"), primary_key=True),
    Column("kind", Text, nullable=False, server_default=""),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Index("ix_column_edges_source", "source_id", "target_id"),
    Index("ix_column_edges_job", "job_id"),
    sqlite_with_rowid=False,
)
"""``kind``: what the job does with the value, as ``DIRECT/IDENTITY``; several are joined by commas."""
