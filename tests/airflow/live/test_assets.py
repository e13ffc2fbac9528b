"""Pipelines start each other by what they write: seven days a week's, and again when a day was made again."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project

DAYS = [f"2026-03-{day:02}" for day in range(2, 9)]
WEEK = "2026-03-02"
PIPELINES = """
from aiflow_sdk import dataset, pipeline, sink, source, window

@pipeline(id="daily", schedule=None, partition="day", max_active_runs=4)
def daily(p):
    raw = p.read(source.onelake(id="raw", table="raw.clicks", partitions={"dt": window.same()}))
    clicks = raw.transform(id="clicks", engine="python", fn="etl:daily")
    p.write(clicks, sink.onelake(id="out", table="TABLE.daily", partition_by=["dt"]))

@pipeline(id="weekly", schedule=dataset("TABLE.daily"), partition="week")
def weekly(p):
    days = p.read(source.onelake(id="days", table="TABLE.daily", partitions={"dt": window.covering(grain="day")},
                                 complete="all", restated="rerun"))
    weeks = days.transform(id="weeks", engine="python", fn="etl:weekly")
    p.write(weeks, sink.onelake(id="out", table="TABLE.weekly", partition_by=["week"]))
"""
CODE = """
import polars as pl

def daily(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.group_by("page").agg(pl.col("clicks").sum())

def weekly(days: pl.DataFrame, context) -> pl.DataFrame:
    clicks, number = pl.col("clicks").sum(), pl.len().alias("days")
    return days.group_by("page").agg(clicks, number, pl.lit(context.ds).first().alias("week"))
"""


@pytest.fixture
def web(project: Project) -> Project:
    """Two pipelines on tables of the test's own: an asset is one for all projects of an environment."""
    project.write("pipelines/clicks.py", PIPELINES.replace("TABLE", project.name))
    project.write("etl.py", CODE)
    clicks = pl.DataFrame([{"page": "home", "clicks": 2, "dt": day} for day in DAYS])
    (project.lakes[0] / "raw" / "clicks").mkdir(parents=True)
    clicks.write_delta(project.lakes[0] / "raw" / "clicks", delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    return project


def weeks(project: Project) -> list[dict]:
    return pl.read_delta(str(project.lakes[0] / project.name / "weekly")).select("page", "clicks", "days").to_dicts()


def up(project: Project, airflow: LiveAirflow) -> tuple[str, str]:
    dag_ids = f"{project.name}.daily", f"{project.name}.weekly"
    for dag_id in dag_ids:
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
    return dag_ids


def test_a_week_is_made_when_its_days_are_and_again_when_one_is(web: Project, airflow: LiveAirflow):
    daily, weekly = up(web, airflow)
    *most, last = DAYS
    runs = [airflow.trigger(daily, day) for day in most]
    for run in runs:
        airflow.await_run(daily, run)
    assert airflow.runs(weekly) == []
    airflow.await_run(daily, airflow.trigger(daily, last))
    (made,) = airflow.until(lambda: airflow.runs(weekly), "the week's run")
    assert (made["partition_key"], made["run_type"]) == (WEEK, "asset_triggered")
    airflow.await_run(weekly, made["dag_run_id"])
    assert weeks(web) == [{"page": "home", "clicks": 14, "days": 7}]

    (event,) = airflow.call("GET", "assets/events", source_dag_id=weekly)["asset_events"]
    told = event["extra"]
    assert (event["partition_key"], told["rows"], told["table_version"]) == (WEEK, 1, 0)
    assert told["bytes"] > 0

    clicks = pl.DataFrame({"page": ["home"], "clicks": [100], "dt": [DAYS[5]]})
    options = {"predicate": f"dt = '{DAYS[5]}'"}
    clicks.write_delta(web.lakes[0] / "raw" / "clicks", mode="overwrite", delta_write_options=options)
    airflow.await_run(daily, airflow.trigger(daily, DAYS[5]))
    both = airflow.until(lambda: found if len(found := airflow.runs(weekly)) == 2 else None, "the second run")
    airflow.await_run(weekly, both[1]["dag_run_id"])
    assert weeks(web) == [{"page": "home", "clicks": 14 - 2 + 100, "days": 7}]


def test_a_day_made_again_before_its_week_was_made_waits_for_the_others(web: Project, airflow: LiveAirflow):
    daily, weekly = up(web, airflow)
    first, *others = DAYS
    for _ in range(2):
        airflow.await_run(daily, airflow.trigger(daily, first))
    (started,) = airflow.until(lambda: airflow.runs(weekly), "the run that waits")
    airflow.until(lambda: airflow.task(weekly, started["dag_run_id"], "weeks")["state"] == "deferred", "its wait")
    rows = pl.DataFrame([{"page": "home", "clicks": 2, "dt": day} for day in others])
    rows.write_delta(web.lakes[0] / web.name / "daily", mode="append")
    airflow.await_run(weekly, started["dag_run_id"])
    assert weeks(web) == [{"page": "home", "clicks": 14, "days": 7}]


def test_a_table_without_partitions_starts_its_readers_each_time_it_is_made(project: Project, airflow: LiveAirflow):
    project.write(
        "pipelines/whole.py",
        f"""
from aiflow_sdk import dataset, pipeline, sink, source

@pipeline(id="made", schedule=None)
def made(p):
    raw = p.read(source.onelake(id="raw", table="raw.clicks"))
    p.write(raw, sink.onelake(id="out", table="{project.name}.whole"))

@pipeline(id="reads", schedule=dataset("{project.name}.whole"))
def reads(p):
    whole = p.read(source.onelake(id="whole", table="{project.name}.whole"))
    p.write(whole, sink.onelake(id="out", table="{project.name}.copy"))
""",
    )
    (project.lakes[0] / "raw" / "clicks").mkdir(parents=True)
    pl.DataFrame({"page": ["home"]}).write_delta(project.lakes[0] / "raw" / "clicks")
    project.deploy()
    made, reads = f"{project.name}.made", f"{project.name}.reads"
    for dag_id in (made, reads):
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
    for _ in range(2):
        before = len(airflow.runs(reads))
        airflow.await_run(made, airflow.trigger(made))
        found = airflow.until(partial(runs_beyond, airflow, reads, before), "its reader")
        airflow.await_run(reads, found[-1]["dag_run_id"])


def runs_beyond(airflow: LiveAirflow, dag_id: str, number: int) -> list[dict]:
    found = airflow.runs(dag_id)
    return found if len(found) > number else []
