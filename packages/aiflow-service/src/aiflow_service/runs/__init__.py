"""Runs: what their events say, put together; stored, listed and told."""

from aiflow_service.runs.fold import RunFold
from aiflow_service.runs.reading import RunFilter, changed_since, find_run, list_runs, newest_change
from aiflow_service.runs.writing import RunPart, write_runs

__all__ = ["RunFilter", "RunFold", "RunPart", "changed_since", "find_run", "list_runs", "newest_change", "write_runs"]
