"""Events as they came, and what was refused."""

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

events = Table(
    "events",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("event_day", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("event_type", Text),
    Column("event_time", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("run_uid", Text),
    Column("job_id", BigInteger, ForeignKey("jobs.id")),
    Column("dataset_id", BigInteger, ForeignKey("datasets.id")),
    Column("size", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("event_day", "digest"),
    Index("ix_events_run_uid_id", "run_uid", "id"),
    Index("ix_events_job_id_id", "job_id", "id"),
    Index("ix_events_dataset_id_id", "dataset_id", "id"),
    Index("ix_events_event_time_id", "event_time", "id"),
)
"""``event_day``: days since 1970 of the event's own time, so that a repeated event meets itself. ``kind``: 0 of a run,
1 of a job, 2 of a dataset (then ``dataset_id``). ``size`` in bytes before compression (zstd) of ``body``."""

refusals = Table(
    "refusals",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("place", Text),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("is_whole", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("replayed_at", BigInteger),
)
"""``times``: senders repeat what was refused. ``is_whole`` 0: only the beginning of ``body`` was kept."""
