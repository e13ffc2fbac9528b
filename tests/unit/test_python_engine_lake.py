"""The engine ``python`` on a real lake."""

import datetime as dt

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import FrameWrite, Scan, UserFunction, Write
from aiflow_sdk.testing.conformance.engine import ODD_VALUES


def run(day="2026-11-20", generation=1):
    return Run(
        run_id="0193c000-0000-7000-8000-000000000000",
        environment="test",
        project="default",
        pipeline_id="lake",
        partition_key=day,
        partition_grain="day",
        generation=generation,
    )


@pytest.fixture
def environment(tmp_path):
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


@pytest.fixture
def session():
    with PythonEngine().open(None, run()) as session:  # type: ignore[arg-type]  # it asks nothing of its task
        yield session


@pytest.fixture
def write(session, environment):
    def write(frame, of=None, fill=None, time=None, **options):
        sink = OneLakeSink.load({"table": "raw.orders", **options}, environment)
        (written,) = session.write([FrameWrite(frame, sink, Write("sink", of or run(), fill or {}, time))])
        return written

    return write


@pytest.fixture
def read(session, environment):
    def read(**options):
        return session.read(OneLakeSource.load({"table": "raw.orders", **options}, environment), Scan(run()))

    return read


def test_what_is_written_is_read_back(write, read):
    frame = pl.DataFrame(
        {
            "n": [1, None],
            "u": pl.Series([1, 2], dtype=pl.UInt32),
            "text": ["ü", None],
            "at": [dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC), None],
            "day": [dt.date(2026, 11, 20), None],
            "tags": [["a"], []],
            "parts": [{"a": 1}, {"a": None}],
        }
    )
    written = write(frame)
    assert (written.rows, written.table_version) == (2, 0)
    assert read().collect().sort("n", nulls_last=True).equals(frame.with_columns(pl.col("u").cast(pl.Int64)))


def test_a_day_is_replaced_and_the_others_stay(write, read):
    for day, amount, generation in (("2026-11-20", 1, 1), ("2026-11-21", 2, 1), ("2026-11-20", 3, 2)):
        request = run(day, generation)
        write(pl.DataFrame({"amount": [amount]}), request, {"dt": day}, "dt", partition_by=["dt"])
    assert dict(read().collect().select("dt", "amount").iter_rows()) == {"2026-11-20": 3, "2026-11-21": 2}


def test_a_filled_column_takes_the_tables_own_type(write, read):
    write(pl.DataFrame({"n": [1], "dt": [dt.date(2026, 11, 19)]}), partition_by=["dt"])
    write(pl.DataFrame({"n": [2]}), run(generation=2), {"dt": "2026-11-20"}, "dt", partition_by=["dt"])
    assert sorted(read().collect()["dt"].to_list()) == [dt.date(2026, 11, 19), dt.date(2026, 11, 20)]


def test_an_empty_frame_empties_its_day(write, read):
    write(pl.DataFrame({"n": [1]}), fill={"dt": "2026-11-20"}, time="dt", partition_by=["dt"])
    empty = pl.DataFrame(schema={"n": pl.Int64})
    written = write(empty, run(generation=2), fill={"dt": "2026-11-20"}, time="dt", partition_by=["dt"])
    assert written.rows == 0
    assert read().collect().height == 0


def test_odd_partition_values_come_back(write, read):
    frame = pl.DataFrame({"n": range(len(ODD_VALUES)), "key": ODD_VALUES}, schema={"n": pl.Int64, "key": pl.String})
    write(frame, partition_by=["key"])
    assert read().collect().select("n", "key").sort("n").equals(frame)


def test_conditions_and_columns_reach_the_lake(session, write, read):
    write(pl.DataFrame({"n": [1, 2], "text": ["a", "b"], "dt": ["x", "y"]}), partition_by=["dt"])

    def f(orders: pl.LazyFrame):
        return orders.filter(pl.col("dt") == "x").select("n")

    frame = session.call(UserFunction(f, "etl:f", "f", {}, None), {"orders": read()})
    assert frame.collect().to_dicts() == [{"n": 1}]


def test_sql_reads_and_the_lake_keeps_its_result(session, write, read):
    write(pl.DataFrame({"user": ["a", "a", "b"], "amount": [1, 2, 3]}))
    frame = session.sql("select user, sum(amount) as total from {orders} group by user", {"orders": read()})
    write(frame, table="raw.totals")
    assert read(table="raw.totals").collect().sort("user")["total"].to_list() == [3, 3]
