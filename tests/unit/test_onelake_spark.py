"""Spark's own reading of a table of the lake agrees with the others', whatever the partitions are called."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.spark.connection import connected
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Predicate, Scan, Write

pytest.importorskip("pysail")

HOUR = dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def spark():
    with connected(None, {"spark.sql.session.timeZone": "UTC"}, {}) as connection:
        yield connection.spark


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"))


def write(environment: Environment, frame: pl.DataFrame, *partition_by: str) -> None:
    options = {"table": "raw.t", "partition_by": list(partition_by), "mode": "overwrite_partitions"}
    run = Run(run_id="0193c000-0000-7000-8000-000000000000", environment="dev", project="p", pipeline_id="x")
    OneLakeSink.load(options, environment).write(frame.to_arrow().to_reader(), Write("out", run))


def ids(source: OneLakeSource, spark, scan: Scan | None = None) -> list[int]:
    found = sorted(row["id"] for row in source.to_spark(spark, scan or Scan()).collect())
    assert found == sorted(source.to_polars(scan or Scan()).collect()["id"].to_list())
    return found


ODD = ["a'b\"; --", "../x", "%2F", "/", "日本 é", " x ", "null", "a=b", "\\", None]


def test_odd_values(environment, spark):
    write(environment, pl.DataFrame({"id": range(len(ODD)), "v": ODD}), "v")
    for number, value in enumerate(ODD):
        source = OneLakeSource.load({"table": "raw.t", "partitions": {"v": value}}, environment)
        assert ids(source, spark) == [number]
    some = OneLakeSource.load({"table": "raw.t", "partitions": {"v": ["%2F", None, "absent"]}}, environment)
    assert ids(some, spark) == [2, 9]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([dt.date(2026, 11, 20), dt.date(2026, 11, 21)], "2026-11-20"),
        ([HOUR, HOUR.replace(hour=6)], "2026-11-20T05"),
        ([HOUR.replace(tzinfo=None), HOUR.replace(hour=6, tzinfo=None)], "2026-11-20T05"),
        ([20261120, 20261121], "20261120"),
        ([True, False], "true"),
        ([1.5, 2.0], "1.5"),
        ([Decimal("1.50"), Decimal("2.00")], "1.5"),
    ],
)
def test_typed_values(environment, spark, values, wanted):
    write(environment, pl.DataFrame({"id": [1, 2], "v": values}), "v")
    source = OneLakeSource.load({"table": "raw.t", "partitions": {"v": wanted}}, environment)
    assert ids(source, spark) == [1]


def test_columns_predicates_limit_and_version(environment, spark):
    folder = Path(environment.lake) / "raw/t"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"id": [1, 2, 3], "a.b": [1.0, None, 3.0], "dt": ["x", "y", None]})
    write_deltalake(str(folder), frame, partition_by=["dt"])
    source = OneLakeSource.load({"table": "raw.t"}, environment)
    assert source.to_spark(spark, Scan(columns=("dt", "id"))).columns == ["dt", "id"]
    assert ids(source, spark, Scan(predicates=(Predicate("a.b", ">=", 3.0),))) == [3]
    assert ids(source, spark, Scan(predicates=(Predicate("dt", "in", ("x", None)),))) == [1, 3]
    assert ids(source, spark, Scan(predicates=(Predicate("a.b", "==", None),))) == [2]
    assert ids(source, spark, Scan(predicates=(Predicate("a.b", "!=", None), Predicate("id", "<", 3)))) == [1]
    assert source.to_spark(spark, Scan(limit=2)).count() == 2
    source.identity(Run(run_id="0193c000-0000-7000-8000-000000000000", environment="dev", project="p", pipeline_id="x"))
    write_deltalake(str(folder), frame, mode="append")
    assert source.to_spark(spark, Scan()).count() == 3
