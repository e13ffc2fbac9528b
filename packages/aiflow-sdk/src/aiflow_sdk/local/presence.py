"""Whether a run is being done on this machine, wherever its folder lies, or lay."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

from aiflow_sdk.lineage.spooled import OPEN
from aiflow_sdk.local.documents import reading
from aiflow_sdk.local.ownership import LOCK
from aiflow_sdk.local.store import RunFolder

_GONE = " (deleted)"
"""How Linux ends the name of an open file that was removed."""


def is_done_here(root: Path, run_id: str) -> bool:
    """Tell whether a process of this machine does a run of a project, or an attempt of a task of it.

    Of runs in other folders, removed ones too, those are seen that a process of this user does (for the superuser:
    of anybody), where there is ``/proc`` (Linux). Raises ``DocumentError`` where the run's folder cannot be read.
    """
    folder = RunFolder(root, run_id)
    with reading(folder.path):
        if folder.is_owned():
            return True
    return any(_is_lock_of(run_id, link) for link in glob.iglob("/proc/*/fd/*"))


def _is_lock_of(run_id: str, link: str) -> bool:
    """Tell whether an open file is the lock of a run, or of an attempt of it, and this process has that lock."""
    with suppress(OSError):  # the process has ended, or is another user's
        path = Path(os.readlink(link).removesuffix(_GONE))
        if path.parent.name == run_id and (path.name == LOCK or path.suffix == OPEN):
            return "FLOCK" in Path(link.replace("/fd/", "/fdinfo/")).read_text()
    return False
