"""Generations: integers that grow with each execution of a pipeline in an environment.

Each is taken by creating the file that it names, which only one process can. A later home is the table's own log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiflow_sdk.local.store import HOME, make_home, writing


def next_generation(project: str | Path, run: Mapping[str, Any]) -> int:
    """Take the next generation for the pipeline of ``run``. Raises ``StoreError`` where no file can be made."""
    home = Path(project) / HOME
    folder = home / "generations" / run["environment"] / run["project"] / run["pipeline_id"]
    with writing(folder):
        make_home(home)
        folder.mkdir(parents=True, exist_ok=True)
        number = max((int(name) for name in os.listdir(folder) if name.isdigit()), default=0) + 1
        while True:
            try:
                os.close(os.open(folder / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            except FileExistsError:
                number += 1
            else:
                return number
