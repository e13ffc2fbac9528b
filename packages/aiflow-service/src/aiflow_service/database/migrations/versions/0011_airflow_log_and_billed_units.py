"""Which entries of Airflows' event logs the audit has taken in; what clusters billed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aiflow_service.database.protection import protect_table

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "taken_entries",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("moment", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "number", name=op.f("pk_taken_entries")),
    )
    op.create_index("ix_taken_entries_source_moment", "taken_entries", ["source", "moment"], unique=False)
    op.create_table(
        "billed_units",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.Column("estimated", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["usage.run_id"], name=op.f("fk_billed_units_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "cluster", "unit", name=op.f("pk_billed_units")),
    )
    protect_table(op.get_bind(), "taken_entries", "false")
    mine = "EXISTS (SELECT 1 FROM usage u WHERE u.run_id = billed_units.run_id)"
    protect_table(op.get_bind(), "billed_units", mine)


def downgrade() -> None:
    """Remove the tables; what was taken in stays in the audit, and what was billed in the events."""
    op.drop_table("billed_units")
    op.drop_table("taken_entries")
