"""Tells the end of runs that nobody is left to tell of."""

from __future__ import annotations

from pathlib import Path

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.lineage import end_open
from aiflow_sdk.local.store import RunFolder, newest_run_ids

NEWEST_RUNS = 1000
"""How many of the newest runs are looked at: of older ones what is to be told was told."""


def tell_ends(root: Path) -> None:
    """Spool the end of every run of a project that was killed together with whoever would have told of it.

    Here such a run stays ``interrupted``, and may be gone on with; who hears of its events would believe for ever that
    it is running. What cannot be read or written is left to the next one who looks.
    """
    for run_id in newest_run_ids(root, NEWEST_RUNS):
        folder = RunFolder(root, run_id)
        try:
            if folder.record().state == "interrupted":
                end_open(folder.events_path)
        except (AiflowError, OSError):
            continue
