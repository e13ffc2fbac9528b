"""Pipelines, versions and releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "documents",
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_documents_team_id")),
        sa.PrimaryKeyConstraint("team_id", "digest", name=op.f("pk_documents")),
    )
    op.create_table(
        "pipelines",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_pipelines_project_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_pipelines_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_pipelines_project_id_name")),
    )
    op.create_index("ix_pipelines_team_id", "pipelines", ["team_id"], unique=False)
    op.create_table(
        "versions",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("ir_digest", sa.Text(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name=op.f("fk_versions_pipeline_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_versions_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint(
            "pipeline_id", "plan_digest", "ir_digest", name=op.f("uq_versions_pipeline_id_plan_digest_ir_digest")
        ),
    )
    op.create_index("ix_versions_pipeline_id_version", "versions", ["pipeline_id", "version"], unique=False)
    op.create_table(
        "releases",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("project_version", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=True),
        sa.Column("is_dirty", sa.SmallInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_releases_project_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_releases_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("project_id", "environment", "key", name=op.f("uq_releases_project_id_environment_key")),
    )
    op.create_index("ix_releases_order", "releases", ["project_id", "environment", "at", "number", "key"], unique=False)
    op.create_table(
        "pipeline_releases",
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("release_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name=op.f("fk_pipeline_releases_pipeline_id")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_pipeline_releases_release_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_pipeline_releases_version_id")),
        sa.PrimaryKeyConstraint("pipeline_id", "release_id", name=op.f("pk_pipeline_releases")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_pipeline_releases_release_id", "pipeline_releases", ["release_id"], unique=False)


def downgrade() -> None:
    """Remove the tables."""
    for name in ("pipeline_releases", "releases", "versions", "pipelines", "documents"):
        op.drop_table(name)
