"""The engine ``spark`` on its embedded server: options, reading, user functions, SQL, writing, errors."""

import datetime as dt
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from aiflow_sdk.config import Environment
from aiflow_sdk.config.configuration import ConfigurationItem
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.engines.spark.session import SparkTaskSession
from aiflow_sdk.errors import (
    ConfigurationError,
    DataError,
    MissingExtraError,
    PluginError,
    RunError,
    UnknownNameError,
    UserCodeError,
)
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import (
    DataFile,
    Destination,
    FrameWrite,
    ParquetFiles,
    Scan,
    Sink,
    Source,
    UserFunction,
    Write,
    Written,
)
from aiflow_sdk.usage import Meter
from aiflow_sdk.variables import render_query

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
LOCAL = NOON.replace(tzinfo=None)

TASK = PlanTask(
    id="enrich",
    engine="spark",
    engine_plugin="aiflow_sdk.engines.spark:SparkEngine",
    cluster="local",
    node_ids=("enrich",),
    retries=0,
    retry_delay_seconds=0,
    timeout_seconds=None,
    bounded=True,
)
RUN = Run(
    run_id="0193c000-0000-7000-8000-000000000001",
    environment="dev",
    project="default",
    pipeline_id="p",
    partition_key="2026-11-20",
    partition_grain="day",
)


class Rows(Source, kind="rows"):
    """A source that knows nothing but Arrow."""

    table: object

    def dataset(self) -> DatasetName:
        return DatasetName("test", "rows")

    def arrow_schema(self) -> pa.Schema:
        return self.table.schema  # type: ignore[attr-defined]  # any table of a test

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        yield from self.table.to_batches(max_chunksize=2)  # type: ignore[attr-defined]  # likewise


class Files(Rows, kind="parquet"):
    """A source of Parquet files."""

    paths: tuple[str, ...]
    table: object = None

    def parquet_files(self) -> ParquetFiles | None:
        return ParquetFiles(self.paths)


class Kept(Sink, kind="kept"):
    """A sink that takes Arrow and keeps it."""

    partition_by: tuple[str, ...] = ()
    tables: list

    def dataset(self) -> DatasetName:
        return DatasetName("test", "kept")

    def partition_columns(self) -> tuple[str, ...]:
        return self.partition_by

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        self.tables.append(batches.read_all())
        return Written(rows=self.tables[-1].num_rows)


class Folder(Sink, kind="folder"):
    """A sink that commits Parquet files by remembering them."""

    folder: str
    partition_by: tuple[str, ...] = ()
    types: dict[str, str] = {}
    commits: list

    def dataset(self) -> DatasetName:
        return DatasetName("test", "folder")

    def destination(self, request: Write) -> Destination:
        return Destination(f"{self.folder}/{request.node_id}", self.partition_by, self.types)

    def commit(self, files: list[DataFile], schema: pa.Schema, request: Write) -> Written:
        self.commits.append((files, schema))
        return Written(rows=sum(file.rows for file in files))

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        raise AssertionError("an engine that writes files was asked for batches")


@contextmanager
def session(**options) -> Iterator[SparkTaskSession]:
    with SparkEngine.load(options, Environment()).open(TASK, RUN) as opened:
        yield opened


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkTaskSession]:
    with session() as opened:
        yield opened


ORDERS = pa.table({"user": ["ana", "bo", "ana"], "amount": [1, 2, 4]})


@pytest.fixture
def orders(spark):
    return spark.read(Rows(table=ORDERS), Scan())


def function(call, *, node_id="enrich", params=None, external=False) -> UserFunction:
    return UserFunction(call, f"{call.__module__}:{call.__name__}", node_id, params or {}, None, external)


def rows(frame) -> list[dict]:
    return sorted(frame.toArrow().to_pylist(), key=str)


# Options.


def test_the_options_of_the_original_request_are_taken():
    engine = SparkEngine.load({"driver_memory": "4g", "executor_memory": "8g", "executor_cores": 4, "extra": {"a": 1}})
    assert (engine.driver_memory, engine.executor_memory, engine.executor_cores) == ("4g", "8g", 4)


