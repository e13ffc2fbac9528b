"""Indexes by which a team's runs are listed, whatever they are narrowed by, and those that changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_WHOLE = sa.text("parent_uid IS NULL")
_STORIES = {
    "ix_runs_team_state_started": ["team_id", "state", "started_at", "id"],
    "ix_runs_team_environment_started": ["team_id", "environment", "started_at", "id"],
    "ix_runs_project_started": ["project_id", "started_at", "id"],
}


def upgrade() -> None:
    """Make the indexes, in place of two."""
    for name, columns in _STORIES.items():
        op.create_index(name, "runs", columns, postgresql_where=_WHOLE, sqlite_where=_WHOLE)
    op.create_index("ix_runs_team_pipeline_started", "runs", ["team_id", "pipeline", "started_at", "id"])
    op.create_index("ix_runs_changed_id", "runs", ["changed", "id"])
    op.drop_index("ix_runs_pipeline_started", "runs")
    op.drop_index("ix_runs_changed", "runs")


def downgrade() -> None:
    """Take them back."""
    op.create_index("ix_runs_changed", "runs", ["changed"])
    op.create_index("ix_runs_pipeline_started", "runs", ["pipeline", "started_at", "id"])
    op.drop_index("ix_runs_changed_id", "runs")
    op.drop_index("ix_runs_team_pipeline_started", "runs")
    for name in reversed(_STORIES):
        op.drop_index(name, "runs")
