"""Who may do what: principals, their roles in teams, which names a team claims, grants of datasets, tokens."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from aiflow_service.database.tables.metadata import ID, METADATA

principals = Table(
    "principals",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger),
    UniqueConstraint("issuer", "subject"),
)
"""Whoever acts: a ``user`` whom an issuer vouches for, or a ``service`` account of ours (then ``issuer`` is empty and
``subject`` is its team and name)."""

memberships = Table(
    "memberships",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("principal_id", BigInteger, ForeignKey("principals.id"), nullable=False),
    Column("team_id", BigInteger, ForeignKey("teams.id")),
    Column("role", SmallInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    UniqueConstraint("principal_id", "team_id", "source"),
    Index("ix_memberships_team_id", "team_id"),
    Index(
        "uq_memberships_everywhere",
        "principal_id",
        "source",
        unique=True,
        postgresql_where=text("team_id IS NULL"),
        sqlite_where=text("team_id IS NULL"),
    ),
)
"""``team_id`` null: in every team. ``source``: ``given`` by somebody here, or ``groups`` that the issuer told."""

claims = Table(
    "claims",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("kind", "name"),
)
"""Which team a ``project`` (its name) or a ``namespace`` (the beginning of its name) belongs to."""

grants = Table(
    "grants",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("from_team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("to_team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("namespace", Text),
    Column("name", Text, nullable=False),
    Column("is_prefix", SmallInteger, nullable=False),
    Column("writes", SmallInteger, nullable=False),
    Column("until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", BigInteger),
    Index("ix_grants_to_team_id", "to_team_id"),
    Index("ix_grants_from_team_id", "from_team_id"),
)
"""What one team lets another do with its datasets. ``namespace`` null: in whichever; ``writes`` 1: read and write."""

tokens = Table(
    "tokens",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("principal_id", BigInteger, ForeignKey("principals.id"), nullable=False),
    Column("team_id", BigInteger, ForeignKey("teams.id")),
    Column("role", SmallInteger),
    Column("environment", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("used_at", BigInteger),
    Column("maker_id", BigInteger, ForeignKey("tokens.id")),
    Index("ix_tokens_team_id", "team_id"),
    Index("ix_tokens_principal_id", "principal_id"),
    Index("ix_tokens_maker_id", "maker_id"),
)
"""``digest``: SHA-256 of the secret, which is stored nowhere. ``kind``: ``machine``, or ``session`` of a browser.

``team_id`` and ``role`` narrow what the principal may do; null narrows nothing. ``maker_id``: the machine token with
which it was made, null where somebody who had signed in made it; it ends with that one."""