@pytest.mark.parametrize(
    ("option", "value"), [("driver_memory", "lots"), ("executor_cores", 0), ("executor_memory", ""), ("conf", "a=b")]
)
def test_a_bad_option_is_named(option, value):
    with pytest.raises(ConfigurationError, match=option):
        SparkEngine.load({option: value})


def test_settings_reach_the_session_and_its_clock_is_utc():
    with session(conf={"spark.sql.shuffle.partitions": "7"}) as opened:
        assert opened.spark.conf.get("spark.sql.shuffle.partitions") == "7"
        assert opened.spark.conf.get("spark.sql.session.timeZone") == "UTC"


@pytest.mark.parametrize("address", ["localhost:15002", "http://localhost", "sc://localhost:many"])
def test_a_malformed_address_is_a_clear_error(address):
    with (
        pytest.raises(ConfigurationError, match="sc://host:port"),
        SparkEngine.load({}, Environment(spark=address)).open(TASK, RUN),
    ):
        pass


def test_an_address_where_nobody_listens_fails_at_once():
    began = time.monotonic()
    engine = SparkEngine.load({}, Environment(spark="sc://127.0.0.1:1"))
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1") as caught, engine.open(TASK, RUN):
        pass
    assert caught.value.code == "spark-unreachable"
    assert "in aiflow.toml" in caught.value.hint
    assert time.monotonic() - began < 60


def test_an_address_that_the_service_handed_out_is_taken_back_there():
    handed_out = (ConfigurationItem("prod", "variable", "spark", 3, "growth"),)
    environment = Environment(name="prod", spark="sc://127.0.0.1:1", handed_out=handed_out)
    with pytest.raises(RunError) as caught, SparkEngine.load({}, environment).open(TASK, RUN):
        pass
    assert "aiflow variable remove spark --env prod --team growth" in caught.value.hint
    assert "aiflow.toml" not in caught.value.hint


def test_the_embedded_server_is_measured_apart_and_another_one_is_unknown(spark):
    meter = Meter().start()
    meter.follow(spark.server.pid)
    assert spark.spark.sql("select sum(hash(id) % 7) from range(30000000)").collect()[0][0] is not None
    told = meter.stop()
    assert told["server"]["cpu_seconds"] > 0
    assert told["server"]["peak_memory_bytes"] > 10_000_000
    with SparkEngine.load({}, Environment(spark=spark._server.address)).open(TASK, RUN) as opened:
        assert opened.server.pid is None


def test_a_server_of_ones_own_is_used_by_its_address(spark, tmp_path):
    with SparkEngine.load({}, Environment(spark=spark._server.address)).open(TASK, RUN) as opened:
        assert opened._server is None
        frame = opened.read(Rows(table=ORDERS), Scan())
        kept, folder = Kept(tables=[]), Folder(folder=str(tmp_path), commits=[])
        opened.write([FrameWrite(frame, sink, Write("o", RUN)) for sink in (kept, folder)])
        assert sorted(kept.tables[0]["amount"].to_pylist()) == [1, 2, 4]
        assert len(written(tmp_path, folder)) == 3


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(MissingExtraError) as caught, session():
        pass
    assert caught.value.code == "missing-extra"
    assert "aiflow-sdk[spark]'" in str(caught.value)


# Reading.


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (pa.array([1, 255], pa.uint8()), pa.int16()),
        (pa.array([1, 2**32 - 1], pa.uint32()), pa.int64()),
        (pa.array([1, 2**62], pa.uint64()), pa.int64()),
        (pa.array(["a", None]).dictionary_encode(), pa.string()),
        (pa.array(["a", None], pa.large_string()), pa.string()),
        (pa.array(["a", None], pa.string_view()), pa.string()),
        (pa.array([b"a", None], pa.binary(1)), pa.binary()),
        (pa.array([LOCAL] * 2, pa.timestamp("us")), pa.timestamp("us")),
        (pa.array([LOCAL] * 2, pa.timestamp("ns")), pa.timestamp("us")),
        (pa.array([NOON] * 2, pa.timestamp("s", "UTC")), pa.timestamp("us", "UTC")),
        (pa.array([NOON] * 2, pa.timestamp("ms", "Asia/Tokyo")), pa.timestamp("us", "UTC")),
        (pa.array([dt.date(2026, 11, 20), None]), pa.date32()),
        (pa.array([Decimal("1.20"), None], pa.decimal128(12, 2)), pa.decimal128(12, 2)),
        (pa.array([[1], None], pa.list_(pa.uint16())), pa.list_(pa.int32())),
        (pa.array([{"a": 1}, None], pa.struct({"a": pa.uint16()})), pa.struct({"a": pa.int32()})),
        (pa.array([True, None]), pa.bool_()),
        (pa.array([1.5, None], pa.float32()), pa.float32()),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
