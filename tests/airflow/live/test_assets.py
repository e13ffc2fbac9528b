"""Pipelines start each other by what they write: an hour's, a day's, and again when an hour was made again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from aiflow_sdk.partitions import Partition
from airflow_trial import LiveAirflow, Project

ZONE = "America/New_York"
DAY = Partition("2026-03-08", "day", ZONE)
"""Its clocks are set forward: it has 23 hours."""
PIPELINES = f"""
from aiflow_sdk import dataset, pipeline, sink, source, window

@pipeline(id="hourly", schedule=None, partition="hour", timezone="{ZONE}", max_active_runs=4)
def hourly(p):
    raw = p.read(source.onelake(id="raw", table="raw.clicks", partitions={{"hour": window.same()}}))
    clicks = raw.transform(id="clicks", engine="python", fn="etl:hourly")
    p.write(clicks, sink.onelake(id="out", table="web.hourly", partition_by=["hour"]))

@pipeline(id="daily", schedule=dataset("web.hourly"), partition="day", timezone="{ZONE}")
def daily(p):
    hours = p.read(source.onelake(id="hours", table="web.hourly", partitions={{"hour": window.covering()}},
                                  complete="all", restated="rerun"))
    days = hours.transform(id="days", engine="python", fn="etl:daily")
    p.write(days, sink.onelake(id="out", table="web.daily", partition_by=["dt"]))
"""
CODE = """
import polars as pl

def hourly(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.group_by("page").agg(pl.col("clicks").sum())

def daily(hours: pl.DataFrame, context) -> pl.DataFrame:
    clicks, hours_of_day = pl.col("clicks").sum(), pl.len().alias("hours")
    return hours.group_by("page").agg(clicks, hours_of_day, pl.lit(context.ds).first().alias("dt"))
"""


def hours() -> list[str]:
    found, hour = [], Partition.containing(DAY.start, "hour", ZONE)
    while hour.start < DAY.end:
        found.append(hour.key)
        hour = hour.next()
    return found


@pytest.fixture
def web(project: Project) -> Project:
    project.write("pipelines/clicks.py", PIPELINES)
    project.write("etl.py", CODE)
    clicks = pl.DataFrame([{"page": "home", "clicks": 2, "hour": hour} for hour in hours()])
    (project.lakes[0] / "raw" / "clicks").mkdir(parents=True)
    clicks.write_delta(project.lakes[0] / "raw" / "clicks", delta_write_options={"partition_by": ["hour"]})
    project.deploy()
    return project


def days(lake: Path) -> list[dict]:
    return pl.read_delta(str(lake / "web" / "daily")).select("page", "clicks", "hours").to_dicts()


def test_a_day_is_made_when_all_its_hours_are_and_again_when_one_is_made_again(web: Project, airflow: LiveAirflow):
    hourly, daily = f"{web.name}.hourly", f"{web.name}.daily"
    for dag_id in (hourly, daily):
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
    *most, last = hours()
    assert len(most) == 22
    runs = [airflow.trigger(hourly, hour) for hour in most]
    for run in runs:
        airflow.await_run(hourly, run)
    assert airflow.runs(daily) == []
    airflow.await_run(hourly, airflow.trigger(hourly, last))
    (made,) = airflow.until(lambda: airflow.runs(daily), "the day's run", 90)
    assert (made["partition_key"], made["run_type"]) == (DAY.key, "asset_triggered")
    airflow.await_run(daily, made["dag_run_id"])
    assert days(web.lakes[0]) == [{"page": "home", "clicks": 46, "hours": 23}]

    events = airflow.call("GET", "assets/events", source_dag_id=daily)["asset_events"]
    told = events[0]["extra"]
    assert (events[0]["partition_key"], told["rows"], told["table_version"]) == (DAY.key, 1, 0)
    assert told["bytes"] > 0

    clicks = pl.DataFrame({"page": ["home"], "clicks": [100], "hour": [hours()[5]]})
    clicks.write_delta(
        web.lakes[0] / "raw" / "clicks",
        mode="overwrite",
        delta_write_options={"predicate": f"hour = '{hours()[5]}'"},
    )
    airflow.await_run(hourly, airflow.trigger(hourly, hours()[5]))
    both = airflow.until(lambda: found if len(found := airflow.runs(daily)) == 2 else None, "the day's second run", 90)
    airflow.await_run(daily, both[1]["dag_run_id"])
    assert days(web.lakes[0]) == [{"page": "home", "clicks": 46 - 2 + 100, "hours": 23}]


def test_an_hour_made_again_before_its_day_was_made_waits_for_the_others(web: Project, airflow: LiveAirflow):
    hourly, daily = f"{web.name}.hourly", f"{web.name}.daily"
    for dag_id in (hourly, daily):
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
    first, *others = hours()
    for _ in range(2):
        airflow.await_run(hourly, airflow.trigger(hourly, first))
    (started,) = airflow.until(lambda: airflow.runs(daily), "the run that waits", 90)
    airflow.until(lambda: airflow.task(daily, started["dag_run_id"], "days")["state"] == "deferred", "its wait", 90)
    hourly_rows = pl.DataFrame([{"page": "home", "clicks": 2, "hour": hour} for hour in others])
    hourly_rows.write_delta(web.lakes[0] / "web" / "hourly", mode="append")
    airflow.await_run(daily, started["dag_run_id"])
    assert days(web.lakes[0]) == [{"page": "home", "clicks": 46, "hours": 23}]


assert timedelta(hours=23) == DAY.end - DAY.start
