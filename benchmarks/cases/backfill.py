"""Ninety days at once against ninety runs."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from measure import DATA, Command, Row, aiflow, run, set_aside

FIRST = date(2013, 1, 1)
DAYS = 90
SAMPLED = 9

PIPELINE = """
import polars as pl
from aiflow_sdk import pipeline, sink, source


def count(flights: pl.LazyFrame) -> pl.LazyFrame:
    return flights.group_by("carrier").agg(pl.len().alias("flights"))


@pipeline(id="daily", schedule="0 3 * * *", owner="bench")
def daily(p):
    flights = p.read(source.onelake(id="flights", table="raw.flights", partitions={"dt": "{{ ds }}"}))
    counted = flights.transform(id="counted", engine="python", fn="pipelines.daily:count")
    p.write(counted, sink.onelake(id="out", table="mart.daily", partition_by=["dt"]))
"""


def backfill() -> list[Row]:
    """Nine of the ninety runs are done one by one and stand for all."""
    folder = _project()

    def forget() -> None:
        for name in ("runs", "lake/_ledger", "lake/mart"):
            set_aside(folder / ".aiflow" / name)

    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    run(Command(aiflow("run", "daily", "--date", days[0].isoformat()), folder))
    forget()
    sampled = [
        run(Command(aiflow("run", "daily", "--date", day.isoformat()), folder)).seconds
        for day in days[:: DAYS // SAMPLED]
    ]
    separate = sum(sampled) * DAYS / len(sampled)
    forget()
    dates = ("--from", days[0].isoformat(), "--to", days[-1].isoformat())
    together = run(Command(aiflow("backfill", "daily", *dates), folder)).seconds
    ratio = separate / together
    return [Row("backfill", f"{together:.1f} s", f"{separate:.1f} s", ratio, "≥ 8", ratio >= 8)]


def _project() -> Path:
    import polars as pl

    folder = DATA / "backfill"
    set_aside(folder)
    (folder / "pipelines").mkdir(parents=True)
    (folder / "pipelines" / "__init__.py").write_text("")
    (folder / "pipelines" / "daily.py").write_text(PIPELINE)
    target = folder / ".aiflow" / "lake" / "raw" / "flights"
    target.parent.mkdir(parents=True)
    carriers = ["UA", "AA", "B6", "DL"]
    pl.DataFrame(
        [
            {"dt": (FIRST + timedelta(days=day)).isoformat(), "carrier": carriers[flight % 4], "flight": flight}
            for day in range(DAYS)
            for flight in range(500)
        ]
    ).write_delta(str(target), delta_write_options={"partition_by": ["dt"]})
    return folder
