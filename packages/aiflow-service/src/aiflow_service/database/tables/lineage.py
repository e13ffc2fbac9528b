"""Who reads and writes what, as seen and as declared, and which column comes from which."""

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

declared_edges = Table(
    "declared_edges",
    METADATA,
    Column("job_id", BigInteger, ForeignKey("jobs.id"), primary_key=True),
    Column("is_write", SmallInteger, primary_key=True),
    Column("dataset_id", BigInteger, ForeignKey("datasets.id"), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger),
    Index("ix_declared_edges_dataset", "dataset_id", "is_write", "job_id"),
    sqlite_with_rowid=False,
)
"""What the releases of a pipeline say that it reads and writes: ``since`` one made it so, ``until`` another ended it
(null: it holds)."""

declared_jobs = Table(
    "declared_jobs",
    METADATA,
    Column("job_id", BigInteger, ForeignKey("jobs.id"), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger),
    Column("knows_reads", SmallInteger, nullable=False),
    Column("knows_writes", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""When a pipeline was deployed. ``knows_reads`` 0: a name of what it reads is decided by each run (a template), so that
what is seen beside the declared edges need not be undeclared; ``knows_writes`` likewise."""

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
