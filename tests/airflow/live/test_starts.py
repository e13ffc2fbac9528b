"""Runs of a time zone of its own, caught up, by hand, with params, and cleared after a change of the code.

That examples make what local runs make, however runs start, is tried by ``test_examples``.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project

ZONE = "America/New_York"
PIPELINE = f"""
from aiflow_sdk import pipeline, resources, sink, source

@pipeline(id="revenue", schedule="0 3 * * *", owner="team_shop", tags=["shop"], timezone="{ZONE}", start_date="START",
          catchup=True, retry_delay_minutes=0.02, params={{"least": 2.0}})
def revenue(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    paid = orders.transform(id="paid", engine="python", fn="etl:paid", least="{{{{ params.least }}}}", fuse=False)
    total = paid.transform(id="total", engine="python", fn="etl:total", fuse=False)
    p.write(total, sink.onelake(id="revenue", table="mart.revenue", partition_by=["dt"]))
"""
CODE = """
import polars as pl

def paid(orders: pl.DataFrame, least, context) -> pl.DataFrame:
    print("paid of", context.ds, context.data_interval_start.isoformat(), context.data_interval_end.isoformat())
    return orders.drop("dt").filter(pl.col("amount") >= float(least))

def total(paid: pl.DataFrame, context) -> pl.DataFrame:
    return paid.group_by("product").agg(pl.col("amount").sum(), pl.len().alias("orders"))
"""


def today() -> date:
    return datetime.now(ZoneInfo(ZONE)).date()


def days(first: int, last: int) -> list[str]:
    """Return days, counted back from today."""
    return [(today() - timedelta(days=number)).isoformat() for number in range(first, last - 1, -1)]


def rows(lake: Path, day: str | None = None) -> list[dict]:
    if not (lake / "mart" / "revenue").exists():
        return []
    frame = pl.read_delta(str(lake / "mart" / "revenue"))
    frame = frame.filter(pl.col("dt").cast(pl.String) == day) if day else frame
    return sorted(frame.to_dicts(), key=lambda row: (str(row["dt"]), row["product"]))


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("pipelines/revenue.py", PIPELINE.replace("START", days(3, 3)[0]))
    project.write("etl.py", CODE)
    orders = pl.DataFrame(
        [
            {"product": product, "amount": float(number), "dt": day}
            for day in days(9, 0)
            for product in ("apple", "pear")
            for number in range(1, 5 + int(day[-1]))
        ]
    )
    for lake in project.lakes:
        (lake / "raw" / "orders").mkdir(parents=True)
        orders.write_delta(lake / "raw" / "orders", delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    return project


def dag_of(project: Project) -> str:
    return f"{project.name}.revenue"


def assert_as_alone(project: Project, *made: str) -> None:
    """Assert that Airflow's runs made the partitions that local runs make, and no other."""
    in_airflow, alone = project.lakes
    for day in made:
        if not rows(alone, day):
            project.run_alone("revenue", day)
    assert {str(row["dt"]) for row in rows(in_airflow)} == set(made)
    assert rows(in_airflow) == [row for row in rows(alone) if str(row["dt"]) in made]


def test_caught_up_by_hand_and_cleared_it_makes_what_a_local_run_makes(shop: Project, airflow: LiveAirflow):
    dag_id = dag_of(shop)
    dag = airflow.await_dag(dag_id)
    assert (dag["owners"], [tag["name"] for tag in dag["tags"]]) == (["team_shop"], ["shop"])

    # By cron, from the first day that start_date allows.
    airflow.unpause(dag_id)
    due = days(3, 1) if datetime.now(ZoneInfo(ZONE)).hour >= 3 else days(3, 2)
    scheduled = airflow.until(lambda: found if len(found := airflow.runs(dag_id)) >= len(due) else None, "runs")
    for run in scheduled:
        airflow.await_run(dag_id, run["dag_run_id"])
    assert sorted(run["partition_key"] for run in airflow.runs(dag_id)) == due
    assert_as_alone(shop, *due)
    log = airflow.task_log(dag_id, scheduled[0]["dag_run_id"], "paid")
    zone = ZoneInfo(ZONE)
    start, end = (
        datetime.combine(date.fromisoformat(due[0]) + timedelta(days=n), datetime.min.time(), zone) for n in (0, 1)
    )
    assert f"paid of {due[0]} {start.isoformat()} {end.isoformat()}" in log

    # By hand: a day, and none.
    by_hand = airflow.trigger(dag_id, days(5, 5)[0])
    airflow.await_run(dag_id, by_hand)
    assert_as_alone(shop, *days(5, 5), *due)
    latest = airflow.trigger(dag_id)
    airflow.await_run(dag_id, latest)
    assert_as_alone(shop, *days(5, 5), *days(3, 1))

    # A clear replaces what the earlier execution wrote, by the code that is current then; of a part, too.
    shop.write(
        "etl.py", (shop.root / "etl.py").read_text().replace('pl.col("amount").sum()', 'pl.col("amount").sum() * 10')
    )
    before = airflow.version_of(dag_id)
    shop.deploy()
    airflow.until(lambda: airflow.version_of(dag_id) > before, "the DAG's new version")
    airflow.clear(dag_id, by_hand, "total")
    airflow.await_run(dag_id, by_hand)
    cleared = airflow.run(dag_id, by_hand)
    assert cleared["state"] == "success"
    ten, one = rows(shop.lakes[0], days(5, 5)[0]), rows(shop.lakes[1], days(5, 5)[0])
    assert [row["amount"] for row in ten] == [10 * row["amount"] for row in one]
    assert "execution 2" in airflow.task_log(dag_id, by_hand, "total")


def test_params_given_by_hand_reach_the_function(shop: Project, airflow: LiveAirflow):
    dag_id = dag_of(shop)
    airflow.await_dag(dag_id)
    airflow.unpause(dag_id)
    (day,) = days(5, 5)
    run = airflow.trigger(dag_id, day, {"least": 4.0})
    airflow.await_run(dag_id, run)
    (amount,) = {row["amount"] for row in rows(shop.lakes[0], day)}
    assert amount == sum(range(4, 5 + int(day[-1])))
