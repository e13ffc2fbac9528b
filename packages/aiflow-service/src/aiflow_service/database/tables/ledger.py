"""Of what the partitions of datasets were made: one row for each run of a team's pipeline."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text

from aiflow_service.database.tables.metadata import METADATA

makings = Table(
    "makings",
    METADATA,
    Column("run_uid", Text, primary_key=True),
    Column("team_id", BigInteger, ForeignKey("teams.id"), primary_key=True),
    Column("job_id", BigInteger, ForeignKey("jobs.id"), nullable=False),
    Column("fold", LargeBinary, nullable=False),
    Index("ix_makings_job_id", "job_id"),
)
"""``job_id`` is the pipeline's, whose edges say which datasets it reads and writes; ``fold`` is all that the run's
events have said, as :mod:`aiflow_service.ledger.fold` keeps it."""
