"""Which entries of Airflows' event logs the audit has taken in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "taken_entries",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("moment", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "number", name=op.f("pk_taken_entries")),
    )
    op.create_index("ix_taken_entries_source_moment", "taken_entries", ["source", "moment"], unique=False)


def downgrade() -> None:
    """Remove the table; what was taken in stays in the audit."""
    op.drop_table("taken_entries")
