"""The partition ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table. What earlier runs made is unknown to it until their events are replayed or they run again."""
    op.create_table(
        "makings",
        sa.Column("run_uid", sa.Text(), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fold", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_makings_job_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_makings_team_id")),
        sa.PrimaryKeyConstraint("run_uid", name=op.f("pk_makings")),
    )
    op.create_index("ix_makings_job_id", "makings", ["job_id"], unique=False)


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("makings")
