"""Which datasets were only read until now: their first reader sees them, and whoever writes them will own them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_TOUCHED = """
    EXISTS (
        SELECT 1 FROM {table} e JOIN jobs j ON j.id = e.job_id
        WHERE e.dataset_id = datasets.id AND e.is_write = 1 AND j.team_id = datasets.team_id
    )
"""
_CLAIMED = """
    COALESCE((
        SELECT c.team_id FROM claims c JOIN namespaces n ON n.id = datasets.namespace_id
        WHERE c.kind = 'namespace' AND substr(n.name, 1, length(c.name)) = c.name
        ORDER BY length(c.name) DESC LIMIT 1
    ), 0) = datasets.team_id
"""
"""The longest claim counts."""


def upgrade() -> None:
    """Make the column: a dataset is its team's which that one has written, or declared to write, or claimed."""
    op.add_column("datasets", sa.Column("is_owned", sa.SmallInteger(), nullable=False, server_default="1"))
    owned = [_TOUCHED.format(table="edges"), _TOUCHED.format(table="declared_edges"), _CLAIMED]
    op.get_bind().exec_driver_sql(f"UPDATE datasets SET is_owned = 0 WHERE NOT ({' OR '.join(owned)})")


def downgrade() -> None:
    """Take it back: whoever has a dataset owns it."""
    op.drop_column("datasets", "is_owned")
