"""Generations: integers that grow with each execution of a pipeline in an environment.

A small file counts them. It is a memory of this folder alone: a fresh clone begins anew, and so what the sinks know of
earlier generations counts too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiflow_sdk.local.store import HOME, make_home
from aiflow_sdk.stores import folder_name, writing

_DIGITS = 20


def next_generation(project: str | Path, run: Mapping[str, Any], *, known: int = 0) -> int:
    """Take the next generation for the pipeline of ``run``: above all that were taken here, and above ``known``.

    Raises ``StoreError`` where the counter cannot be written.
    """
    home = Path(project) / HOME
    path = home.joinpath("generations", *(folder_name(run[name]) for name in ("environment", "project", "pipeline_id")))
    with writing(path):
        make_home(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            text = os.pread(handle, _DIGITS, 0)
            generation = max(int(text) if text.isdigit() else 0, known) + 1
            # All digits in one write over the old ones: who is killed leaves the old number or the new one.
            os.pwrite(handle, b"%0*d\n" % (_DIGITS, generation), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
    return generation
