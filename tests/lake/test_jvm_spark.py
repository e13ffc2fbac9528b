"""Spark on the JVM reads, appends to and merges into what we wrote. Only where `make spark` has made .venv-spark."""

import datetime as dt
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-spark" / "bin" / "python"
GOLDEN = ROOT / "tests" / "golden" / "foreign_tables"
DAY = "2026-11-20"

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="make spark has not been run"),
    pytest.mark.timeout(600),
]


def spark(*steps: dict[str, Any]) -> list[Any]:
    done = subprocess.run(
        [PYTHON, ROOT / "scripts" / "foreign" / "steps.py"], input=json.dumps(steps), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


def run(generation: int = 1, day: str = DAY, pipeline: str = "x") -> Run:
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id=pipeline,
        partition_key=day,
        partition_grain="day",
        generation=generation,
    )


def write(environment: Environment, name: str, rows: list[dict[str, Any]], of: Run | None = None) -> None:
    sink = OneLakeSink.load({"table": f"raw.{name}", "partition_by": ["day"]}, environment)
    schema = {"id": pl.Int64, "text": pl.String, "day": pl.Date}
    sink.write(pl.DataFrame(rows, schema).to_arrow().to_reader(), Write("out", of or run(), time="day"))


def rows(environment: Environment, name: str) -> list[dict[str, Any]]:
    found = OneLakeSource.load({"table": f"raw.{name}"}, environment).to_polars(Scan()).sort("id").collect().to_dicts()
    return [{**row, "day": row["day"].isoformat()} for row in found]


def row(number: int, day: str = DAY) -> dict[str, Any]:
    return {"id": number, "text": f"n{number}", "day": dt.date.fromisoformat(day)}


def test_spark_reads_what_we_wrote_into_its_tables(environment):
    """Each table of the collection that we write to, after the write."""
    wanted = {}
    for archive in sorted(GOLDEN.glob("*.zip")):
        name, folder = archive.stem, Path(environment.lake_address, "raw", archive.stem)
        about = json.loads(archive.with_suffix(".json").read_text("utf-8"))
        if about["partition_by"] != ["day"] or set(about["types"]) != {"id", "text", "day"}:
            continue
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder)
        try:
            write(environment, name, [row(200)])
        except AiflowError:
            continue
        others = [one for one in about["rows"] if one["day"] != DAY]
        wanted[name] = [*others, {"id": 200, "text": "n200", "day": DAY}]
    assert len(wanted) >= 10
    folder = Path(environment.lake_address, "raw")
    found = spark(*({"rows": str(folder / name)} for name in wanted))
    assert dict(zip(wanted, found, strict=True)) == wanted


def test_changes_that_spark_tells_of_a_write_of_ours(environment):
    with zipfile.ZipFile(GOLDEN / "change_data_feed.zip") as files:
        files.extractall(Path(environment.lake_address, "raw", "t"))
    folder = Path(environment.lake_address, "raw", "t")
    before = DeltaTable(str(folder)).version()
    write(environment, "t", [row(200)])
    query = f"select id, _change_type kind from table_changes_by_path('{folder}', {before + 1}) order by id"
    (found,) = spark({"sql": query})
    assert found == [
        {"id": 1, "kind": "delete"},
        {"id": 3, "kind": "delete"},
        {"id": 200, "kind": "insert"},
    ]


def test_spark_skips_a_write_whose_token_delta_rs_wrote(tmp_path):
    table = str(tmp_path / "t")
    properties = CommitProperties(app_transactions=[Transaction("app", 5), Transaction("odd/ä 'x'", 7)])
    write_deltalake(table, pl.DataFrame({"id": [1]}), commit_properties=properties)
    steps = [("app", 5, 10), ("app", 4, 11), ("app", 6, 12), ("odd/ä 'x'", 7, 13), ("odd/ä 'x'", 8, 14), ("new", 1, 15)]
    *_, found = spark(
        *(
            {"append": table, "select": f"select {number}L id", "app": app, "version": version}
            for app, version, number in steps
        ),
        {"rows": table},
    )
    assert [one["id"] for one in found] == [1, 12, 14, 15]
    now = DeltaTable(table)
    assert [now.transaction_version(app) for app in ("app", "odd/ä 'x'", "new")] == [6, 8, 1]


def test_spark_works_on_a_table_of_ours(environment):
    """Of many executions and pipelines, checkpoints among them: read, appended to, merged into; and we go on."""
    days = {number: f"2026-11-{number:02}" for number in range(1, 26)}
    for number, day in days.items():
        write(environment, "t", [row(number, day)], run(number, day, f"pipeline.{number % 3}"))
    table = str(Path(environment.lake_address, "raw", "t"))
    merge = (
        f"merge into delta.`{table}` t using (values (3, 'three', date'2026-11-03'), (100, 'new', date'2026-12-01') "
        "as s(id, text, day)) s on t.id = s.id when matched then update set * when not matched then insert *"
    )
    first, appended, _, last = spark(
        {"rows": table},
        {"append": table, "select": "select 50L id, 'n50' text, date'2026-11-20' day", "app": "spark", "version": 1},
        {"sql": merge},
        {"rows": table},
    )
    assert appended is None
    assert first == [{**row(number), "day": day} for number, day in days.items()]
    wanted = [{**one, "text": "three"} if one["id"] == 3 else one for one in first]
    wanted += [{"id": 50, "text": "n50", "day": "2026-11-20"}, {"id": 100, "text": "new", "day": "2026-12-01"}]
    assert last == wanted
    assert rows(environment, "t") == wanted
    write(environment, "t", [row(300)], run(30, pipeline="pipeline.2"))
    kept = [one for one in wanted if one["day"] != DAY]
    assert rows(environment, "t") == [*kept, {"id": 300, "text": "n300", "day": DAY}]
