"""Runs begin every way on SQLite too; all other tests are on PostgreSQL, and ``test_examples`` does the same there.

This Airflow has its OpenLineage provider on, which tells a metadata service of all that it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project
from service_trial import Service, running_service, wait_until

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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A metadata service."""
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, f"sqlite:///{folder}/service.db") as running:
        yield running


@pytest.fixture(scope="module")
def on(
    airflow_settings: dict[str, str], service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveAirflow]:
    """An Airflow on SQLite, with the two settings that let its provider tell the service."""
    folder = tmp_path_factory.mktemp("sqlite")
    provider = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": service.address}),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow",
    }
    live = LiveAirflow(folder / "home", folder / "bundles", settings={**airflow_settings, **provider})
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


CHAIN = """
from aiflow_sdk import pipeline, sink, source

def made(p, table, target):
    rows = p.read(source.onelake(id="rows", table=table, partitions={"dt": p.vars["run_date"]}))
    p.write(rows.transform(id="work", fn="etl:work"), sink.onelake(id="out", table=target, partition_by=["dt"]))

@pipeline(id="first", schedule=None, partition="day", retries=1)
def first(p):
    made(p, "raw.rows", "chain.first")

@pipeline(id="second", schedule=None, partition="day")
def second(p):
    made(p, "chain.first", "chain.second")
"""
WORK = """
import pathlib, time
import polars as pl

def work(rows: pl.DataFrame) -> pl.DataFrame:
    if pathlib.Path("HANG").exists():
        time.sleep(600)
    return rows.with_columns(pl.col("n") * FACTOR)
"""
BY_HAND = """
from airflow.sdk import DAG, Asset, task

with DAG("by_hand", schedule=None):

    @task(inlets=[Asset("file://here/data/orders.csv")], outlets=[Asset("file://here/data/report.csv")])
    def report():
        print("done")

    report()
"""


def test_a_service_knows_what_airflow_runs_and_repairs_by_it(on: LiveAirflow, service: Service, tmp_path: Path):
    project = Project(tmp_path / "project", on, "chain")
    environment = f"[environments.{on.environment}]"
    settings = project.root / "aiflow.toml"
    told = f'{environment}\nairflow = "{on.url}"\nservice = "{service.address}"'
    settings.write_text(settings.read_text().replace(environment, told))
    work = WORK.replace("HANG", str(tmp_path / "hang"))
    project.write("pipelines/chain.py", CHAIN)
    project.write("etl.py", work.replace("FACTOR", "2"))
    raw = project.lakes[0] / "raw" / "rows"
    raw.mkdir(parents=True)
    pl.DataFrame({"n": range(6), "dt": [day(ago) for ago in range(6)]}).write_delta(
        raw, delta_write_options={"partition_by": ["dt"]}
    )
    (on.dags / "by_hand.py").write_text(BY_HAND)
    project.deploy()
    first, second = "chain.first", "chain.second"
    for dag_id in (first, second, "by_hand"):
        on.await_dag(dag_id)
        on.unpause(dag_id)
    by_hand = on.trigger("by_hand")
    for dag_id in (first, second):
        runs = [on.trigger(dag_id, day(ago)) for ago in (2, 3)]
        for run in runs:
            on.await_run(dag_id, run)
    on.await_run("by_hand", by_hand)

    # What Airflow's provider tells alone is there, in the lineage too.
    wait_until(lambda: service.get("/api/v1/runs", pipeline="by_hand", state="succeeded")["items"])
    graph = service.get("/api/v1/lineage/tables", dataset="/data/report.csv", direction="up")
    assert {one["name"] for one in graph["datasets"]} >= {"/data/orders.csv"}, graph
    # A run of ours is one, though our runtime and the provider both tell of it.
    wait_until(lambda: len(service.get("/api/v1/runs", project="chain", state="succeeded")["items"]) == 4)
    assert service.get("/api/v1/runs", pipeline=first)["items"] == []
    run = service.get("/api/v1/runs", project="chain", pipeline="first")["items"][0]
    story = service.get(f"/api/v1/runs/{run['run_id']}")
    assert [(one["task_id"], one["state"]) for one in story["tasks"]] == [("work", "succeeded")]
    wait_until(lambda: len(service.get(f"/api/v1/runs/{run['run_id']}")["parts"]) == 2)
    parts = service.get(f"/api/v1/runs/{run['run_id']}")["parts"]
    assert {(one["job"]["namespace"], one["job"]["name"]) for one in parts} == {
        ("airflow", first),
        ("airflow", f"{first}.work"),
    }

    # The code has changed: what was made with the old one is made again, and what follows from it.
    project.write("etl.py", work.replace("FACTOR", "5"))
    versions = {dag_id: on.version_of(dag_id) for dag_id in (first, second)}
    project.deploy()
    on.until(lambda: all(on.version_of(name) > number for name, number in versions.items()), "the new versions")
    repair = ["repair", "chain.first", "--down", "--env", on.environment, "--on", "airflow"]
    planned = json.loads(project.aiflow("--json", *repair, "--dry-run"))
    assert [(one["pipeline"], one["partition"]) for one in planned] == [
        (pipeline, day(ago)) for pipeline in ("first", "second") for ago in (3, 2)
    ]
    last = json.loads(project.aiflow("--json", *repair).splitlines()[-1])
    assert (last["record"], last["made"], last["left"]) == ("repair-finished", 4, [])
    made = pl.read_delta(str(project.lakes[0] / "chain" / "second")).sort("n")
    assert made["n"].to_list() == [50, 75]

    # A run that is ended by hand tells nobody; Airflow is asked, once.
    (tmp_path / "hang").touch()
    ended = on.trigger(first, day(4))
    on.until(lambda: on.task(first, ended, "work")["state"] == "running", "the task")
    on.call("PATCH", f"dags/{first}/dagRuns/{ended}", {"state": "failed"})
    sync = ["--json", "sync", "--env", on.environment, "--airflow", "--airflow-log"]
    found = json.loads(project.aiflow(*sync))["airflow"]
    assert (found["refused"], found["log_entries"] > 5) == ([], True)
    # What other projects did in this Airflow before the service was there is told of too.
    settled = [service.get(f"/api/v1/runs/{one}") for one in found["runs"]]
    assert all(one["is_reconciled"] for one in settled)
    (story,) = (one for one in settled if ended in one["log_url"].replace("%3A", ":").replace("%2B", "+"))
    assert (story["state"], story["partition"]) == ("failed", day(4))
    assert json.loads(project.aiflow(*sync))["airflow"]["runs"] == []

    # Who did what in Airflow stands in the audit.
    rows = service.get("/api/v1/audit", action="airflow", object_name="chain/first", limit=100)["items"]
    assert {(one["actor"], one["action"]) for one in rows} >= {
        ("airflow:Anonymous", "airflow.patch_dag"),
        ("airflow:Anonymous", "airflow.trigger_dag_run"),
        ("airflow:Anonymous", "airflow.patch_dag_run"),
    }
    for dag_id in (first, second):
        on.pause(dag_id)