@pytest.mark.parametrize("way", ["arrow", "file"])
def test_every_column_type_arrives_with_its_values(spark, tmp_path, given, read, way):
    table = pa.table({"x": given})
    path = str(tmp_path / "x.parquet")
    pq.write_table(table, path)
    frame = spark.read(Rows(table=table) if way == "arrow" else Files(paths=(path,)), Scan())
    sink = Folder(folder=str(tmp_path / "out"), commits=[])
    spark.write([FrameWrite(frame, sink, Write("o", RUN))])
    ((files, schema),) = sink.commits
    assert schema.field("x").type.equals(read)
    written = pa.concat_tables([pq.read_table(tmp_path / "out/o" / file.path) for file in files])
    assert written.cast(schema).equals(table.cast(schema))


@pytest.mark.parametrize("column", [pa.array([1], pa.time64("us")), pa.array([Decimal(10**50)], pa.decimal256(60, 0))])
def test_a_column_that_spark_has_no_like_of_is_named(spark, column):
    with pytest.raises(DataError, match="'x'") as caught:
        spark.read(Rows(table=pa.table({"x": column})), Scan())
    assert caught.value.code == "unsupported-type"


def test_a_number_beyond_sparks_is_an_error_and_not_another_number(spark):
    with pytest.raises(DataError) as caught:
        spark.read(Rows(table=pa.table({"x": pa.array([2**64 - 1], pa.uint64())})), Scan())
    assert caught.value.code == "value-out-of-range"


def test_a_source_without_rows_keeps_its_columns(spark):
    frame = spark.read(Rows(table=ORDERS.slice(0, 0)), Scan())
    assert spark.columns(frame) == (("user", "string"), ("amount", "int64"))
    assert frame.count() == 0


def test_a_source_that_raises_is_told_with_its_own_line(spark):
    class Broken(Rows, kind="broken"):
        def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
            yield from super().scan(request)
            raise RuntimeError("boom")

    with pytest.raises(PluginError, match="'broken' raised RuntimeError: boom") as caught:
        spark.read(Broken(table=ORDERS), Scan())
    assert caught.value.code == "source-failed"
    assert any('raise RuntimeError("boom")' in line for line in caught.value.notes)
    assert str(caught.value.where).startswith("tests/unit/test_spark_engine.py:")


def test_a_sink_that_raises_is_told_with_its_own_line(spark, orders):
    class Full(Kept, kind="full"):
        def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
            raise RuntimeError("no room")

    with pytest.raises(PluginError, match="'full' raised RuntimeError: no room") as caught:
        write(spark, orders, Full(tables=[]))
    assert caught.value.code == "sink-failed"
    assert any('raise RuntimeError("no room")' in line for line in caught.value.notes)


def test_a_file_that_is_gone_is_an_error_and_not_an_empty_frame(spark, tmp_path):
    with pytest.raises(DataError, match="no file"):
        spark.read(Files(paths=(str(tmp_path / "gone.parquet"),)), Scan())


def test_paths_may_hold_anything(spark, tmp_path):
    folder = tmp_path / "dt=2026-11-20" / "a b%20é"
    folder.mkdir(parents=True)
    pq.write_table(ORDERS, folder / "x.parquet")
    frame = spark.read(Files(paths=(str(folder / "x.parquet"),)), Scan())
    assert frame.columns == ["user", "amount"]
    assert frame.count() == 3


# User functions.


