"""The audit: who did what. Rows are only ever added; triggers of the migration refuse everything else."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from aiflow_service.database.tables.metadata import ID, METADATA

audit = Table(
    "audit",
    METADATA,
    Column("seq", ID, primary_key=True, autoincrement=False),
    Column("moment", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object_name", Text, nullable=False),
    Column("team_id", BigInteger),
    Column("team", Text),
    Column("environment", Text),
    Column("result", Text, nullable=False),
    Column("origin", Text),
    Column("trace_id", Text),
    Column("details", Text, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_moment", "moment"),
    Index("ix_audit_team_id_seq", "team_id", "seq"),
    Index("ix_audit_actor_seq", "actor", "seq"),
    Index("ix_audit_action_seq", "action", "seq"),
    Index("ix_audit_object_seq", "object_kind", "object_name", "seq"),
)
"""Each field as :class:`aiflow_sdk.audit.AuditRow` has it. A row outlives its team, so ``team_id`` is no foreign key;
none: it is about the service itself."""

taken_entries = Table(
    "taken_entries",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("moment", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("ix_taken_entries_source_moment", "source", "moment"),
)
"""The entries of Airflows' event logs (``source``: an Airflow's address) that the audit has taken in, and its rows."""
