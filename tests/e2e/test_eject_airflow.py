"""Ejected pipelines, run by a real Airflow that has no aiflow, make the tables that ``aiflow run`` makes."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from aiflow_sdk.partitions import Partition, partitions_between
from plain_airflow import PlainAirflow
from plain_projects import lay_shop
from projects import aiflow, lay

EXAMPLES = Path(__file__).parents[2] / "examples"
ZONE = "America/New_York"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainAirflow]:
    """It gets ready while the first test runs pipelines without it."""
    airflow = PlainAirflow(tmp_path_factory.mktemp("airflow") / "home")
    yield airflow
    airflow.close()


def example(name: str, tmp_path: Path) -> Path:
    root = tmp_path / name
    shutil.copytree(EXAMPLES / name, root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    return root


def facts_of(root: Path, table: str) -> dict[str, Any]:
    """Return columns, types, partition columns and rows, sorted."""
    place = str(root / ".aiflow" / "lake" / table)
    frame = pl.read_delta(place)
    return {
        "schema": dict(sorted(frame.schema.items())),
        "partition_by": DeltaTable(place).metadata().partition_columns,
        "rows": sorted(frame.select(sorted(frame.columns)).rows(named=True), key=repr),
    }


def taken_away(root: Path, *tables: str) -> Iterator[dict[str, Any]]:
    """Yield what the tables hold, and remove them."""
    for table in tables:
        yield facts_of(root, table)
        shutil.rmtree(root / ".aiflow" / "lake" / table)


def test_the_flights_example(tmp_path, airflow):
    root = example("flights", tmp_path)
    spec = importlib.util.spec_from_file_location("demo", root / "demo.py")
    assert spec is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    demo.load_flights(root / ".aiflow" / "lake")
    for day in ("2013-01-15", "2013-01-16"):
        aiflow(root, "run", "flights_daily", "--date", day)
    (made,) = taken_away(root, "feature/daily_delays")
    aiflow(root, "eject", "flights_daily", "-o", "flights_dag.py")
    runs = [("flights_daily", {"partition": day}) for day in ("2013-01-15", "2013-01-16", "2013-01-15")]
    airflow.run(root, *runs)
    assert len(made["rows"]) > 20
    assert facts_of(root, "feature/daily_delays") == made


def test_the_example_of_user_features(tmp_path, airflow):
    root = example("user_features", tmp_path)
    orders = [{"user_id": n % 7, "amount": n / 4, "dt": f"2026-11-{20 + n % 2}"} for n in range(50)]
    lay(root, "raw/sales_orders", orders, "dt")
    for day in ("2026-11-20", "2026-11-21"):
        aiflow(root, "run", "daily_user_feature_pipeline", "--date", day)
    (made,) = taken_away(root, "feature_store/user_features_daily")
    aiflow(root, "eject", "daily_user_feature_pipeline", "-o", "features_dag.py")
    dag_id = "features.daily_user_feature_pipeline"
    airflow.run(root, *((dag_id, {"partition": f"2026-11-{day}"}) for day in (20, 21, 20)))
    assert len(made["rows"]) == 14
    assert facts_of(root, "feature_store/user_features_daily") == made


def test_the_example_of_hours_and_days_when_the_clocks_are_set_back(tmp_path, airflow):
    root = example("hourly_daily", tmp_path)
    start, end = (Partition.parse(day, "day", ZONE).start for day in ("2026-11-01", "2026-11-02"))
    first = Partition.containing(start, "hour", ZONE)
    hours = [one for one in partitions_between(first, Partition.containing(end, "hour", ZONE)) if one.start < end]
    assert len(hours) == 25
    clicks = [{"hour": hour.key, "page": page} for hour in hours for page in ("home", "cart", "home")]
    lay(root, "raw/clicks", clicks, "hour")
    aiflow(root, "backfill", "clicks_hourly", "--from", hours[0].key, "--to", hours[-1].key)
    aiflow(root, "run", "clicks_daily", "--date", "2026-11-01")
    (daily,) = taken_away(root, "web/clicks_daily")
    hourly = facts_of(root, "web/clicks_hourly")
    aiflow(root, "eject", "clicks_hourly", "-o", "clicks_hourly_dag.py")
    aiflow(root, "eject", "clicks_daily", "-o", "clicks_daily_dag.py")
    again = [("clicks.clicks_hourly", {"partition": hour.key}) for hour in hours[:4]]  # two of them are shown as 01:00
    airflow.run(root, *again, *[("clicks.clicks_daily", {"partition": "2026-11-01"})] * 2)
    assert daily["rows"][0]["hours"] == 25
    assert facts_of(root, "web/clicks_daily") == daily
    assert facts_of(root, "web/clicks_hourly") == hourly


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return lay_shop(tmp_path / "shop")


def test_every_kind_of_node_makes_the_same_rows(shop, airflow):
    tables = ["big", "sums", "said", "copy", "found", "merged", "fresh", "mine_us", "mine_eu"]
    files = ("files/big/dt=2026-11-19", "files/big/dt=2026-11-20", "files/big-20261120.csv", "files/all.jsonl")
    days = ("2026-11-19", "2026-11-20")
    for day in days:
        aiflow(shop, "run", "shop", "--date", day)
    lake = shop / ".aiflow" / "lake"
    made = dict(zip(tables, taken_away(shop, *(f"out/{table}" for table in tables)), strict=True))
    read = {name: rows_of(lake / name) for name in files}
    shutil.rmtree(lake / "files")
    told = aiflow(shop, "eject", "shop", "-o", "shop_dag.py").err
    for word in (
        "copy: rows that were appended",
        "merged: rows that an earlier run merged",
        "sums: its function takes",
    ):
        assert word in told
    airflow.run(shop, *(("shop", {"partition": day}) for day in days))
    for table in tables:
        assert facts_of(shop, f"out/{table}") == made[table], table
    assert {name: rows_of(lake / name) for name in files} == read


STRICT = """
from aiflow_sdk import pipeline, sink, source


