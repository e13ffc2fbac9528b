"""What every engine must do, as tests that any engine inherits.

Everything goes through the least that a connector offers (Arrow batches, Parquet files), so an engine that passes
works with every source and sink.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiflow_sdk.errors import AiflowError, DataError, DefinitionError, UnknownNameError, UserCodeError, Where
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine, FrameWrite, Scan, Session, UserFunction, Write
from aiflow_sdk.testing.conformance.probe import Batches, Files, Folder, Rows

if TYPE_CHECKING:
    import duckdb
    import pandas
    import pandas as pd
    import polars
    import pyarrow as pa
    from duckdb import DuckDBPyRelation as Relation
    from polars import LazyFrame as Lazy

RUN = Run(
    run_id="0193c000-0000-7000-8000-000000000000",
    environment="test",
    project="default",
    pipeline_id="conformance",
    partition_key="2026-11-20",
    partition_grain="day",
)

ODD_VALUES = (None, "it's", 'a "b"', "a/b", "../x", "a;b=c", "100%", "a%2Fb", "ü 中文", " x ", "null", "2026-11-20")
"""Values of a partition column that a careless path or query would break on."""


# What a user writes: annotations of every kind, known to the type checker alone.
def takes_lazy(orders: Lazy) -> Lazy:
    return orders.filter(orders.collect_schema().names()[0] != "")


def takes_polars(orders: polars.DataFrame) -> polars.DataFrame:
    assert orders.height == 3
    return orders


def takes_arrow(orders: pa.Table) -> pa.Table:
    assert orders.num_rows == 3
    return orders


def takes_pandas(orders: pd.DataFrame) -> pandas.DataFrame:
    assert orders["amount"].sum() == 6
    return orders


def takes_duckdb(orders: Relation | None) -> duckdb.DuckDBPyRelation:
    assert orders is not None
    return orders.filter("amount > 0")


def takes_inputs(inputs: dict[str, pa.Table], params: Mapping[str, Any], context: Any) -> pa.Table:
    assert sorted(inputs) == ["orders", "users"]
    assert params == {"factor": 2}
    assert context == "the context"
    return inputs["orders"]


def takes_by_name(users: pa.Table, orders: pa.Table, factor: int, missing: str = "default") -> pa.Table:
    assert (users.num_rows, orders.num_rows, factor, missing) == (2, 3, 2, "default")
    return orders


def takes_anything(whatever: pa.Table, **rest: Any) -> pa.Table:
    assert rest == {"factor": 2}
    return whatever


def fails(orders: pa.Table) -> pa.Table:
    raise ValueError("no such luck")


def refuses(orders: pa.Table) -> pa.Table:
    raise DataError("too-few-rows", "not enough", hint="wait")


def gives_nothing(orders: pa.Table) -> None:
    return None


def gives_rows(orders: pa.Table) -> list[dict[str, int]]:
    return [{"a": 1}]


def asks_too_much(orders: pa.Table, ordres: pa.Table) -> pa.Table:
    return orders


def call(session: Session, function: Any, inputs: Mapping[str, Any], *, external: bool = False, **params: Any) -> Any:
    """Return what the session makes of the call."""
    entrypoint = f"{function.__module__}:{function.__name__}"
    return session.call(UserFunction(function, entrypoint, "node", params, "the context", external), inputs)


class EngineConformance:
    """Derive from it, override :meth:`engine`, and run it with pytest.

    ::

        class TestMine(EngineConformance):
            @pytest.fixture
            def engine(self):
                return MyEngine()
    """

    @pytest.fixture
    def engine(self) -> Engine:
        """Return the engine to be tested."""
        raise NotImplementedError("override the fixture 'engine'")

    @pytest.fixture
    def session(self, engine: Engine) -> Iterator[Session]:
        """An open session of the engine."""
        task = PlanTask(
            id="task",
            engine=engine.kind,
            engine_plugin=f"{type(engine).__module__}:{type(engine).__qualname__}",
            cluster="local",
            node_ids=("node",),
            retries=0,
            retry_delay_seconds=0,
            timeout_seconds=None,
            bounded=True,
        )
        with engine.open(task, RUN) as session:
            yield session

    @pytest.fixture
    def orders_table(self) -> pa.Table:
        """Three orders."""
        import pyarrow as pa

        return pa.table({"user": ["ann", "bob", None], "amount": pa.array([1, 2, 3], pa.int64())})

    @pytest.fixture
    def orders(self, session: Session, orders_table: pa.Table) -> Any:
        """The orders as the engine reads them."""
        return session.read(Rows.of(orders_table), Scan(RUN))

    @pytest.fixture
    def users(self, session: Session) -> Any:
        """Two users."""
        import pyarrow as pa

        return session.read(Rows.of(pa.table({"user": ["ann", "bob"], "country": ["de", "cn"]})), Scan(RUN))

    def written(
        self, session: Session, frame: Any, folder: Path, request: Write | None = None, **options: Any
    ) -> Folder:
        """Return the sink after the frame was written to it."""
        sink = Folder(folder=str(folder), **options)
        session.write([FrameWrite(frame, sink, request or Write("sink", RUN))])
        return sink

    @pytest.mark.parametrize("stated", [True, False])
    def test_a_source_that_speaks_arrow_alone_is_read(self, session, orders_table, tmp_path, stated) -> None:
        frame = session.read(Rows.of(orders_table, stated=stated), Scan(RUN))
        assert by_amount(self.written(session, frame, tmp_path).rows) == orders_table.to_pylist()

    def test_a_source_of_parquet_files_is_read_by_the_engine_itself(self, session, orders_table, tmp_path) -> None:
        import pyarrow.parquet as pq

        pq.write_table(orders_table, tmp_path / "part 1 [é].parquet")
        frame = session.read(Files(path=str(tmp_path / "part 1 [é].parquet")), Scan(RUN))
        assert by_amount(self.written(session, frame, tmp_path / "out").rows) == orders_table.to_pylist()

    @pytest.mark.parametrize("function", [takes_lazy, takes_polars, takes_arrow, takes_pandas, takes_duckdb])
    def test_the_annotation_chooses_the_frame_and_any_may_be_returned(
        self, session, orders, orders_table, tmp_path, function
    ) -> None:
        pytest.importorskip({"takes_pandas": "pandas", "takes_duckdb": "duckdb"}.get(function.__name__, "polars"))
        frame = call(session, function, {"orders": orders})
        assert by_amount(self.written(session, frame, tmp_path).rows) == orders_table.to_pylist()

    @pytest.mark.parametrize("function", [takes_inputs, takes_by_name])
    def test_arguments_are_matched_by_name(self, session, orders, users, orders_table, tmp_path, function) -> None:
        frame = call(session, function, {"orders": orders, "users": users}, factor=2)
        assert by_amount(self.written(session, frame, tmp_path).rows) == orders_table.to_pylist()

    def test_a_single_input_goes_first_whatever_its_name(self, session, orders, orders_table, tmp_path) -> None:
        frame = call(session, takes_anything, {"orders": orders}, factor=2)
        assert by_amount(self.written(session, frame, tmp_path).rows) == orders_table.to_pylist()

    def test_a_branch_is_found_by_its_local_id(self, session, orders, orders_table, tmp_path) -> None:
        frame = call(session, takes_arrow, {"orders.us": orders})
        assert by_amount(self.written(session, frame, tmp_path).rows) == orders_table.to_pylist()

    def test_an_argument_that_nothing_answers_to_is_named(self, session, orders) -> None:
        with pytest.raises(DefinitionError, match="'ordres'") as caught:
            call(session, asks_too_much, {"orders": orders})
        assert caught.value.code == "wrong-signature"
        assert caught.value.hint == "did you mean 'orders'?"

    def test_a_users_exception_shows_the_users_lines_first(self, session, orders) -> None:
        with pytest.raises(UserCodeError, match="no such luck") as caught:
            call(session, fails, {"orders": orders})
        assert caught.value.code == "user-code-failed"
        assert isinstance(caught.value.__cause__, ValueError)
        assert "in fails" in caught.value.notes[1]
        assert caught.value.notes[-1] == "ValueError: no such luck"

    def test_an_error_of_ours_passes_through_the_users_function(self, session, orders) -> None:
        with pytest.raises(DataError, match="not enough"):
            call(session, refuses, {"orders": orders})

    @pytest.mark.parametrize(("function", "code"), [(gives_nothing, "returned-nothing"), (gives_rows, "not-a-frame")])
    def test_what_is_no_frame_is_refused(self, session, orders, function, code) -> None:
        with pytest.raises(UserCodeError) as caught:
            call(session, function, {"orders": orders})
        assert caught.value.code == code
        assert caught.value.hint

    def test_an_external_function_may_return_nothing(self, session, orders) -> None:
        assert call(session, gives_nothing, {"orders": orders}, external=True) is None

    def test_sql_joins_its_inputs(self, engine, session, orders, users, tmp_path) -> None:
        needs_sql(engine)
        frame = session.sql(
            "select o.user, amount, '{users}' as text from {orders} o join { users } u on o.user = u.user -- {nobody}",
            {"orders": orders, "users": users},
        )
        assert by_amount(self.written(session, frame, tmp_path).rows) == [
            {"user": "ann", "amount": 1, "text": "{users}"},
            {"user": "bob", "amount": 2, "text": "{users}"},
        ]

    def test_sql_that_fails_is_told(self, engine, session, orders, tmp_path) -> None:
        needs_sql(engine)
        with pytest.raises(AiflowError) as caught:
            self.written(session, session.sql("select nope from {orders}", {"orders": orders}), tmp_path)
        assert caught.value.code == "sql-failed"
        with pytest.raises(UnknownNameError, match="ordres"):
            session.sql("select * from {ordres}", {"orders": orders})

    def test_all_sinks_are_written_in_the_order_asked(self, session, orders, tmp_path) -> None:
        files = [Folder(folder=str(tmp_path / "a")), Folder(folder=str(tmp_path / "b"), columns=("user",))]
        sinks = [files[0], Batches(), files[1]]
        done = session.write([FrameWrite(orders, sink, Write(f"sink_{n}", RUN)) for n, sink in enumerate(sinks)])
        assert [sorted(row["amount"] for row in sink.rows) for sink in sinks] == [[1, 2, 3]] * 3
        assert [written.rows for written in done] == [3, 3, 3]
        assert all(file.bytes for sink in files for file in sink.files)

    def test_odd_partition_values_keep_to_their_folder(self, session, tmp_path) -> None:
        import pyarrow as pa

        table = pa.table({"n": list(range(len(ODD_VALUES))), "key": pa.array(ODD_VALUES, pa.string())})
        sink = self.written(session, session.read(Rows.of(table), Scan(RUN)), tmp_path / "out", columns=("key",))
        assert sorted(sink.rows, key=lambda row: row["n"]) == table.to_pylist()
        for file in sink.files:
            assert (tmp_path / "out" / file.path).resolve().is_relative_to(tmp_path / "out")
            assert file.path.count("/") == 1
        assert sink.committed_schema.names == ["n", "key"]

    def test_a_text_that_means_null_as_a_folder_is_refused(self, session, tmp_path) -> None:
        import pyarrow as pa

        table = pa.table({"n": [1, 2, 3], "key": ["a", None, "__HIVE_DEFAULT_PARTITION__"]})
        with pytest.raises(DataError, match="'key'") as caught:
            self.written(session, session.read(Rows.of(table), Scan(RUN)), tmp_path / "out", columns=("key",))
        assert caught.value.code == "bad-partition-value"

    def test_a_partition_column_that_the_frame_lacks_is_filled(self, session, orders, tmp_path) -> None:
        request = Write("sink", RUN, fill={"dt": "2026-11-20"})
        text = self.written(session, orders, tmp_path / "text", request, columns=("dt",))
        typed = self.written(session, orders, tmp_path / "typed", request, columns=("dt",), types={"dt": "date32[day]"})
        for sink in (text, typed):
            assert {row["dt"] for row in sink.rows} == {"2026-11-20"}
        assert str(text.committed_schema.field("dt").type) in ("string", "large_string", "string_view")
        assert str(typed.committed_schema.field("dt").type) == "date32[day]"

    def test_a_partition_column_that_nobody_gives_is_an_error(self, session, orders, tmp_path) -> None:
        with pytest.raises(DataError, match="'dt'") as caught:
            self.written(session, orders, tmp_path, columns=("dt",))
        assert caught.value.code == "missing-partition-column"

    def test_an_error_of_one_of_several_writes_has_its_place(self, session, orders, tmp_path) -> None:
        sinks = [Folder(folder=str(tmp_path / "good")), Folder(folder=str(tmp_path / "bad"), columns=("dt",))]
        places = [Where("pipelines/p.py", line, about=f"node 'sink_{line}'") for line in (8, 9)]
        with pytest.raises(DataError) as caught:
            session.write(
                [
                    FrameWrite(orders, sink, Write(f"sink_{place.line}", RUN, where=place))
                    for sink, place in zip(sinks, places, strict=True)
                ]
            )
        assert caught.value.where == places[1]

    @pytest.mark.parametrize("columns", [(), ("user",)])
    def test_an_empty_frame_is_committed_with_its_columns(self, session, orders_table, tmp_path, columns) -> None:
        frame = session.read(Rows.of(orders_table.slice(0, 0)), Scan(RUN))
        sink = self.written(session, frame, tmp_path, columns=columns)
        assert sink.rows == []
        assert sink.files == ()
        assert sink.committed_schema.names == ["user", "amount"]

    def test_widths_follow_the_table(self, session, orders, tmp_path) -> None:
        sink = self.written(session, orders, tmp_path, types={"amount": "int32"})
        assert str(sink.committed_schema.field("amount").type) == "int32"

    def test_moments_are_written_in_utc(self, session, tmp_path) -> None:
        import pyarrow as pa

        moment = dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC)
        table = pa.table({"at": pa.array([moment], pa.timestamp("us", "Europe/Berlin"))})
        sink = self.written(session, session.read(Rows.of(table), Scan(RUN)), tmp_path)
        assert str(sink.committed_schema.field("at").type) == "timestamp[us, tz=UTC]"
        assert sink.rows[0]["at"] == moment

    def test_columns_are_told_in_arrows_names(self, session, orders) -> None:
        assert session.columns(orders) in (None, (("user", "string"), ("amount", "int64")))
        assert session.rows(orders) in (None, 3)


def needs_sql(engine: Engine) -> None:
    """Skip the test on an engine that runs no SQL."""
    if engine.sql_dialect is None:
        pytest.skip("the engine runs no SQL")


def by_amount(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows in a fixed order."""
    return sorted(rows, key=lambda row: row["amount"])
