"""Runs: what their events say, put together; stored, listed and told."""

from aiflow_service.runs.fold import RunFold
from aiflow_service.runs.reading import (
    RunFilter,
    SeveralTeams,
    changed_since,
    find_run,
    list_runs,
    newest_change,
    team_of_run,
)
from aiflow_service.runs.settling import end_events
from aiflow_service.runs.writing import RunPart, merge_runs

__all__ = [
    "RunFilter",
    "RunFold",
    "RunPart",
    "SeveralTeams",
    "changed_since",
    "end_events",
    "find_run",
    "list_runs",
    "merge_runs",
    "newest_change",
    "team_of_run",
]
