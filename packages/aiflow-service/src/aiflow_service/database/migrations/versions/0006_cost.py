"""What attempts used, for costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "usage",
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=True),
        sa.Column("memory_gib_seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_usage_run_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_usage_team_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_team_id_ended_at", "usage", ["team_id", "ended_at"], unique=False)
    op.create_index("ix_usage_ended_at", "usage", ["ended_at"], unique=False)


def downgrade() -> None:
    """Remove the table; what was used still stands in the runs."""
    op.drop_table("usage")
