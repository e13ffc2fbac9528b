"""One run of a pipeline against the bare script that does the same."""

from __future__ import annotations

import shutil
from pathlib import Path

from measure import DATA, Command, Row, aiflow, compare, python, run, set_aside, tpch

HERE = Path(__file__).parents[1]


def _project(name: str, scale: int, *tables: str) -> Path:
    """Lay the project and its lake; return its folder."""
    import polars as pl

    folder = DATA / name
    set_aside(folder / ".aiflow" / "runs")
    shutil.copytree(HERE / "projects" / name, folder, dirs_exist_ok=True)
    files = tpch(scale, *tables)
    for table in tables:
        target = folder / ".aiflow" / "lake" / "raw" / table
        if not (target / "_delta_log").exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            pl.scan_parquet(files / f"{table}.parquet").collect(engine="streaming").write_delta(str(target))
    return folder


def _without_cache(folder: Path) -> None:
    set_aside(folder / ".aiflow" / "cache")


def small_job() -> list[Row]:
    """Scan → group → derive → write over SF1 orders, discovery cached."""
    folder = _project("small_job", 1, "orders")
    return [compare("small_job", Command(aiflow("run", "spend"), folder), _polars(folder), 2, times=9)]


def small_job_cold() -> list[Row]:
    """The same, with nothing cached."""
    folder = _project("small_job", 1, "orders")
    ours = Command(aiflow("run", "spend"), folder, before=lambda: _without_cache(folder))
    return [compare("small_job_cold", ours, _polars(folder), None, times=9)]


def _polars(folder: Path) -> Command:
    return Command(python(HERE / "rivals" / "small_job.py"), folder)


def spark_join() -> list[Row]:
    """lineitem ⋈ orders, grouped and written, on the embedded Spark."""
    folder = _project("spark_join", 1, "orders", "lineitem")
    rival = Command(python(HERE / "rivals" / "spark_join.py"), folder)
    return [compare("spark_join", Command(aiflow("run", "revenue"), folder), rival, 1.3)]


def memory() -> list[Row]:
    """SF10 lineitem through a lazy python transform: peak memory of the process that runs it."""
    folder = _project("memory", 10, "lineitem")
    peak = run(Command(aiflow("run", "discounted"), folder)).megabytes
    set_aside(folder / ".aiflow" / "lake" / "mart")
    return [Row("memory", f"{peak / 1024:.2f} GB", "4.00 GB", peak / 4096, "≤ 1", peak <= 4096)]
