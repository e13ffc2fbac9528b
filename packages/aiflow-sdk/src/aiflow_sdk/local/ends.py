"""Tells the end of runs that nobody is left to tell of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.lineage import end_open
from aiflow_sdk.local.store import RunFolder, newest_run_ids

NEWEST_RUNS = 1000
"""How many of the newest runs are looked at: of older ones what is to be told was told."""
_NOTHING: Mapping[str, int] = {}


def tell_ends(root: Path, looked_at: Mapping[str, int] = _NOTHING) -> Mapping[str, int]:
    """Spool the end of every run of a project that was killed together with whoever would have told of it.

    Here such a run stays ``interrupted``, and may be gone on with; who hears of its events would believe for ever that
    it is running. What cannot be read or written is left to the next one who looks. Returns run id → size of its spool,
    of the runs that need no second look while nothing is added: whoever looks again says so by ``looked_at``.
    """
    try:
        run_ids = newest_run_ids(root, NEWEST_RUNS)
    except OSError:
        return looked_at
    seen: dict[str, int] = {}
    for run_id in run_ids:
        folder = RunFolder(root, run_id)
        try:
            size = folder.events_path.stat().st_size
            if looked_at.get(run_id) != size:
                # Nobody else tells of it, or goes on with it, between what is read here and what is told.
                with folder.held() as is_held:
                    if not is_held:
                        continue
                    if folder.record().state == "running":
                        end_open(folder.events_path)
                    size = folder.events_path.stat().st_size
            seen[run_id] = size
        except (AiflowError, OSError):
            continue
    return seen