def copy(id, **options):
    @pipeline(id=id, schedule="@daily")
    def made(p):
        rows = p.read(source.onelake(id="rows", table="raw.rows", partitions={"dt": "{{ ds }}"}))
        p.write(rows, sink.onelake(id="out", table=f"out.{id}", **options))

    return made


appended = copy("appended", mode="append")
fresh = copy("fresh", mode="error_if_exists", partition_by=["dt"])
narrow = copy("narrow", partition_by=["dt"])
elsewhere = copy("elsewhere", partition_by=["day"], time="day")
"""


def test_what_would_be_other_rows_is_an_error(tmp_path, airflow):
    root = tmp_path / "strict"
    for path, text in {"pipelines/__init__.py": "", "pipelines/strict.py": STRICT, "aiflow.toml": ""}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    lay(root, "raw/rows", [{"n": 1.5, "day": "2026-11-19", "dt": "2026-11-20"}], "dt")
    lay(root, "out/narrow", [{"n": 1, "day": "x", "dt": "2026-11-01"}], "dt")
    lay(root, "raw/rows", [{"n": 2.5, "day": "2026-11-19", "dt": "2026-11-19"}], "dt")
    aiflow(root, "run", "appended", "--date", "2026-11-19")
    names = ("appended", "fresh", "narrow", "elsewhere")
    for name in names:
        aiflow(root, "eject", name, "-o", f"{name}_dag.py")
    twice = {"partition": "2026-11-20"}
    airflow.run(root, ("appended", twice), ("fresh", twice))
    before = facts_of(root, "out/appended")
    told = airflow.run(
        root,
        *((name, twice) for name in names),
        ("fresh", {"partition": "2026-11-21"}),
        ("appended", {"partition": "2026-11-19"}),
        state="failed",
    )
    for words in (
        "out/appended has the rows of 2026-11-20 from an earlier run",
        "out/appended has the rows of 2026-11-19 from an earlier run",
        "out/fresh holds 1 rows of 2026-11-20",
        "out/narrow: n is Float64, and Int64 in the table",
        "out/elsewhere: 1 rows are not of day=2026-11-20",
        "lacks dt: ['2026-11-21']",
    ):
        assert words in told
    assert facts_of(root, "out/appended") == before
    assert not (root / ".aiflow" / "lake" / "out" / "elsewhere").exists()
    airflow.run(root, ("appended", {**twice, "append_again": True}))
    assert len(facts_of(root, "out/appended")["rows"]) == 3


def rows_of(place: Path) -> list[Any]:
    """Return the rows of files, sorted, those of a folder without the folders' names."""
    if place.suffix == ".csv":
        return sorted(pl.read_csv(place, try_parse_dates=True).rows(), key=repr)
    if place.suffix == ".jsonl":
        return sorted(pl.read_ndjson(place).rows(), key=repr)
    frames = [
        (str(file.parent.relative_to(place)), pl.read_parquet(file, hive_partitioning=False))
        for file in sorted(place.rglob("*.parquet"))
    ]
    return sorted(((folder, row) for folder, frame in frames for row in frame.rows()), key=repr)
