"""DAG files of one's own beside the bundle: pipelines that the file finds, and plans that former versions stored."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.plan import PLAN_VERSION, Plan
from airflow_trial import REPOSITORY, LiveAirflow, Project, watch_imports

FINDING = """
from aiflow_sdk.compiler import compile_pipeline_to_airflow_dag
from aiflow_sdk.discovery import discover_pipelines

for pipeline_ir in discover_pipelines("ROOT"):
    globals()[pipeline_ir.id] = compile_pipeline_to_airflow_dag(pipeline_ir)
"""
PIPELINES = """
from aiflow_sdk import pipeline, sink, source

def made(name):
    @pipeline(id=name, partition="day", params={"least": 2.0})
    def body(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_date"]}))
        paid = orders.transform(id="paid", fn="etl:paid", least="{{ params.least }}", fuse=False)
        total = paid.transform(id="total", engine="spark", fn="etl:total")
        p.write(total, sink.onelake(id="out", table=f"mart.{name}", partition_by=["dt"]))
    return body

first, second = made("first"), made("second")
"""
CODE = """
import polars as pl
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

def paid(orders: pl.DataFrame, least) -> pl.DataFrame:
    return orders.drop("dt").filter(pl.col("amount") >= float(least))

def total(paid: DataFrame) -> DataFrame:
    return paid.groupBy("product").agg(F.sum("amount").alias("amount"))
"""
DAY = "2026-11-20"
DOCUMENTS = REPOSITORY / "tests" / "golden" / "documents"
"""A folder a version: a project with the plan that this version made of it, its tables and the rows that it gives."""
STORED = """
from pathlib import Path

from aiflow_airflow.dag import dag_of_plan
from aiflow_airflow.supply import FolderSupply
from aiflow_sdk.plan import read_plan

for path in map(Path, FILES):
    plan = read_plan(path.read_bytes())
    globals()[path.stem] = dag_of_plan(plan, path.stem, FolderSupply(path.parent, Path("PYTHON"), plan))
"""


BY_HAND = """
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task

LOADED = Asset(name="ENVIRONMENT/PROJECT.raw", uri="x-aiflow://ENVIRONMENT/PROJECT.raw")
MADE = Asset(name="ENVIRONMENT/PROJECT.daily", uri="x-aiflow://ENVIRONMENT/PROJECT.daily")

with DAG("PROJECT_load", schedule=None):

    @task(outlets=[LOADED])
    def load(*, outlet_events):
        outlet_events[LOADED].add_partitions(["DAY"])

    load()

with DAG("PROJECT_report", schedule=PartitionedAssetTimetable(assets=MADE)):

    @task
    def report(*, dag_run, triggering_asset_events):
        (event,) = triggering_asset_events[MADE]
        print("report of", dag_run.partition_key, event.extra["rows"], "rows")

    report()
"""
BETWEEN = """
from aiflow_sdk import dataset, pipeline, sink, source

@pipeline(id="daily", schedule=dataset("PROJECT.raw"), partition="day")
def daily(p):
    raw = p.read(source.onelake(id="raw", table="PROJECT.raw", partitions={"dt": "{{ ds }}"}))
    p.write(raw, sink.onelake(id="out", table="PROJECT.daily", partition_by=["dt"]))
"""


@pytest.fixture
def dag_file(airflow: LiveAirflow) -> Iterator[Callable[[str, str], None]]:
    """A function that puts a file into the folder of DAG files; they go when the test does."""
    written: list[Path] = []

    def write(name: str, text: str) -> None:
        written.append(airflow.dags / name)
        written[-1].write_text(f'"""An airflow DAG file."""\n{text}')

    yield write
    for path in written:
        path.unlink()


def rows_of(lake: Path, table: str) -> list[dict[str, Any]]:
    return sorted(pl.read_delta(str(lake.joinpath(*table.split(".")))).to_dicts(), key=repr)


def test_a_dag_file_that_finds_pipelines_makes_the_rows_of_a_local_run(
    project: Project, airflow: LiveAirflow, dag_file: Callable[[str, str], None]
):
    settings = project.root / "aiflow.toml"
    default = settings.read_text().replace(f"[environments.{airflow.environment}]", "[environments.dev]")
    settings.write_text(f'python = "{sys.executable}"\n{default}')
    project.write("pipelines/found.py", PIPELINES)
    project.write("etl.py", CODE)
    orders = pl.DataFrame(
        [
            {"product": product, "amount": float(number), "dt": day}
            for day in ("2026-11-19", DAY)
            for product in ("apple", "pear")
            for number in range(1, 6)
        ]
    )
    for lake in project.lakes:
        (lake / "raw" / "orders").mkdir(parents=True)
        orders.write_delta(lake / "raw" / "orders", delta_write_options={"partition_by": ["dt"]})
    airflow.found_by_files.add(project.name)
    dag_file("found.py", FINDING.replace("ROOT", str(project.root)))
    runs = {}
    for pipeline in ("first", "second"):
        dag_id = dag_id_of(project.name, pipeline)
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
        runs[pipeline] = dag_id, airflow.trigger(dag_id, DAY)
    for pipeline, run in runs.items():
        airflow.await_run(*run)
        airflow.pause(run[0])
        project.run_alone(pipeline, DAY)
        table = f"mart.{pipeline}"
        here, there = ([row for row in rows_of(lake, table) if str(row["dt"]) == DAY] for lake in project.lakes)
        assert here == there != []
    assert airflow.check_imports() > 0


def test_dags_written_by_hand_start_ours_and_are_started_by_them(
    project: Project, airflow: LiveAirflow, dag_file: Callable[[str, str], None]
):
    def filled(text: str) -> str:
        return text.replace("PROJECT", project.name).replace("ENVIRONMENT", airflow.environment).replace("DAY", DAY)

    project.write("pipelines/between.py", filled(BETWEEN))
    rows = pl.DataFrame({"product": ["apple", "pear"], "dt": [DAY, DAY]})
    place = project.lakes[0] / project.name / "raw"
    place.mkdir(parents=True)
    rows.write_delta(place, delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    dag_file("by_hand.py", filled(BY_HAND))
    load, daily, report = f"{project.name}_load", dag_id_of(project.name, "daily"), f"{project.name}_report"
    for dag_id in (load, daily, report):
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
    airflow.await_run(load, airflow.trigger(load))
    for dag_id in (daily, report):
        (run,) = airflow.until(lambda: airflow.runs(dag_id), f"a run of {dag_id}")  # noqa: B023 called at once
        airflow.await_run(dag_id, run["dag_run_id"])
        assert run["partition_key"] == DAY
        airflow.pause(dag_id)
    assert f"report of {DAY} 2 rows" in airflow.task_log(report, run["dag_run_id"], "report")


def leave_out_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Return the plan as its version's first documents were, without the fields that came later with a default."""
    bare = Plan.model_validate({name: value for name, value in document.items() if name != "plan_version"}).to_dict()
    return {"plan_version": document["plan_version"], **bare}


def stored_plans() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return what a DAG is to be called → the folder and the plan, in each form that a version has written."""
    found = {}
    for folder in sorted(DOCUMENTS.iterdir()):
        document = json.loads((folder / "plan.json").read_text())
        found[f"stored_{folder.name}"] = folder, document
        if document["plan_version"] == PLAN_VERSION:
            found[f"bare_{folder.name}"] = folder, leave_out_defaults(document)
    return found


def lay(folder: Path, root: Path, airflow: LiveAirflow) -> None:
    """Copy the project of a former version, with its tables."""
    shutil.copytree(folder, root, ignore=shutil.ignore_patterns("__pycache__"))
    watch_imports(root, airflow.imports / root.name)
    with (root / "jobs.py").open("a") as file:
        file.write("\nimport who_imports\n")
    for name, rows in json.loads((root / "tables.json").read_text()).items():
        place = root.joinpath("lake", *name.split("."))
        place.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_delta(place, delta_write_options={"partition_by": ["dt"]})


def test_plans_of_former_versions_become_dags_and_run(
    airflow: LiveAirflow, tmp_path: Path, dag_file: Callable[[str, str], None]
):
    files = []
    for dag_id, (folder, document) in stored_plans().items():
        lay(folder, tmp_path / dag_id, airflow)
        files.append(tmp_path / dag_id / f"{dag_id}.json")
        files[-1].write_text(json.dumps(document))
    dag_file("stored.py", STORED.replace("FILES", repr(list(map(str, files)))).replace("PYTHON", sys.executable))
    runs = {}
    for file in files:
        airflow.await_dag(file.stem)
        runs[file] = airflow.trigger(file.stem, DAY)
        airflow.unpause(file.stem)
    for file, run_id in runs.items():
        airflow.await_run(file.stem, run_id)
        airflow.pause(file.stem)
        for name, rows in json.loads((file.parent / "rows.json").read_text()).items():
            place = file.parent.joinpath("lake", *name.replace("/", ".").split("."))
            is_table = (place / "_delta_log").exists()
            frame = pl.read_delta(str(place)) if is_table else pl.read_parquet(place / "**/*.parquet")
            assert sorted(frame.select(sorted(frame.columns)).to_dicts(), key=repr) == rows
