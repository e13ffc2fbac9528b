"""Events in months, on PostgreSQL, so that old ones are dropped and not deleted."""

from __future__ import annotations

from alembic import op

from aiflow_service.database.partitions import partition_events, unpartition_events

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Put events into months; SQLite has no such thing."""
    if op.get_bind().dialect.name == "postgresql":
        partition_events(op.get_bind())


def downgrade() -> None:
    """Put events into one table again; nothing is lost."""
    if op.get_bind().dialect.name == "postgresql":
        unpartition_events(op.get_bind())
