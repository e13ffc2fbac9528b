"""Runs begin every way on SQLite too; all other tests are on PostgreSQL, and ``test_examples`` does the same there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project

PIPELINES = """
from aiflow_sdk import dataset, pipeline, sink, source

def doubled(p, table, target):
    rows = p.read(source.onelake(id="rows", table=table, partitions={"dt": "{{ ds }}"}))
    done = rows.transform(id="work", fn="etl:work", pipeline=p.vars["pipeline_id"])
    p.write(done, sink.onelake(id="out", table=target, partition_by=["dt"]))

@pipeline(id="clocked", schedule="@daily", retries=1, retry_delay_minutes=0.02)
def clocked(p):
    doubled(p, "raw.rows", "TABLE.clocked")

@pipeline(id="driven", schedule=dataset("TABLE.clocked"), partition="day")
def driven(p):
    doubled(p, "TABLE.clocked", "TABLE.driven")
"""
CODE = """
import pathlib
import polars as pl

def work(rows: pl.DataFrame, pipeline) -> pl.DataFrame:
    mark = pathlib.Path("FAIL")
    if mark.exists() and pipeline == "clocked":
        mark.unlink()
        raise RuntimeError("no luck this time")
    return rows.with_columns(pl.col("n") * 2)
"""


@pytest.fixture
def on(airflow: LiveAirflow, tmp_path: Path) -> Iterator[LiveAirflow]:
    """An Airflow on SQLite."""
    live = LiveAirflow(tmp_path / "home", tmp_path / "bundles", settings=airflow.settings)
    yield live
    live.stop()
    live.check_imports()


def day(ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


def begun(airflow: LiveAirflow, dag_id: str, kind: str, number: int) -> list[str]:
    found = [run["dag_run_id"] for run in airflow.runs(dag_id) if run["run_type"] == kind]
    return found if len(found) == number else []


def test_runs_begin_by_clock_by_input_by_hand_by_backfill_and_again(on: LiveAirflow, tmp_path: Path):
    project = Project(tmp_path / "project", on, "sqlite")
    project.write("pipelines/doubled.py", PIPELINES.replace("TABLE", project.name))
    project.write("etl.py", CODE.replace("FAIL", str(tmp_path / "fail")))
    raw = project.lakes[0] / "raw" / "rows"
    raw.mkdir(parents=True)
    numbers = pl.DataFrame({"n": range(6), "dt": [day(ago) for ago in range(6)]})
    numbers.write_delta(raw, delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    clocked, driven = f"{project.name}.clocked", f"{project.name}.driven"
    for dag_id in (driven, clocked):
        on.await_dag(dag_id)
        on.unpause(dag_id)
    moment = f"{day(3)}T00:00:00Z"
    on.call("POST", "backfills", {"dag_id": clocked, "from_date": moment, "to_date": moment})
    by_hand = on.trigger(clocked, day(2))
    runs: list[tuple[str, str]] = [(clocked, by_hand)]
    for dag_id, kind, number in ((clocked, "scheduled", 1), (clocked, "backfill", 1), (driven, "asset_triggered", 3)):
        found: Any = on.until(partial(begun, on, dag_id, kind, number), f"{number} runs of {dag_id}: {kind}", 300)
        runs += [(dag_id, run_id) for run_id in found]
    for run in runs:
        on.await_run(*run)
    (tmp_path / "fail").touch()
    on.clear(clocked, by_hand)
    on.await_run(clocked, by_hand)
    assert "execution 2, attempt 3" in on.task_log(clocked, by_hand, "work")
    on.pause(clocked)
    on.pause(driven)
    for table, factor in (("clocked", 2), ("driven", 4)):
        made = pl.read_delta(str(project.lakes[0] / project.name / table)).sort("dt", descending=True)
        assert made["dt"].cast(pl.String).to_list() == [day(1), day(2), day(3)]
        assert made["n"].to_list() == [factor, 2 * factor, 3 * factor]
