"""Teams' members, claims, grants and tokens, and PostgreSQL's row-level security."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aiflow_service.database.protection import install_protection, remove_protection

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables, and protect what belongs to teams."""
    op.create_table(
        "principals",
        _number("id"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principals")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_principals_issuer_subject")),
    )
    op.create_table(
        "memberships",
        _number("id"),
        sa.Column("principal_id", sa.BigInteger(), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_memberships_principal_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_memberships_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
        sa.UniqueConstraint(
            "principal_id", "team_id", "source", name=op.f("uq_memberships_principal_id_team_id_source")
        ),
    )
    op.create_index("ix_memberships_team_id", "memberships", ["team_id"], unique=False)
    op.create_index(
        "uq_memberships_everywhere",
        "memberships",
        ["principal_id", "source"],
        unique=True,
        postgresql_where=sa.text("team_id IS NULL"),
        sqlite_where=sa.text("team_id IS NULL"),
    )
    op.create_table(
        "claims",
        _number("id"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_claims_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
        sa.UniqueConstraint("kind", "name", name=op.f("uq_claims_kind_name")),
    )
    op.create_table(
        "grants",
        _number("id"),
        sa.Column("from_team_id", sa.BigInteger(), nullable=False),
        sa.Column("to_team_id", sa.BigInteger(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_prefix", sa.SmallInteger(), nullable=False),
        sa.Column("writes", sa.SmallInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["from_team_id"], ["teams.id"], name=op.f("fk_grants_from_team_id")),
        sa.ForeignKeyConstraint(["to_team_id"], ["teams.id"], name=op.f("fk_grants_to_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index("ix_grants_from_team_id", "grants", ["from_team_id"], unique=False)
    op.create_index("ix_grants_to_team_id", "grants", ["to_team_id"], unique=False)
    op.create_table(
        "tokens",
        _number("id"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.BigInteger(), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.SmallInteger(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("maker_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_tokens_principal_id")),
        sa.ForeignKeyConstraint(["maker_id"], ["tokens.id"], name=op.f("fk_tokens_maker_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_tokens_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    op.create_index("ix_tokens_principal_id", "tokens", ["principal_id"], unique=False)
    op.create_index("ix_tokens_maker_id", "tokens", ["maker_id"], unique=False)
    op.create_index("ix_tokens_team_id", "tokens", ["team_id"], unique=False)
    install_protection(op.get_bind())


def downgrade() -> None:
    """Remove the tables and the protection."""
    remove_protection(op.get_bind())
    for name in ("tokens", "grants", "claims", "memberships", "principals"):
        op.drop_table(name)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False)
