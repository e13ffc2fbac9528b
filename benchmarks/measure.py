"""Runs commands as whole processes, in turn, and reads what the system says that they took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).parents[1]
DATA = ROOT / "build" / "benchmarks"


@dataclass(frozen=True)
class Command:
    """A command, where it runs, and what has to be done before each run."""

    arguments: Sequence[str | Path]
    folder: Path = ROOT
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Measured:
    """Wall seconds and peak megabytes (of the process and of the children that it waited for)."""

    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Row:
    """One line of the table: ours over the rival's."""

    name: str
    ours: str
    rival: str
    ratio: float
    bound: str
    holds: bool | None


def run(command: Command) -> Measured:
    """Run the command once; whatever it prints is shown only when it fails."""
    command.before()
    began = time.perf_counter()
    with subprocess.Popen(
        command.arguments, cwd=command.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command.arguments))} failed:\n{printed.decode(errors='replace')}")
    return Measured(seconds, usage.ru_maxrss / 1024)


def in_turn(ours: Command, rival: Command, *, times: int = 5) -> tuple[list[float], list[float]]:
    """Return the wall seconds of both commands, run in turn after one warm-up of each."""
    run(ours)
    run(rival)
    pairs = [(run(ours).seconds, run(rival).seconds) for _ in range(times)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def compare(name: str, ours: Command, rival: Command, bound: float | None, *, times: int = 5) -> Row:
    """Return the row of a comparison: the median of the pairs' ratios."""
    mine, theirs = in_turn(ours, rival, times=times)
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    return Row(
        name,
        f"{statistics.median(mine):.2f} s",
        f"{statistics.median(theirs):.2f} s",
        ratio,
        f"≤ {bound}" if bound else "stated",
        ratio <= bound if bound else None,
    )


ASIDE = DATA / "aside"


def set_aside(path: Path) -> None:
    """Put a file or folder out of the way, if it is there; run.py removes all of them when it ends.

    Removed at once it would falsify what is measured next: for half a minute ext4 passes by the inodes that were freed,
    one after the other, whenever a file is made.
    """
    if path.exists():
        ASIDE.mkdir(parents=True, exist_ok=True)
        path.rename(ASIDE / uuid4().hex)


def python(*arguments: str | Path) -> list[str | Path]:
    """Return a command of this environment's Python."""
    return [sys.executable, *arguments]


def aiflow(*arguments: str) -> list[str | Path]:
    """Return a command of this environment's ``aiflow``."""
    return [Path(sys.executable).parent / "aiflow", *arguments]


def tpch(scale: int, *tables: str) -> Path:
    """Return the folder with TPC-H tables as Parquet files, made if they are not there."""
    folder = DATA / f"tpch-{scale}"
    missing = [table for table in tables if not (folder / f"{table}.parquet").exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        tool = Path(sys.executable).parent / "tpchgen-cli"
        command: list[str | Path] = [
            tool,
            "parquet",
            "--scale-factor",
            str(scale),
            "--tables",
            ",".join(missing),
            "--output-dir",
            folder,
        ]
        subprocess.run(command, check=True, capture_output=True)
    return folder
