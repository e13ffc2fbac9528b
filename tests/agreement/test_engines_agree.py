"""Both engines, on real Delta tables: the same rows, the same schema, the same partitions."""

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.errors import AiflowError, DataError
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine, FrameWrite, Scan, Session, UserFunction, Write
from aiflow_sdk.testing.conformance.probe import Rows

ENGINES: dict[str, type[Engine]] = {"python": PythonEngine, "spark": SparkEngine}
NOON = dt.datetime(2026, 11, 20, 12, 30, 1, 123456, dt.UTC)
LOCAL = NOON.replace(tzinfo=None)
DAY = NOON.date()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


def run(number: int = 1, day: str = "2026-11-20") -> Run:
    return Run(
        run_id=f"0193c000-0000-7000-8000-{number:012d}",
        environment="dev",
        project="default",
        pipeline_id="p",
        partition_key=day,
        partition_grain="day",
        generation=number,
    )


def on(engine: str, environment: Environment, work: Callable[[Session], Any], of: Run | None = None) -> Any:
    """Return what ``work`` makes of a session of the engine."""
    task = PlanTask(
        id="t",
        engine=engine,
        engine_plugin=f"{ENGINES[engine].__module__}:{ENGINES[engine].__name__}",
        cluster="local",
        node_ids=("t",),
        retries=0,
        retry_delay_seconds=0,
        timeout_seconds=None,
        bounded=True,
    )
    with ENGINES[engine].load({}, environment).open(task, of or run()) as session:
        return work(session)


def write(
    engine: str, environment: Environment, source: Any, table: str, *, of: Run | None = None, **options: Any
) -> None:
    fill, time = options.pop("fill", {}), options.pop("write_time", None)
    sink = OneLakeSink.load({"table": table, **options}, environment)
    request = Write("sink", of or run(), fill, time)
    on(
        engine,
        environment,
        lambda session: session.write([FrameWrite(session.read(source, Scan(of)), sink, request)]),
        of,
    )


def delta(environment: Environment, table: str) -> DeltaTable:
    return DeltaTable(str(Path(environment.lake, *table.split("."))))


def schema(environment: Environment, table: str) -> list[dict[str, Any]]:
    return sorted(json.loads(delta(environment, table).schema().to_json())["fields"], key=lambda one: one["name"])


def rows(environment: Environment, table: str) -> list[dict[str, Any]]:
    found = delta(environment, table).to_pyarrow_table()
    return sorted(found.select(sorted(found.column_names)).to_pylist(), key=repr)


def partitions(environment: Environment, table: str) -> list[dict[str, Any]]:
    return sorted((dict(one) for one in delta(environment, table).partitions()), key=repr)


