"""Runs: of pipelines, of tasks' attempts, of anybody's jobs; one row for each run id and team that tells of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint, text

from aiflow_service.database.tables.metadata import ID, METADATA


def _of_stories(name: str, *columns: str) -> Index:
    """Return an index of what lists show: whole stories, runs that are no part of another."""
    whole = text("parent_uid IS NULL")
    return Index(name, *columns, "started_at", "id", postgresql_where=whole, sqlite_where=whole)


runs = Table(
    "runs",
    METADATA,
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("uid", Text, nullable=False),
    Column("team_id", BigInteger, ForeignKey("teams.id"), nullable=False),
    Column("job_id", BigInteger, ForeignKey("jobs.id"), nullable=False),
    Column("project_id", BigInteger, ForeignKey("projects.id")),
    Column("parent_uid", Text),
    Column("pipeline", Text, nullable=False),
    Column("environment", Text),
    Column("task_id", Text),
    Column("partition", Text),
    Column("cause", Text),
    Column("version", Text),
    Column("execution", Integer),
    Column("attempt", Integer),
    Column("state", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("error_code", Text),
    Column("trace_id", Text),
    Column("changed", BigInteger, nullable=False),
    Column("fold", LargeBinary, nullable=False),
    UniqueConstraint("uid", "team_id"),
    Index("ix_runs_parent_uid", "parent_uid"),
    Index("ix_runs_changed_id", "changed", "id"),
    Index("ix_runs_job_id_started", "job_id", "started_at", "id"),
    _of_stories("ix_runs_started"),
    _of_stories("ix_runs_team_started", "team_id"),
    _of_stories("ix_runs_team_state_started", "team_id", "state"),
    _of_stories("ix_runs_team_environment_started", "team_id", "environment"),
    _of_stories("ix_runs_project_started", "project_id"),
    Index("ix_runs_team_pipeline_started", "team_id", "pipeline", "started_at", "id"),
)
"""``fold`` is all that its events have said, as :mod:`aiflow_service.runs.fold` keeps it; the columns are read off it.

``changed`` is the number of the last event that touched the run: what a listener to live runs goes by.
"""
