"""What the end-to-end tests share: the command line as a process, tables to begin with, and what is left behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

AIFLOW = [sys.executable, "-m", "aiflow_sdk.cli"]


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def aiflow(root: Path, *words: str, code: int | None = 0, **variables: str) -> Result:
    """Run a command in a project's folder; ``code`` is how it must end, if that is known."""
    done = subprocess.run(
        [*AIFLOW, *words],
        cwd=root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def lay(root: Path, table: str, rows: Any, by: str) -> None:
    """Add rows to a table of the project's lake, partitioned by a column."""
    place = root / ".aiflow/lake" / table
    place.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_delta(str(place), mode="append", delta_write_options={"partition_by": [by]})


def processes_in(folder: Path) -> list[str]:
    """The processes whose working directory is the folder, workers and what they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [command for command in found if command]  # of one that is just ending there is no command any more


def left_in(folder: Path, seconds: float = 10.0) -> list[str]:
    """Those of :func:`processes_in` that do not end meanwhile: one that was killed takes a moment to be gone."""
    deadline = time.monotonic() + seconds
    while (left := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