COLUMNS = {
    "text": pa.array(["a", None]),
    "large_text": pa.array(["a", None], pa.large_string()),
    "text_view": pa.array(["a", None], pa.string_view()),
    "category": pa.array(["a", None]).dictionary_encode(),
    "flag": pa.array([True, None]),
    "tiny": pa.array([-1, None], pa.int8()),
    "short": pa.array([-1, None], pa.int16()),
    "whole": pa.array([-1, None], pa.int32()),
    "long": pa.array([-(2**62), None], pa.int64()),
    "unsigned_8": pa.array([255, None], pa.uint8()),
    "unsigned_16": pa.array([2**16 - 1, None], pa.uint16()),
    "unsigned_32": pa.array([2**32 - 1, None], pa.uint32()),
    "unsigned_64": pa.array([2**62, None], pa.uint64()),
    "single": pa.array([1.5, None], pa.float32()),
    "double": pa.array([1.1, float("inf")]),
    "price": pa.array([Decimal("1.20"), None], pa.decimal128(12, 2)),
    "wide": pa.array([Decimal("1" * 30 + ".25"), None], pa.decimal128(38, 2)),
    "day": pa.array([DAY, None]),
    "moment": pa.array([NOON, None], pa.timestamp("us", "UTC")),
    "elsewhere": pa.array([NOON, None], pa.timestamp("us", "Asia/Tokyo")),
    "local": pa.array([LOCAL, None], pa.timestamp("us")),
    "millis": pa.array([LOCAL.replace(microsecond=0), None], pa.timestamp("ms")),
    "nanos": pa.array([LOCAL, None], pa.timestamp("ns")),
    "raw": pa.array([b"\x00\xff", None]),
    "list": pa.array([[1, None], None], pa.list_(pa.int32())),
    "texts": pa.array([["a"], []], pa.large_list(pa.large_string())),
    "fixed": pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
    "record": pa.array([{"a": 1, "b": ["x"]}, None], pa.struct({"a": pa.uint16(), "b": pa.list_(pa.string())})),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_makes_the_same_table(environment, name):
    table = pa.table({"id": [1, 2], name: COLUMNS[name]})
    for engine in ENGINES:
        write(engine, environment, Rows.of(table), f"out.{engine}")
    assert schema(environment, "out.spark") == schema(environment, "out.python")
    assert rows(environment, "out.spark") == rows(environment, "out.python")


@pytest.mark.parametrize("column", [pa.array([1], pa.time64("us")), pa.array([1], pa.duration("us")), pa.nulls(1)])
def test_a_column_that_no_lake_holds_is_refused_by_both(environment, column):
    for engine in ENGINES:
        with pytest.raises(DataError) as caught:
            write(engine, environment, Rows.of(pa.table({"id": [1], "odd": column})), f"out.{engine}")
        assert caught.value.code == "unsupported-type"
        assert "'odd'" in str(caught.value)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("writer", ENGINES)
def test_each_reads_what_the_other_wrote(environment, name, writer):
    table = pa.table({"id": [1, 2], name: COLUMNS[name]})
    write(writer, environment, Rows.of(table), "raw.given")
    for engine in ENGINES:
        write(engine, environment, OneLakeSource.load({"table": "raw.given"}, environment), f"out.{engine}")
        assert schema(environment, f"out.{engine}") == schema(environment, "raw.given")
        assert rows(environment, f"out.{engine}") == rows(environment, "raw.given")


STRANGE = ["a/b=c", "50% ü", None, "..", "'; drop table", "a b", "日本", "a\\b", 'q"', "x:y*?[z]{w}", "%2F", "+", " x "]
KEYS = {
    "text": pa.array(STRANGE),
    "day": pa.array([DAY, None, dt.date(1969, 12, 31)]),
    "number": pa.array([1, None, -7], pa.int32()),
    "flag": pa.array([True, None, False]),
    "hour": pa.array([NOON.replace(minute=0, second=0, microsecond=0), None], pa.timestamp("us", "UTC")),
    "local": pa.array([LOCAL, None], pa.timestamp("us")),
}


@pytest.mark.parametrize("name", KEYS)
def test_partitions_have_the_same_values(environment, name):
    keys = KEYS[name]
    table = pa.table({"id": list(range(len(keys))), "key": keys})
    for engine in ENGINES:
        write(engine, environment, Rows.of(table), f"out.{engine}", partition_by=["key"])
    assert schema(environment, "out.spark") == schema(environment, "out.python")
    assert rows(environment, "out.spark") == rows(environment, "out.python")
    assert [row["key"] for row in sorted(rows(environment, "out.spark"), key=lambda row: row["id"])] == keys.to_pylist()
    assert partitions(environment, "out.spark") == partitions(environment, "out.python")
    for engine in ENGINES:
        wanted = [value.isoformat() if isinstance(value, dt.date) else value for value in keys.to_pylist()[:1]]
        source = OneLakeSource.load({"table": "out.python", "partitions": {"key": wanted}}, environment)
        write(engine, environment, source, f"one.{engine}")
        assert [row["id"] for row in rows(environment, f"one.{engine}")] == [0]


@pytest.mark.parametrize("existing", [None, pa.date32(), pa.string()])
def test_a_filled_partition_column_is_the_same(environment, existing):
    table = pa.table({"id": [1, 2]})
    for engine in ENGINES:
        if existing is not None:
            day = pa.array(["2026-11-19"]).cast(existing)
            write(
                "python", environment, Rows.of(pa.table({"id": [0], "dt": day})), f"out.{engine}", partition_by=["dt"]
            )
        options = {"partition_by": ["dt"], "fill": {"dt": "2026-11-20"}, "write_time": "dt"}
        write(engine, environment, Rows.of(table), f"out.{engine}", of=run(2), **options)
    assert schema(environment, "out.spark") == schema(environment, "out.python")
    assert rows(environment, "out.spark") == rows(environment, "out.python")
    assert len(rows(environment, "out.spark")) == (2 if existing is None else 3)


def test_rows_outside_the_runs_partition_are_refused_by_both_and_nothing_is_visible(environment):
    table = pa.table({"id": [1, 2], "dt": ["2026-11-20", "2026-11-21"]})
    for engine in ENGINES:
        with pytest.raises(DataError) as caught:
            write(engine, environment, Rows.of(table), f"out.{engine}", partition_by=["dt"], write_time="dt")
        assert caught.value.code == "rows-outside-partition"
        assert not Path(environment.lake, "out", engine, "_delta_log").exists()


def test_a_frame_without_rows_empties_its_partition_on_both(environment):
    table = pa.table({"id": [1, 2], "dt": ["2026-11-20", "2026-11-21"]})
    for engine in ENGINES:
        write(engine, environment, Rows.of(table), f"out.{engine}", partition_by=["dt"])
        nothing = Rows.of(table.slice(0, 0))
        write(engine, environment, nothing, f"out.{engine}", of=run(2), partition_by=["dt"], write_time="dt")
        assert rows(environment, f"out.{engine}") == [{"dt": "2026-11-21", "id": 2}]


def test_an_older_generation_changes_nothing_on_either(environment):
    for engine in ENGINES:
        for number, value in ((3, 30), (2, 20)):
            table = pa.table({"id": [value]})
            options = {"partition_by": ["dt"], "fill": {"dt": "2026-11-20"}, "write_time": "dt"}
            write(engine, environment, Rows.of(table), f"out.{engine}", of=run(number), **options)
        assert rows(environment, f"out.{engine}") == [{"dt": "2026-11-20", "id": 30}]


ORDERS = pa.table(
    {
        "user": ["ana", "bo", None, "ana"],
        "amount": pa.array([1, 2, 3, None], pa.int32()),
        "price": pa.array([Decimal("1.10"), Decimal("2.20"), None, Decimal("4.40")], pa.decimal128(12, 2)),
        "at": pa.array([NOON, NOON, None, NOON], pa.timestamp("us", "UTC")),
    }
)


def by_polars(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.group_by("user").agg(
        pl.len().alias("n"), pl.col("amount").sum(), pl.col("price").max(), pl.col("at").max()
    )


def by_lazy(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.with_columns(pl.col("amount").fill_null(0) + 1, cat=pl.col("user").cast(pl.Categorical))


def by_arrow(orders: pa.Table) -> pa.Table:
    return orders.filter(pa.compute.equal(orders["user"], "ana"))


@pytest.mark.parametrize("function", [by_polars, by_lazy, by_arrow])
def test_one_function_gives_the_same_table_on_both(environment, function):
    def work(engine: str) -> Callable[[Session], Any]:
        def done(session: Session) -> Any:
            orders = session.read(Rows.of(ORDERS), Scan())
            user = UserFunction(function, f"jobs:{function.__name__}", "node", {}, None)
            frame = session.call(user, {"orders": orders})
            sink = OneLakeSink.load({"table": f"out.{engine}"}, environment)
            return session.write([FrameWrite(frame, sink, Write("sink", run()))])

        return done

    for engine in ENGINES:
        on(engine, environment, work(engine))
    assert schema(environment, "out.spark") == schema(environment, "out.python")
    assert rows(environment, "out.spark") == rows(environment, "out.python")


def test_one_query_gives_the_same_rows_on_both(environment):
    query = """select "user" as who, count(*) as n, max(price) as price, max(o.at) as last,
               cast(sum(amount) as bigint) as total from {orders} o where amount > 0 group by "user" """

    def work(engine: str) -> Callable[[Session], Any]:
        def done(session: Session) -> Any:
            text = query.replace('"', "`") if engine == "spark" else query
            frame = session.sql(text, {"orders": session.read(Rows.of(ORDERS), Scan())})
            sink = OneLakeSink.load({"table": f"out.{engine}"}, environment)
            return session.write([FrameWrite(frame, sink, Write("sink", run()))])

        return done

    for engine in ENGINES:
        on(engine, environment, work(engine))
    assert schema(environment, "out.spark") == schema(environment, "out.python")
    assert rows(environment, "out.spark") == rows(environment, "out.python")


def test_what_is_written_is_told_alike(environment):
    table = pa.table({"id": [1, 2], "dt": ["2026-11-20", "2026-11-21"]})

    def told(engine: str) -> Any:
        sink = OneLakeSink.load({"table": f"out.{engine}", "partition_by": ["dt"]}, environment)

        def work(session: Session) -> Any:
            return session.write([FrameWrite(session.read(Rows.of(table), Scan()), sink, Write("sink", run()))])

        (written,) = on(engine, environment, work)
        assert written.bytes
        return written.rows, written.table_version, written.partitions, written.columns, written.superseded

    assert told("spark") == told("python")


def test_an_unknown_table_is_the_same_error_on_both(environment):
    write("python", environment, Rows.of(ORDERS), "raw.orders")
    found = []
    for engine in ENGINES:
        with pytest.raises(AiflowError) as caught:
            write(engine, environment, OneLakeSource.load({"table": "raw.ordres"}, environment), f"out.{engine}")
        found.append((caught.value.code, caught.value.hint))
    assert found == [("unknown-table", "did you mean 'raw.orders'?")] * 2