def test_the_seeds_form_of_a_function_runs(spark, orders):
    def main(spark, inputs, params):
        assert spark.range(2).count() == 2
        return inputs["orders"].groupBy("user").agg((F.sum("amount") * params["times"]).alias("total"))

    frame = spark.call(function(main, params={"times": 2}), {"orders": orders})
    assert rows(frame) == [{"user": "ana", "total": 10}, {"user": "bo", "total": 4}]


def test_a_function_may_ask_for_any_frame_and_return_any(spark, orders):
    def by_polars(orders: pl.DataFrame) -> pl.DataFrame:
        return orders.group_by("user").agg(pl.col("amount").sum(), pl.len().alias("n"))

    def by_lazy(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.filter(pl.col("user") == "ana")

    def by_pandas(orders: pd.DataFrame) -> pd.DataFrame:
        return orders[orders.user == "ana"]

    def by_arrow(orders: pa.Table) -> pa.Table:
        return orders.slice(0, 1)

    def mixed(orders: SparkFrame, users: pl.DataFrame) -> SparkFrame:
        return orders.filter(F.col("user").isin(users["user"].to_list()))

    inputs = {"orders": orders}
    totals = rows(spark.call(function(by_polars), inputs))
    assert totals == [{"user": "ana", "amount": 5, "n": 2}, {"user": "bo", "amount": 2, "n": 1}]
    assert len(rows(spark.call(function(by_lazy), inputs))) == 2
    assert len(rows(spark.call(function(by_pandas), inputs))) == 2
    assert len(rows(spark.call(function(by_arrow), inputs))) == 1
    users = spark.read(Rows(table=pa.table({"user": ["bo"]})), Scan())
    assert rows(spark.call(function(mixed), {**inputs, "users": users})) == [{"user": "bo", "amount": 2}]


def test_local_times_stay_local_through_another_frame(spark):
    naive = pa.table({"at": pa.array([LOCAL], pa.timestamp("us"))})

    def same(at: pl.DataFrame) -> pl.DataFrame:
        return at

    frame = spark.call(function(same), {"at": spark.read(Rows(table=naive), Scan())})
    assert spark.columns(frame) == (("at", "timestamp[us]"),)
    assert rows(frame) == naive.to_pylist()


@pytest.mark.parametrize("way", ["getOrCreate", "named", "active"])
def test_a_function_finds_its_session_as_spark_users_do(way):
    def main():
        from pyspark.sql import SparkSession

        builder = SparkSession.builder
        return {
            "getOrCreate": builder.getOrCreate,
            "named": builder.appName("mine").getOrCreate,
            "active": SparkSession.active,
        }[way]().range(2)

    with session() as other, session() as opened:
        assert opened.spark is not other.spark
        frame = opened.call(function(main), {})
        assert frame is not None
        assert frame.sparkSession is opened.spark
        assert frame.count() == 2


def test_a_function_that_stops_the_session_is_told_not_to():
    def main(spark):
        frame = spark.range(2)
        spark.stop()
        return frame

    with pytest.raises(UserCodeError, match=r"remove spark\.stop"), session() as opened:
        opened.call(function(main), {})
    with session() as opened:
        assert opened.spark.range(3).count() == 3


def test_a_users_exception_shows_the_users_lines_first(spark, orders):
    def main(orders):
        return int("x")

    with pytest.raises(UserCodeError) as caught:
        spark.call(function(main), {"orders": orders})
    error = caught.value
    assert error.code == "user-code-failed"
    assert error.where is not None
    assert error.where.path == "tests/unit/test_spark_engine.py"
    assert "ValueError" in str(error)
    assert "in main" in error.notes[1]


@pytest.mark.parametrize("eager", [False, True])
def test_a_misspelt_column_is_told_at_the_function_that_misspelt_it(spark, orders, eager):
    def main(orders):
        frame = orders.select(F.col("amout") + 1)
        return frame.limit(frame.count()) if eager else frame

    with pytest.raises(UserCodeError, match=r"no column 'amout'.*did you mean 'amount'") as caught:
        spark.call(function(main), {"orders": orders})
    assert caught.value.where is not None
    assert caught.value.where.path == "tests/unit/test_spark_engine.py"
    assert not [line for line in caught.value.notes if "site-packages" in line]


def test_an_exception_in_a_function_that_spark_calls_shows_its_line(spark, orders):
    def main(orders):
        @F.udf("long")
        def half(amount):
            if amount > 2:
                raise ValueError(f"{amount} is too much")
            return amount // 2

        return orders.select(half("amount").alias("half"))

    frame = spark.call(function(main), {"orders": orders})
    with pytest.raises(UserCodeError, match="4 is too much") as caught:
        spark.write([FrameWrite(frame, Kept(tables=[]), Write("out", RUN))])
    assert caught.value.where is not None
    assert caught.value.where.path == "tests/unit/test_spark_engine.py"
    assert not [line for line in caught.value.notes if "site-packages" in line]


@pytest.mark.parametrize(("returned", "code"), [(None, "returned-nothing"), ([1], "not-a-frame")])
def test_a_function_must_return_a_frame(spark, orders, returned, code):
    with pytest.raises(UserCodeError) as caught:
        spark.call(function(lambda orders: returned), {"orders": orders})
    assert caught.value.code == code


def test_an_external_function_may_return_nothing(spark, orders):
    assert spark.call(function(lambda orders: None, external=True), {"orders": orders}) is None


# SQL.


def test_sql_reads_its_inputs_by_name(spark, orders):
    query = """select o.user, sum(o.amount) as "total", '{orders}' as text, '{"a": 1}' as json
               from {orders.us} o join { b-x } b on o.user = b.user group by 1 -- {nothing}"""
    frame = spark.sql(query.replace('"total"', "total"), {"orders.us": orders, "b-x": orders.filter("user = 'bo'")})
    assert rows(frame) == [{"user": "bo", "total": 2, "text": "{orders}", "json": '{"a": 1}'}]


@pytest.mark.parametrize("value", ["o'neil", "x' or 'a'='a", "\\' or 1=1 --", 'a"b', "{orders}", "{{ ds }}", "a\\nb"])
@pytest.mark.parametrize("written", ["'{{ params.x }}'", '"{{ params.x }}"', "{{ params.x }}"])
def test_a_param_in_sql_is_a_value_and_never_a_piece_of_the_query(spark, orders, value, written):
    query = render_query(f"select {written} as x from {{orders}} limit 1", {"params": {"x": value}}, "spark")
    assert rows(spark.sql(query, {"orders": orders})) == [{"x": value}]


def test_sql_names_an_unknown_input(spark, orders):
    with pytest.raises(UnknownNameError, match="did you mean 'orders'"):
        spark.sql("select * from {order}", {"orders": orders})


def test_sql_without_inputs_runs(spark):
    assert rows(spark.sql("select 1 as one, '{}' as text", {})) == [{"one": 1, "text": "{}"}]


@pytest.mark.parametrize("query", ["select amout from {orders}", "selec 1", "select * from nowhere"])
def test_bad_sql_is_the_users_mistake(spark, orders, query):
    with pytest.raises(UserCodeError) as caught:
        spark.sql(query, {"orders": orders})
    assert caught.value.code == "sql-failed"


# Writing.


def written(tmp_path: Path, sink: Folder) -> list[dict]:
    files, _ = sink.commits[-1]
    found = []
    for file in files:
        table = pq.ParquetFile(tmp_path / "o" / file.path).read()
        assert table.num_rows == file.rows
        assert not set(table.column_names) & set(file.partition)
        found += [{**row, **file.partition} for row in table.to_pylist()]
    return sorted(found, key=str)


def write(spark, frame, sink, **request):
    (result,) = spark.write([FrameWrite(frame, sink, Write("o", RUN, **request))])
    return result


def test_a_partitioned_write_lists_files_and_values(spark, tmp_path):
    strange = ["a/b=c", "50% ü", "", None, "..", "'; drop", "a b", "2026-11-20", "日本", "a\\b", 'q"', "x:y*?[z]{w}"]
    table = pa.table({"id": list(range(len(strange))), "key": strange})
    sink = Folder(folder=str(tmp_path), partition_by=("key",), commits=[])
    assert write(spark, spark.read(Rows(table=table), Scan()), sink).rows == len(strange)
    wanted = [{**row, "key": row["key"] or None} for row in table.to_pylist()]
    assert written(tmp_path, sink) == sorted(wanted, key=str)
    assert sink.commits[0][1].field("key").type == pa.string()


def test_typed_partition_columns_are_written_as_text(spark, tmp_path):
    moment = dt.datetime(2026, 11, 20, 5, 30, tzinfo=dt.UTC)
    table = pa.table(
        {
            "id": [1],
            "day": [dt.date(2026, 11, 20)],
            "n": [7],
            "flag": [True],
            "at": pa.array([moment], pa.timestamp("us", "UTC")),
            "local": pa.array([moment.replace(tzinfo=None)], pa.timestamp("us")),
        }
    )
    by = ("day", "n", "flag", "at", "local")
    sink = Folder(folder=str(tmp_path), partition_by=by, commits=[])
    write(spark, spark.read(Rows(table=table), Scan()), sink)
    (row,) = written(tmp_path, sink)
    assert (row["day"], row["n"], row["flag"]) == ("2026-11-20", "7", "true")
    assert dt.datetime.fromisoformat(row["at"]) == moment.replace(tzinfo=None)  # in UTC
    assert dt.datetime.fromisoformat(row["local"]) == moment.replace(tzinfo=None)
    assert [sink.commits[0][1].field(name).type for name in by] == [table.schema.field(name).type for name in by]


def test_a_missing_partition_column_is_filled(spark, orders, tmp_path):
    sink = Folder(folder=str(tmp_path), partition_by=("dt",), types={"dt": "date32[day]"}, commits=[])
    write(spark, orders, sink, fill={"dt": "2026-11-20", "unused": "x"})
    assert {row["dt"] for row in written(tmp_path, sink)} == {"2026-11-20"}
    assert sink.commits[0][1].field("dt").type == pa.date32()
    kept = Kept(tables=[], partition_by=("dt",))
    write(spark, orders, kept, fill={"dt": "2026-11-20"})
    assert kept.tables[0]["dt"].to_pylist() == ["2026-11-20"] * 3


@pytest.mark.parametrize(
    "sink", [Kept(tables=[], partition_by=("dt",)), Folder(folder="x", partition_by=("dt",), commits=[])]
)
def test_a_partition_column_that_nobody_gives_is_named(spark, orders, sink):
    with pytest.raises(DataError, match=r"'dt'.*user, amount") as caught:
        write(spark, orders, sink)
    assert caught.value.code == "missing-partition-column"


def test_columns_take_the_widths_that_the_table_has(spark, tmp_path):
    frame = spark.spark.sql("select 1 as i, 2L as l, cast(1.5 as float) as f, 1.25 as d, 3 as n, 'x' as s, 2D as x")
    types = {"i": "int64", "l": "int32", "f": "double", "d": "decimal128(12, 4)", "n": "decimal128(20, 2)"}
    sink = Folder(folder=str(tmp_path), types=types | {"s": "int64", "x": "int32"}, commits=[])
    write(spark, frame, sink)
    # A type of another kind is not for the engine to judge.
    assert {field.name: str(field.type) for field in sink.commits[0][1]} == types | {"s": "string", "x": "double"}
    (row,) = written(tmp_path, sink)
    assert row == {"i": 1, "l": 2, "f": 1.5, "d": Decimal("1.2500"), "n": Decimal("3.00"), "s": "x", "x": 2.0}


def test_a_number_that_does_not_fit_the_table_is_an_error_and_commits_nothing(spark, tmp_path):
    frame = spark.spark.range(3_000_000_000, 3_000_000_002)
    sink = Folder(folder=str(tmp_path), types={"id": "int32"}, commits=[])
    with pytest.raises(RunError, match="3000000000"):
        write(spark, frame, sink)
    assert sink.commits == []


@pytest.mark.parametrize("by", [(), ("user",)])
def test_a_frame_without_rows_still_commits_its_columns(spark, orders, tmp_path, by):
    sink = Folder(folder=str(tmp_path), partition_by=by, commits=[])
    assert write(spark, orders.filter("amount > 100"), sink).rows == 0
    ((files, schema),) = sink.commits
    assert files == []
    assert schema.names == ["user", "amount"]
    kept = Kept(tables=[])
    write(spark, orders.filter("amount > 100"), kept)
    assert kept.tables[0].schema.names == ["user", "amount"]


def test_columns_with_strange_names_are_written(spark, tmp_path):
    table = pa.table({"a.b": [1], "c d": ["x"], "é`": [2]})
    sink = Folder(folder=str(tmp_path), partition_by=("a.b", "c d"), types={"é`": "double"}, commits=[])
    write(spark, spark.read(Rows(table=table), Scan()), sink)
    assert written(tmp_path, sink) == [{"é`": 2, "a.b": "1", "c d": "x"}]


def test_a_frame_for_several_sinks_is_computed_once(spark, tmp_path):
    drawn = spark.spark.range(100).select(F.rand().alias("x"))
    kept, folder = Kept(tables=[]), Folder(folder=str(tmp_path), commits=[])
    spark.write([FrameWrite(drawn, kept, Write("a", RUN)), FrameWrite(drawn, folder, Write("o", RUN))])
    assert sorted(kept.tables[0]["x"].to_pylist()) == sorted(row["x"] for row in written(tmp_path, folder))


def test_nothing_is_committed_when_one_of_several_writes_fails(spark, orders, tmp_path):
    good, bad = Folder(folder=str(tmp_path), commits=[]), Kept(tables=[], partition_by=("dt",))
    with pytest.raises(DataError):
        spark.write([FrameWrite(orders, good, Write("a", RUN)), FrameWrite(orders, bad, Write("b", RUN))])
    assert good.commits == []


# Sessions.


def test_tasks_one_after_the_other_share_a_session_and_leave_no_views():
    with session() as first:
        used = first.spark
        used.range(1).createOrReplaceTempView("mine")
    with session() as second:
        assert second.spark is used
        assert used.catalog.listTables() == []


def test_a_clock_that_a_task_sets_is_not_the_next_ones():
    with session() as first:
        first.spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    with session() as second:
        assert second.spark.conf.get("spark.sql.session.timeZone") == "UTC"


def test_tasks_at_the_same_time_do_not_see_each_others_views():
    met = threading.Barrier(2, timeout=60)
    found: dict[int, list] = {}

    def task(number: int) -> None:
        with session() as opened:
            opened.spark.range(number, number + 1).createOrReplaceTempView("orders")
            met.wait()
            found[number] = opened.spark.sql("select id from orders").collect()
            met.wait()

    threads = [threading.Thread(target=task, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: [row.id for row in found[number]] for number in found} == {1: [1], 2: [2]}


def test_a_session_can_be_cancelled_from_another_thread():
    long = (
        "select count(*) from range(3000000) a join range(100000) b on a.id % 7 = b.id % 7 where a.id * b.id % 17 = 3"
    )
    began = time.monotonic()

    def task() -> None:
        with session() as opened:
            threading.Timer(0.5, opened.cancel).start()
            opened.write([FrameWrite(opened.sql(long, {}), Kept(tables=[]), Write("o", RUN))])

    with pytest.raises(RunError):
        task()
    assert time.monotonic() - began < 60


def test_scratch_files_end_with_the_task(spark):
    scratch = spark._server.scratch
    scratch.mkdir(exist_ok=True)
    with session() as opened:
        before = set(scratch.iterdir())
        opened.read(Rows(table=ORDERS), Scan())
        assert set(scratch.iterdir()) > before
    assert set(scratch.iterdir()) == before


def test_files_that_spark_reads_by_itself_are_not_copied(spark, tmp_path):
    fields = [
        pa.field("id", pa.int64(), nullable=False, metadata={"a": "b"}),
        pa.field("tags", pa.large_list(pa.string())),
    ]
    table = pa.table([[1], [["x"]]], schema=pa.schema(fields, metadata={"c": "d"}))
    pq.write_table(table, tmp_path / "x.parquet")
    with session() as opened:
        assert rows(opened.read(Files(paths=(str(tmp_path / "x.parquet"),)), Scan())) == table.to_pylist()
        assert opened._folder is None
