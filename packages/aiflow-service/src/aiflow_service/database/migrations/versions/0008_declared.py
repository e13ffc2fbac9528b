"""What releases declare that pipelines read and write."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables; a pipeline's next release fills them."""
    op.create_table(
        "declared_edges",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("is_write", sa.SmallInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_declared_edges_job_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_declared_edges_dataset_id")),
        sa.PrimaryKeyConstraint("job_id", "is_write", "dataset_id", "since", name=op.f("pk_declared_edges")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_declared_edges_dataset", "declared_edges", ["dataset_id", "is_write", "job_id"], unique=False)
    op.create_table(
        "declared_jobs",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("knows_reads", sa.SmallInteger(), nullable=False),
        sa.Column("knows_writes", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_declared_jobs_job_id")),
        sa.PrimaryKeyConstraint("job_id", "since", name=op.f("pk_declared_jobs")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove the tables; what was declared still stands in the plans."""
    op.drop_table("declared_jobs")
    op.drop_table("declared_edges")
