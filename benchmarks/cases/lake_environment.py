"""Pipelines that feed each other, the last one changed, in a fresh development environment over production's tables."""

from __future__ import annotations

from pathlib import Path

from measure import DATA, Command, Row, aiflow, run, set_aside

PIPELINES = 20
DAY = "2026-11-20"
ROWS = 200_000

_SETTINGS = """lock = "aiflow.toml"

[environments.prod]
lake = "production"

[environments.dev]
reads_from = "prod"
"""
_PIPELINE = """
import polars as pl

from aiflow_sdk import pipeline, sink, source


def change(numbers: pl.LazyFrame) -> pl.LazyFrame:
    return numbers.with_columns(pl.col("n") + {by})


@pipeline(id="step_{number}", schedule="@daily", owner="bench")
def step(p):
    numbers = p.read(source.onelake(id="numbers", table="{source}", partitions={{"dt": "{{{{ ds }}}}"}}))
    changed = numbers.transform(id="changed", engine="python", fn="pipelines.step_{number}:change")
    p.write(changed, sink.onelake(id="out", table="mart.step_{number}", partition_by=["dt"]))
"""


def lake_environment() -> list[Row]:
    """The rival makes all tables anew in an environment that reads only what production was given."""
    folder = _project()
    _all(folder, "prod")
    _write(folder, PIPELINES, by=100)
    production = _bytes(folder / "production")
    ours, ran = _all(folder, "dev")
    written = _bytes(folder / ".aiflow/lake")
    own = _bytes(folder / f".aiflow/lake/mart/step_{PIPELINES}")
    ledger = _bytes(folder / ".aiflow/lake/_ledger") + _bytes(folder / ".aiflow/lake/_generations")
    copied = written - own - ledger - _bytes(folder / ".aiflow/lake/_locks")
    assert _bytes(folder / "production") == production
    theirs, made = _all(folder, "dev", "--force")
    return [
        Row("environment", f"{ours:.1f} s", f"{theirs:.1f} s", ours / theirs, "stated", None),
        Row("  pipelines run", str(ran), str(made), ran / made, "1 of them", ran == 1),
        Row("  bytes copied", str(copied), str(production), copied / production, "0", copied == 0),
    ]


def _all(folder: Path, environment: str, *options: str) -> tuple[float, int]:
    """Backfill one day of every pipeline; return the seconds, and how many of them had to run."""
    seconds, before = 0.0, _runs(folder)
    for number in range(1, PIPELINES + 1):
        dates = ("--from", DAY, "--to", DAY, "--env", environment)
        seconds += run(Command(aiflow("backfill", f"step_{number}", *dates, *options), folder)).seconds
    return seconds, _runs(folder) - before


def _runs(folder: Path) -> int:
    return len(list(folder.glob(".aiflow/runs/*")))


def _write(folder: Path, number: int, by: int) -> None:
    source = "raw.numbers" if number == 1 else f"mart.step_{number - 1}"
    (folder / f"pipelines/step_{number}.py").write_text(_PIPELINE.format(number=number, source=source, by=by))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _project() -> Path:
    import polars as pl

    folder = DATA / "lake_environment"
    set_aside(folder)
    (folder / "pipelines").mkdir(parents=True)
    (folder / "pipelines/__init__.py").touch()
    (folder / "aiflow.toml").write_text(_SETTINGS)
    frame = pl.DataFrame({"n": range(ROWS)}).with_columns(dt=pl.lit(DAY))
    frame.write_delta(str(folder / "production/raw/numbers"), delta_write_options={"partition_by": ["dt"]})
    for number in range(1, PIPELINES + 1):
        _write(folder, number, by=number)
    return folder
