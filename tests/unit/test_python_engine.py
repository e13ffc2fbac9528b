"""The engine ``python``: reading, calling, SQL, and what it imports."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest

from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.errors import DataError, DefinitionError, PluginError, StoreError, UserCodeError
from aiflow_sdk.frames import kind_of
from aiflow_sdk.plan import PlanTask
from aiflow_sdk.plugins import FrameWrite, Scan, UserFunction, Write
from aiflow_sdk.testing.conformance.engine import RUN
from aiflow_sdk.testing.conformance.probe import Batches, Files, Folder, Rows

if TYPE_CHECKING:
    import duckdb
    import pyspark.sql

TASK = PlanTask(
    id="task",
    engine="python",
    engine_plugin="aiflow_sdk.engines.python:PythonEngine",
    cluster="local",
    node_ids=("node",),
    retries=0,
    retry_delay_seconds=0,
    timeout_seconds=None,
    bounded=True,
)
ORDERS = pa.table({"user": ["ann", "bob", None, "ann"], "amount": pa.array([1, 2, 3, 4], pa.int64())})


class Watched(Rows, kind="watched"):
    """A source that remembers how it was scanned."""

    def scan(self, request):
        SCANS.append(request)
        yield from super().scan(request)


SCANS: list[Scan] = []


@pytest.fixture
def session() -> Iterator:
    SCANS.clear()
    with PythonEngine().open(TASK, RUN) as session:
        yield session


def call(session, function, inputs, **params):
    return session.call(UserFunction(function, f"etl:{function.__name__}", "node", params, None), inputs)


def test_its_options_come_from_resources():
    engine = PythonEngine.load({"request_cpu": "500m", "request_memory": "1Gi", "extra": {"queue": "small"}})
    assert isinstance(engine, PythonEngine)
    assert (engine.request_cpu, engine.request_memory, engine.extra["queue"]) == ("500m", "1Gi", "small")
    hash(engine)


def test_without_an_annotation_a_function_gets_polars_eagerly(session):
    def f(orders):
        assert isinstance(orders, pl.DataFrame)
        return orders.head(1)

    frame = call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    assert session.rows(frame) == 1


def test_who_asks_for_lazy_reads_only_what_is_needed(session):
    def f(orders: pl.LazyFrame):
        return orders.select(total=pl.col("amount").sum())

    frame = call(session, f, {"orders": session.read(Watched.of(ORDERS), Scan(RUN))})
    assert SCANS == []
    assert session.columns(frame) == (("total", "int64"),)
    sink = Batches()
    session.write([FrameWrite(frame, sink, Write("sink", RUN))])
    assert sink.rows == [{"total": 10}]
    assert [scan.columns for scan in SCANS] == [("amount",)]
    assert SCANS[0].run is RUN


def test_a_limit_reaches_the_source(session):
    frame = session.read(Watched.of(ORDERS), Scan(RUN)).head(2).collect()
    assert frame.height == 2
    assert [scan.limit for scan in SCANS] == [2]
    assert session.read(Rows.of(ORDERS), Scan(RUN, columns=("amount",), limit=1)).collect().to_dicts() == [
        {"amount": 1}
    ]


def test_conditions_reach_parquet_files(session, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(ORDERS, tmp_path / "dt=x.parquet")
    frame = (
        session.read(Files(path=str(tmp_path / "dt=x.parquet")), Scan(RUN)).filter(pl.col("amount") > 3).select("user")
    )
    assert "SELECTION" in frame.explain()
    assert frame.collect().to_dicts() == [{"user": "ann"}]


def test_what_a_lazy_function_made_is_computed_once_for_an_eager_one_and_a_sink(session):
    computed = []

    def lazy(orders: pl.LazyFrame):
        def seen(part):
            computed.append(part.height)
            return part

        return orders.map_batches(seen)

    def eager(middle):
        return middle.head(1)

    middle = call(session, lazy, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    last = call(session, eager, {"middle": middle})
    sinks = [Batches(), Batches(), Batches()]
    session.write(
        [FrameWrite(frame, sink, Write("s", RUN)) for frame, sink in zip((middle, last, middle), sinks, strict=True)]
    )
    assert [len(sink.rows) for sink in sinks] == [4, 1, 4]
    assert computed == [4]


def test_several_sinks_are_one_computation(session, tmp_path):
    computed = []

    def lazy(orders: pl.LazyFrame):
        def seen(part):
            computed.append(part.height)
            return part

        return orders.map_batches(seen)

    frame = call(session, lazy, {"orders": session.read(Watched.of(ORDERS), Scan(RUN))})
    sinks = [Folder(folder=str(tmp_path / "a")), Batches(), Folder(folder=str(tmp_path / "b"), columns=("user",))]
    done = session.write([FrameWrite(frame, sink, Write(f"s{n}", RUN)) for n, sink in enumerate(sinks)])
    assert computed == [4]
    assert len(SCANS) == 1
    assert [written.rows for written in done] == [4, 4, 4]


def test_a_spark_frame_is_refused_with_what_to_do(session):
    def f(orders: "pyspark.sql.DataFrame"):
        return orders

    with pytest.raises(DefinitionError, match="Spark frame") as caught:
        call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    assert caught.value.code == "wrong-signature"
    assert 'engine="spark"' in str(caught.value.hint)


def test_the_users_lines_come_first_and_ours_not_at_all(session):
    def inner(frame):
        return frame["nope"]

    def outer(orders):
        return inner(orders)

    with pytest.raises(UserCodeError) as caught:
        call(session, outer, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    text = "\n".join(caught.value.notes)
    assert caught.value.notes[0] == "Traceback (most recent call last):"
    assert "in outer" in caught.value.notes[1]
    assert "engines" not in text
    assert caught.value.where is not None
    assert caught.value.where.line == inner.__code__.co_firstlineno + 1
    assert isinstance(caught.value.__cause__, pl.exceptions.ColumnNotFoundError)
    assert "etl:outer" in caught.value.message


def test_sys_exit_does_not_end_the_task_unseen(session):
    def f(orders):
        sys.exit(0)

    with pytest.raises(UserCodeError, match="SystemExit") as caught:
        call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    assert caught.value.code == "user-code-failed"


def test_an_interrupt_passes(session):
    def f(orders):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})


def test_a_missing_column_in_a_lazy_frame_is_the_functions_mistake(session):
    def f(orders: pl.LazyFrame):
        return orders.select("amout")

    with pytest.raises(UserCodeError, match='"amout"') as caught:
        call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    assert caught.value.where is not None
    assert caught.value.where.line == f.__code__.co_firstlineno


def test_an_exception_inside_a_lazy_frame_shows_the_users_lines(session):
    def explode(part):
        raise ZeroDivisionError("mine")

    def f(orders: pl.LazyFrame):
        return orders.map_batches(explode)

    frame = call(session, f, {"orders": session.read(Rows.of(ORDERS), Scan(RUN))})
    with pytest.raises(UserCodeError, match="mine") as caught:
        session.write([FrameWrite(frame, Batches(), Write("sink", RUN))])
    assert "in explode" in caught.value.notes[1]
    assert caught.value.where is not None
    assert caught.value.where.line == explode.__code__.co_firstlineno + 1


def test_an_error_of_a_source_passes_through_polars_as_it_is(session):
    class Late(Rows, kind="late"):
        def scan(self, request):
            yield from super().scan(request)
            raise DataError("half-read", "the file ends in the middle")

    with pytest.raises(DataError, match="in the middle"):
        session.write([FrameWrite(session.read(Late.of(ORDERS), Scan(RUN)), Batches(), Write("sink", RUN))])


@pytest.mark.parametrize("stated", [True, False])
def test_a_source_that_breaks_is_blamed_and_not_the_user(session, stated):
    class Broken(Rows, kind="broken"):
        def scan(self, request):
            raise RuntimeError("boom")
            yield

    with pytest.raises(PluginError, match="'broken' raised RuntimeError: boom") as caught:
        session.read(Broken.of(ORDERS, stated=stated), Scan(RUN)).collect()
    assert caught.value.code == "source-failed"
    assert caught.value.notes[0].startswith("Traceback")
    assert any('raise RuntimeError("boom")' in line for line in caught.value.notes), "the source's own line is missing"
    assert str(caught.value.where).startswith("tests/unit/test_python_engine.py:")


def test_a_sink_that_breaks_is_blamed_with_its_own_line(session):
    class Broken(Batches):
        def write(self, data, request):
            raise RuntimeError("full")

    with pytest.raises(PluginError, match="raised RuntimeError: full") as caught:
        session.write([FrameWrite(session.read(Rows.of(ORDERS), Scan(RUN)), Broken(), Write("sink", RUN))])
    assert caught.value.code == "sink-failed"
    assert any('raise RuntimeError("full")' in line for line in caught.value.notes)
    assert str(caught.value.where).startswith("tests/unit/test_python_engine.py:")


def test_a_source_that_yields_other_columns_than_it_says_is_blamed(session):
    class Liar(Rows, kind="liar"):
        def scan(self, request):
            yield from pa.table({"user": ["x"], "amount": ["text"]}).to_batches()

    with pytest.raises(DataError, match="'amount' is Int64") as caught:
        session.read(Liar.of(ORDERS), Scan(RUN)).collect()
    assert caught.value.code == "schema-mismatch"


def test_a_source_without_rows_or_columns_is_blamed(session):
    class Silent(Rows, kind="silent"):
        def scan(self, request):
            yield from ()

    with pytest.raises(DataError) as caught:
        session.read(Silent.of(ORDERS, stated=False), Scan(RUN))
    assert caught.value.code == "unknown-columns"
    assert session.read(Silent.of(ORDERS), Scan(RUN)).collect().schema == {"user": pl.String, "amount": pl.Int64}


def test_a_file_that_is_gone_is_no_mistake_of_the_user(session, tmp_path):
    frame = session.read(Files(path=str(tmp_path / "gone.parquet")), Scan(RUN))
    with pytest.raises(StoreError) as caught:
        session.write([FrameWrite(frame, Batches(), Write("sink", RUN))])
    assert caught.value.code == "store-failed"
    assert caught.value.retryable


@pytest.fixture
def orders(session):
    return session.read(Rows.of(ORDERS), Scan(RUN))


def test_sql_reads_the_columns_it_needs_and_gives_a_lazy_frame(session):
    frame = session.sql(
        'select sum(amount) as "the total" from {orders}', {"orders": session.read(Watched.of(ORDERS), Scan(RUN))}
    )
    assert SCANS == []
    assert frame.collect().to_dicts() == [{"the total": 10}]
    assert [scan.columns for scan in SCANS] == [("amount",)]
    # It can be computed again, and with less.
    assert frame.select(pl.len()).collect().item() == 1


def test_sql_reads_what_sql_made(session, orders):
    first = session.sql("select user, sum(amount) as total from {orders} group by user", {"orders": orders})
    second = session.sql(
        "select a.user from {first} a join {first} b using (user) order by a.total desc", {"first": first}
    )
    assert second.collect()["user"].to_list() == ["ann", "bob"]


def test_a_name_in_the_query_may_be_the_inputs(session, orders):
    frame = session.sql(
        "with orders as (select * from {orders} where amount > 3) select orders.amount from orders", {"orders": orders}
    )
    assert frame.collect()["amount"].to_list() == [4]


def test_an_odd_node_id_is_quoted(session, orders):
    assert session.sql("select count(*) as n from {my-orders.us}", {"my-orders.us": orders}).collect().item() == 4
    assert session.sql("select count(*) as n from {my-orders}", {"my-orders.us": orders}).collect().item() == 4


def test_braces_that_name_nothing_stay(session, orders):
    frame = session.sql(
        "select {'a': 1} as s, '{orders}' as t, 1 as \"{orders}\" from {orders} limit 1", {"orders": orders}
    )
    assert frame.collect().to_dicts() == [{"s": {"a": 1}, "t": "{orders}", "{orders}": 1}]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("selec 1", "        ^^^^^"),
        ("select cast(user as int) as n from {orders}", "LINE 1: select cast(user as int) as n from {orders}"),
    ],
)
def test_a_failing_query_shows_the_place(session, orders, query, place):
    with pytest.raises(UserCodeError) as caught:
        session.sql(query, {"orders": orders}).collect()
    assert caught.value.code == "sql-failed"
    assert place in caught.value.notes


@pytest.mark.parametrize("query", ["select 1; select 2", "copy (select 1) to 'x.csv'", "create table t (a int)", ""])
def test_a_sql_node_is_one_query(session, orders, query):
    with pytest.raises(DefinitionError) as caught:
        session.sql(query, {"orders": orders})
    assert caught.value.code == "bad-sql"


@pytest.mark.parametrize("path", ["secret.csv", "https://example.invalid/x.csv"])
def test_a_query_reaches_no_file_and_no_network(session, orders, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("secret.csv").write_text("a\n1\n")
    with pytest.raises(UserCodeError) as caught:
        session.sql(f"select * from read_csv('{path}')", {"orders": orders}).collect()
    assert caught.value.code == "sql-failed"


def test_a_query_sees_no_variable_of_ours(session, orders):
    with pytest.raises(UserCodeError, match="does not exist"):
        session.sql("select * from views", {"orders": orders})


def test_moments_in_sql_are_utc_wherever_the_machine_stands(session, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    frame = session.sql("select timestamptz '2026-11-20 00:00:00+01' as moment, date_trunc('day', moment) as day", {})
    assert frame.collect_schema()["moment"] == pl.Datetime("us", "UTC")
    assert str(frame.collect()["day"][0]) == "2026-11-19 00:00:00+00:00"


@pytest.mark.parametrize(
    ("query", "code"),
    [("select interval 1 day as step", "unsupported-type"), ("select 1 as a, 2 as a", "bad-column-names")],
)
def test_columns_that_no_frame_has_are_refused(session, query, code):
    with pytest.raises(DataError) as caught:
        session.sql(query, {})
    assert caught.value.code == code


def test_a_relation_outlives_its_session(orders):
    with PythonEngine().open(TASK, RUN) as session:

        def f(orders: "duckdb.DuckDBPyRelation"):
            return orders.filter("amount > 2")

        frame = call(session, f, {"orders": orders})
    assert kind_of(frame) is not None
    assert frame.sort("amount")["amount"].to_list() == [3, 4]


def in_a_process(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


HEAVY = "{'polars', 'pyarrow', 'pandas', 'duckdb', 'pyspark', 'deltalake', 'numpy'} & set(sys.modules)"


def test_importing_the_engine_imports_no_driver(tmp_path):
    assert in_a_process(f"import sys, aiflow_sdk.engines.python; print({HEAVY})", tmp_path) == "set()\n"


def test_the_polars_road_imports_polars_alone(tmp_path):
    pl.DataFrame({"a": [1, 2], "dt": ["x", "y"]}).write_parquet(tmp_path / "in.parquet")
    code = f"""
        import sys
        from aiflow_sdk.engines.python import PythonEngine
        from aiflow_sdk.plan import PlanTask, Run
        from aiflow_sdk.plugins import *
        from aiflow_sdk.ir import DatasetName

        class Lake(Sink, kind="lake"):
            def dataset(self): return DatasetName("a", "b")
            def write(self, batches, request): raise AssertionError
            def destination(self, request): return Destination("out", ("dt",))
            def commit(self, files, schema, request): return Written(rows=sum(file.rows for file in files))

        class Table(Source, kind="table"):
            def dataset(self): return DatasetName("a", "b")
            def scan(self, request): raise AssertionError
            def parquet_files(self): return ParquetFiles(("in.parquet",))

        def double(orders): return orders.select("dt", a=orders["a"] * 2)

        run = Run(run_id="0193c000-0000-7000-8000-000000000000", environment="e", project="p", pipeline_id="q")
        with PythonEngine().open(None, run) as session:
            frame = session.read(Table(), Scan(run))
            frame = session.call(UserFunction(double, "x:double", "n", {{}}, None), {{"orders": frame}})
            session.columns(frame), session.rows(frame)
            print(session.write([FrameWrite(frame, Lake(), Write("s", run))])[0].rows, {HEAVY})
    """
    assert in_a_process(code, tmp_path) == "2 {'polars'}\n"


def test_sql_leaves_nothing_behind_and_says_nothing(tmp_path):
    code = """
        import polars
        from aiflow_sdk.engines.python import PythonEngine
        with PythonEngine().open(None, None) as session:
            frame = session.sql("select sum(a) as a from {x}", {"x": polars.LazyFrame({"a": [1, 2]})})
            print(frame.collect().item())
    """
    assert in_a_process(code, tmp_path) == "3\n"
    assert list(tmp_path.iterdir()) == []
