"""Writing a table of the lake: one commit, the run's partition and nothing else, whoever comes in between."""

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from hypothesis import example, given
from hypothesis import strategies as st

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError, ConfigurationError, DataError, StoreError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, Scan, Write, Written

DAY, NEXT = "2026-11-20", "2026-11-21"


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"))


@pytest.fixture
def sink(environment):
    return lambda **options: OneLakeSink.load({"table": "feature.out", **options}, environment)


@pytest.fixture
def rows(environment):
    def rows(columns: str | None = None) -> list:
        frame = OneLakeSource.load({"table": "feature.out"}, environment).to_polars(Scan()).collect()
        frame = frame.select(columns.split()) if columns else frame
        return sorted(frame.rows(), key=repr)

    return rows


def run_of(day: str | None = DAY, generation: int = 1, *, last=None, grain="day", timezone="UTC", **facts) -> Run:
    return Run.model_validate(
        {
            "run_id": f"0193c000-0000-7000-8000-{generation:012d}",
            "environment": "dev",
            "project": "p",
            "pipeline_id": "x",
            "partition_key": day,
            "last_partition_key": last,
            "partition_grain": grain if day else None,
            "timezone": timezone,
            "execution": generation,
            "generation": generation,
            **facts,
        }
    )


def write(sink: OneLakeSink, frame, run: Run | None = None, time: str | None = "dt", fill=None) -> Written:
    run = run or run_of()
    fill = fill if fill is not None else ({time: run.partition_key} if time and not run.last_partition_key else {})
    frame = pl.DataFrame(frame) if isinstance(frame, dict) else frame
    table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
    return sink.write(table.to_reader(), Write("out", run, fill, time))


def code(error) -> str:
    assert isinstance(error.value, AiflowError)
    return error.value.code


def log_of(environment: Environment) -> dict:
    return DeltaTable(f"{environment.lake}/feature/out").history(1)[0]


# What is replaced


def test_a_first_write_makes_the_table(sink, rows, environment):
    written = write(sink(partition_by=["dt"]), {"id": [1, 2]})
    assert rows() == [(1, DAY), (2, DAY)]
    assert (written.rows, written.table_version, written.partitions) == (2, 0, (f"dt={DAY}",))
    assert written.columns == (("id", "int64"), ("dt", "string"))
    assert written.address == f"{environment.lake}/feature/out"
    assert written.bytes == sum(file.stat().st_size for file in Path(written.address).rglob("*.parquet"))


def test_the_commit_says_who_made_it(sink, environment):
    write(sink(partition_by=["dt"]), {"id": [1]}, run_of(generation=7))
    history = log_of(environment)
    assert history["aiflow.pipeline"] == "p/x"
    assert history["aiflow.run_id"] == "0193c000-0000-7000-8000-000000000007"
    assert (history["aiflow.execution"], history["aiflow.generation"]) == ("7", "7")
    table = DeltaTable(f"{environment.lake}/feature/out")
    assert table.transaction_version(run_of().write_key("out")) == 7


def test_overwrite_replaces_the_day_whatever_its_other_dimensions(sink, rows):
    regional = sink(partition_by=["region", "dt"], time="dt")
    write(regional, {"id": [1, 2], "region": ["eu", "us"]}, run_of(DAY, 1))
    write(regional, {"id": [3], "region": ["eu"]}, run_of(NEXT, 2))
    write(regional, {"id": [4], "region": ["asia"]}, run_of(DAY, 3))
    assert rows("id region dt") == [(3, "eu", NEXT), (4, "asia", DAY)]


def test_without_a_time_column_the_table_is_replaced_whole(sink, rows):
    write(sink(), {"id": [1, 2]}, run_of(DAY, 1), time=None)
    write(sink(), {"id": [3]}, run_of(NEXT, 2), time=None)
    assert rows() == [(3,)]


def test_a_late_older_day_does_not_replace_a_newer_whole(sink, rows):
    write(sink(), {"id": [2]}, run_of(NEXT, 5), time=None)
    assert write(sink(), {"id": [1]}, run_of(DAY, 4), time=None).superseded
    assert rows() == [(2,)]


def test_a_run_without_partition_replaces_the_whole(sink, rows):
    by_region = sink(partition_by=["region"])
    write(by_region, {"id": [1, 2], "region": ["eu", "us"]}, run_of(None, 1), time=None)
    write(by_region, {"id": [3], "region": ["eu"]}, run_of(None, 2), time="region")
    assert rows() == [(3, "eu")]


def test_overwrite_partitions_replaces_what_the_frame_holds(sink, rows):
    late = sink(partition_by=["dt", "region"], mode="overwrite_partitions")
    first = {"id": [1, 2, 3, 4], "dt": [DAY, DAY, NEXT, None], "region": ["eu", "us", "eu", None]}
    write(late, first, run_of(DAY, 1), time=None)
    write(late, {"id": [5, 6], "dt": [DAY, None], "region": ["us", None]}, run_of(DAY, 2), time=None)
    assert rows("id") == [(1,), (3,), (5,), (6,)]
    write(late, {"id": pl.Series([], dtype=pl.Int64), "dt": [], "region": []}, run_of(DAY, 3), time=None)
    assert rows("id") == [(1,), (3,), (5,), (6,)]


def test_rows_of_other_days_are_an_error_and_nothing_changes(sink, rows, environment):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1]})
    with pytest.raises(DataError, match=r"the frame has rows of dt=2026-11-21, null") as caught:
        write(by_day, {"id": [2, 3, 4], "dt": [DAY, NEXT, None]}, run_of(generation=2))
    assert code(caught) == "rows-outside-partition"
    assert rows() == [(1, DAY)]
    assert len(list(Path(environment.lake).rglob("*.parquet"))) == 1, "the files of the failed write are gone"


def test_a_range_replaces_all_its_days(sink, rows):
    by_day = sink(partition_by=["dt"])
    for generation, day in enumerate(("2026-11-19", DAY, NEXT, "2026-11-22"), 1):
        write(by_day, {"id": [generation]}, run_of(day, generation))
    write(by_day, {"id": [7, 8], "dt": [DAY, DAY]}, run_of(DAY, 5, last=NEXT))
    assert rows("id") == [(1,), (4,), (7,), (8,)]


def test_a_late_range_leaves_the_day_that_a_newer_run_made(sink, rows):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1]}, run_of(DAY, 6))
    late = write(by_day, {"id": [7, 8], "dt": [DAY, NEXT]}, run_of(DAY, 5, last=NEXT))
    assert rows() == [(1, DAY), (8, NEXT)]
    assert (late.rows, late.superseded) == (1, False)
    assert write(by_day, {"id": [9]}, run_of(NEXT, 4)).superseded, "the range counts for each of its days"


def test_an_hour_is_replaced_in_the_zone_of_the_run(sink, rows):
    by_hour = sink(partition_by=["hour"])
    moments = {"hour": [dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC)]}
    run = run_of("2026-11-20T05", 1, grain="hour", timezone="Europe/Berlin")
    written = write(by_hour, {"id": [1], **moments}, run, time="hour")
    assert written.partitions == ("hour=2026-11-20T05",)
    again = run_of("2026-11-20T05", 2, grain="hour", timezone="Europe/Berlin")
    write(by_hour, {"id": [2]}, again, time="hour")
    assert rows() == [(2, dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC))]


def test_a_filled_column_takes_the_tables_type(sink, rows):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1], "dt": [dt.date(2026, 11, 20)]})
    write(by_day, {"id": [2]}, run_of(NEXT, 2))
    assert rows() == [(1, dt.date(2026, 11, 20)), (2, dt.date(2026, 11, 21))]
    assert by_day.destination(Write("out", run_of())).types == {"id": "int64", "dt": "date32[day]"}


def test_a_partition_column_that_nothing_fills_is_an_error(sink):
    with pytest.raises(DataError, match=r"lacks the partition column 'dt'.*id, name") as caught:
        write(sink(partition_by=["dt"]), {"id": [1], "name": ["x"]}, fill={})
    assert code(caught) == "missing-partition-column"


# What the values may be


ODD = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=25))


@given(values=st.lists(ODD, min_size=1, max_size=4))
@example(values=["a'b\"; drop table x; --", "../../etc/passwd", "%2F", "/", None])
@example(values=["null", None, " ", ".", "..", "a=b", "a/b=c"])
@example(values=["日本", "é", "e\u0301", "\\", "\n", "\t", "#", "?", "+", "a b"])
def test_odd_partition_values_come_back_as_they_were(tmp_path_factory, values):
    lake = tmp_path_factory.mktemp("odd")
    environment = Environment(lake=str(lake))
    out = OneLakeSink.load({"table": "feature.out", "mode": "overwrite_partitions", "partition_by": ["v"]}, environment)
    frame = pl.DataFrame({"id": range(len(values)), "v": values}, schema={"id": pl.Int64, "v": pl.String})
    write(out, frame, time=None)
    source = OneLakeSource.load({"table": "feature.out"}, environment)
    back = source.to_polars(Scan()).sort("id").collect()
    assert back["v"].to_list() == values
    by_arrow = pa.Table.from_batches(source.scan(Scan())).sort_by("id")
    assert by_arrow.column("v").to_pylist() == values
    one = OneLakeSource.load({"table": "feature.out", "partitions": {"v": values[0]}}, environment)
    wanted = [index for index, value in enumerate(values) if value == values[0]]
    assert one.to_polars(Scan()).sort("id").collect()["id"].to_list() == wanted
    assert {path.name for path in lake.iterdir()} == {"feature", "_locks"}
    write(out, frame.with_columns(pl.col("id") + 100), run_of(generation=2), time=None)
    assert source.to_polars(Scan()).select(pl.col("id").min()).collect().item() == 100


def test_empty_text_is_null_as_deltas_protocol_says(sink, rows):
    write(sink(partition_by=["v"], mode="overwrite_partitions"), {"id": [1], "v": [""]}, time=None)
    assert rows() == [(1, None)]


@pytest.mark.parametrize(
    "values",
    [
        [1, -5],
        [True, False],
        [1.5, -0.25],
        [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
        [dt.datetime(2026, 1, 1, 3, 4, 5, 678901), dt.datetime(1969, 12, 31)],  # noqa: DTZ001 local times
        [dt.datetime(2026, 1, 1, 3, tzinfo=dt.UTC), None],
        [Decimal("1.50"), Decimal("-2.00")],
    ],
)
def test_typed_partition_values_come_back_as_they_were(sink, rows, values):
    write(sink(partition_by=["v"], mode="overwrite_partitions"), {"id": [1, 2], "v": values}, time=None)
    assert rows() == [(1, values[0]), (2, values[1])]


def test_a_value_too_long_for_a_folder_is_an_error(sink):
    with pytest.raises(DataError) as caught:
        write(sink(partition_by=["v"], mode="overwrite_partitions"), {"id": [1], "v": ["x" * 300]}, time=None)
    assert code(caught) == "bad-partition-value"


# What the columns may be


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"id": ["1"], "v": [1.0]}, "'id' is string in the frame and int64 in the table.*cast 'id' to int64"),
        ({"id": [1]}, r"the frame lacks 'v' \(double\).*select exactly id, v, dt"),
        ({"id": [1], "v": [1.0], "w": [1]}, r"the table has no 'w' \(int64\)"),
        ({"id": [1], "vv": [1.0]}, "the table has no 'vv'.*"),
        ({"id": [1], "v": [[1.0]]}, r"'v' is list<item: double> in the frame and double in the table"),
    ],
)
def test_a_frame_that_does_not_fit_the_table_is_refused(sink, rows, frame, said):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1], "v": [1.5]})
    with pytest.raises(DataError, match=said) as caught:
        write(by_day, frame, run_of(generation=2))
    assert code(caught) == "schema-mismatch"
    assert rows() == [(1, 1.5, DAY)]


def test_the_order_of_columns_is_free(sink, rows):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1], "v": [1.5]})
    write(by_day, {"dt": [NEXT], "v": [2.5], "id": [2]}, run_of(NEXT, 2))
    assert rows("id v dt") == [(1, 1.5, DAY), (2, 2.5, NEXT)]


def test_unsigned_numbers_categories_and_other_clocks_are_written_as_all_engines_read_them(sink, rows):
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    frame = pl.DataFrame({"n": [2**32 - 1], "c": ["x"], "t": [moment]}).with_columns(
        pl.col("n").cast(pl.UInt32), pl.col("c").cast(pl.Categorical), pl.col("t").dt.cast_time_unit("ns")
    )
    frame = frame.with_columns(pl.col("t").dt.convert_time_zone("Europe/Berlin"))
    written = write(sink(), frame, time=None)
    assert written.columns == (("n", "int64"), ("c", "string"), ("t", "timestamp[us, tz=UTC]"))
    assert rows() == [(2**32 - 1, "x", moment)]


@pytest.mark.parametrize(
    "column",
    [pa.array([None]), pa.array([dt.timedelta(1)]), pa.array([dt.time(1)]), pa.array([{"x": dt.timedelta(1)}])],
)
def test_types_that_a_table_cannot_hold_are_refused(sink, column, environment):
    with pytest.raises(DataError) as caught:
        write(sink(), pa.table({"id": [1], "odd": column}), time=None)
    assert code(caught) == "unsupported-type"
    assert "'odd" in str(caught.value)


def test_files_with_types_that_no_engine_reads_are_refused(sink):
    out, request = sink(), Write("out", run_of())
    folder = Path(out.destination(request).folder)
    table = pa.table({"n": pa.array([1], pa.uint32()), "t": pa.array([1], pa.timestamp("ns", "UTC"))})
    pq.write_table(table, folder / "a.parquet")
    with pytest.raises(DataError, match=r"'n' is unsigned.*write int64; column 't' holds nanoseconds"):
        out.commit([DataFile("a.parquet", 1, 1)], table.schema, request)
    assert not folder.exists()


def test_a_number_that_does_not_fit_is_an_error(sink):
    with pytest.raises(DataError) as caught:
        write(sink(), pa.table({"n": pa.array([2**63], pa.uint64())}), time=None)
    assert code(caught) == "value-out-of-range"


def test_an_empty_frame_without_types_empties_its_day(sink, rows):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1]}, run_of(DAY, 1))
    write(by_day, {"id": [2]}, run_of(NEXT, 2))
    assert write(by_day, pa.table({"id": []}), run_of(DAY, 3)).rows == 0
    assert rows() == [(2, NEXT)]


def test_other_partition_columns_than_the_tables_are_refused(sink):
    write(sink(partition_by=["dt"]), {"id": [1]})
    with pytest.raises(DataError, match=r"partition_by=\['dt'\]") as caught:
        write(sink(), {"id": [1], "dt": [DAY]}, run_of(generation=2), time=None)
    assert code(caught) == "partition-mismatch"


def test_a_time_column_must_be_a_partition_column(sink):
    with pytest.raises(ConfigurationError) as caught:
        write(sink(partition_by=["region"]), {"id": [1], "region": ["eu"]}, time="dt")
    assert code(caught) == "no-time-column"


# Who comes in between


@pytest.mark.parametrize("existing", [True, False])
def test_writers_of_different_days_all_land(sink, rows, existing):
    days = [f"2026-11-{day:02}" for day in range(1, 9)]
    if existing:
        write(sink(partition_by=["dt"]), {"id": [99]}, run_of("2026-10-01", 1))
    start, failed = threading.Barrier(len(days)), []

    def work(number: int, day: str) -> None:
        start.wait()
        try:
            write(sink(partition_by=["dt"]), {"id": [number]}, run_of(day, 2 + number))
        except BaseException as error:  # noqa: BLE001 whatever a thread dies of is to be seen
            failed.append(error)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(days)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [row for row in rows() if row[0] != 99] == list(enumerate(days))


def test_of_two_pipelines_that_write_one_day_at_once_one_remains(sink, rows):
    start = threading.Barrier(6)
    write(sink(partition_by=["dt"]), {"id": [99]}, run_of("2026-10-01", 1))

    def work(number: int) -> None:
        start.wait()
        write(sink(partition_by=["dt"]), {"id": [number, number]}, run_of(DAY, 2, pipeline_id=f"x{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of_the_day = [row for row in rows() if row[1] == DAY]
    assert len(of_the_day) == 2
    assert len(set(of_the_day)) == 1


def test_attempts_of_one_execution_at_once_leave_one_of_them(sink, rows):
    start = threading.Barrier(4)

    def work(attempt: int) -> None:
        start.wait()
        write(sink(partition_by=["dt"]), {"id": [attempt, attempt]}, run_of(DAY, 1, attempt=attempt))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows()) == 2
    assert len(set(rows())) == 1


KILLED = """
import os, sys
sys.path[:0] = {path!r}
import pyarrow as pa
from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink
from aiflow_sdk.connectors.onelake import sink as module
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Write
run = Run.model_validate_json({run!r})
if {before!r}:
    module.commit = lambda change: os._exit(9)
else:
    done = OneLakeSink.commit
    OneLakeSink.commit = lambda *given: (done(*given), os._exit(9))
sink = OneLakeSink.load({{"table": "feature.out", "partition_by": ["dt"]}}, Environment(lake={lake!r}))
sink.write(pa.table({{"id": [7, 8]}}).to_reader(), Write("out", run, {{"dt": "2026-11-20"}}, "dt"))
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_writer_that_is_killed_leaves_the_old_rows_or_the_new_ones(sink, rows, environment, before):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1]})
    run = run_of(generation=2)
    path = [entry for entry in sys.path if entry]
    program = KILLED.format(path=path, run=json.dumps(run.to_dict()), before=before, lake=environment.lake)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 9, done.stderr
    assert rows("id") == ([(1,)] if before else [(7,), (8,)])
    written = write(by_day, {"id": [7, 8]}, run_of(generation=2, attempt=2))
    assert rows("id") == [(7,), (8,)]
    assert (written.rows, written.superseded) == (2, False)


def test_what_a_killed_writer_leaves_is_vacuumed(sink, environment):
    by_day = sink(partition_by=["dt"])
    write(by_day, {"id": [1]})
    left = Path(by_day.destination(Write("out", run_of(generation=2))).folder) / "dt=2026-11-20" / "part-0.parquet"
    left.parent.mkdir()
    pq.write_table(pa.table({"id": [2]}), left)
    os.utime(left, (0, 0))
    table = DeltaTable(f"{environment.lake}/feature/out")
    found = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True, full=True)
    assert [name for name in found if name.endswith(f"{left.parent.parent.name}/dt=2026-11-20/part-0.parquet")]


def test_a_commit_without_its_destination_is_refused(sink):
    with pytest.raises(StoreError) as caught:
        sink().commit([], pa.schema({"id": pa.int64()}), Write("out", run_of()))
    assert code(caught) == "no-destination"


def test_a_table_that_cannot_be_committed_to_is_an_error_at_once(sink, environment):
    write(sink(), {"id": [1]}, time=None)
    table = DeltaTable(f"{environment.lake}/feature/out")
    table.alter.set_table_properties({"delta.appendOnly": "true"})
    with pytest.raises(DataError, match="append-only") as caught:
        write(sink(), {"id": [2]}, run_of(generation=2), time=None)
    assert code(caught) == "unsupported-table-feature"


def test_the_identity_is_that_of_the_runs_partition(sink):
    by_day = sink(partition_by=["dt"])
    assert by_day.identity(run_of(), "out") is None
    written = write(by_day, {"id": [1]}, run_of(DAY, 1))
    assert written.identity == by_day.identity(run_of(DAY), "out")
    write(by_day, {"id": [1]}, run_of(NEXT, 2))
    assert written.identity == by_day.identity(run_of(DAY), "out")
    assert write(by_day, {"id": [1]}, run_of(DAY, 3)).identity != written.identity


def test_other_readers_of_delta_see_the_same(sink, environment):
    write(sink(partition_by=["dt", "s"], time="dt"), {"id": [1, 2, 3], "s": ["a'b/%2F ü", None, "x"]})
    folder = f"{environment.lake}/feature/out"
    expected = [(1, DAY, "a'b/%2F ü"), (2, DAY, None), (3, DAY, "x")]
    assert pl.scan_delta(folder).select("id", "dt", "s").sort("id").collect().rows() == expected
    table = DeltaTable(folder).to_pyarrow_table().sort_by("id")
    assert list(zip(*(table.column(name).to_pylist() for name in ("id", "dt", "s")), strict=True)) == expected


# What fails after the commit


def after_a_commit(monkeypatch, error: BaseException) -> None:
    """Let the next commit land, and fail then."""
    landed = DeltaTable.create_write_transaction

    def commit(self, *arguments, **options):
        landed(self, *arguments, **options)
        monkeypatch.setattr(DeltaTable, "create_write_transaction", landed)
        raise error

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)


@pytest.mark.parametrize("error", [DeltaError("the checkpoint failed"), OSError("no space left on device")])
def test_a_write_that_landed_before_it_failed_is_a_write(sink, rows, monkeypatch, error):
    write(sink(partition_by=["dt"]), {"id": [1]}, run_of(generation=1))
    after_a_commit(monkeypatch, error)
    written = write(sink(partition_by=["dt"]), {"id": [2, 3]}, run_of(generation=2))
    assert (written.rows, written.superseded) == (2, False)
    assert rows() == [(2, DAY), (3, DAY)]


def test_files_of_a_commit_that_landed_outlive_a_ctrl_c(sink, rows, monkeypatch):
    write(sink(partition_by=["dt"]), {"id": [1]}, run_of(generation=1))
    after_a_commit(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write(sink(partition_by=["dt"]), {"id": [2]}, run_of(generation=2))
    assert rows() == [(2, DAY)]


def test_others_rows_that_an_upsert_wrote_anew_outlive_a_ctrl_c(sink, rows, monkeypatch):
    merging = sink(partition_by=["dt"], mode="upsert", keys=["id"])
    write(merging, {"id": [1, 2]}, run_of(DAY, 1))
    after_a_commit(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write(merging, {"id": [2, 3]}, run_of(NEXT, 2))
    assert rows() == [(1, DAY), (2, NEXT), (3, NEXT)]


@pytest.mark.parametrize("error", [DeltaError("the answer was lost"), KeyboardInterrupt()])
def test_a_widened_table_whose_answer_was_lost_keeps_its_files(sink, rows, monkeypatch, error):
    widening = sink(partition_by=["dt"], mode="append", schema_evolution="widen")
    write(widening, pl.DataFrame({"id": [1]}, {"id": pl.Int32}), run_of(DAY, 1))
    after_a_commit(monkeypatch, error)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            write(widening, {"id": [2**40]}, run_of(NEXT, 2))
        assert rows() == [(1, DAY)]
    write(widening, {"id": [2**40]}, run_of(NEXT, 2, attempt=2))
    assert rows() == [(1, DAY), (2**40, NEXT)]


def test_a_checkpoint_that_cannot_be_written_loses_no_file(sink, rows, environment):
    for generation in range(1, 101):
        write(sink(partition_by=["dt"]), {"id": [generation]}, run_of(generation=generation))
    # delta-rs writes a checkpoint with every hundredth commit; here it finds a folder in its place.
    (Path(environment.lake) / "feature" / "out" / "_delta_log" / f"{100:020}.checkpoint.parquet").mkdir()
    for generation in range(101, 103):
        write(sink(partition_by=["dt"]), {"id": [generation]}, run_of(generation=generation))
        assert rows() == [(generation, DAY)]


def test_an_attempt_with_other_rows_takes_the_place_of_the_same_executions_earlier_one(sink, rows):
    write(sink(partition_by=["dt"]), {"id": [1]}, run_of(generation=3))
    write(sink(partition_by=["dt"]), {"id": [2]}, run_of(generation=3, attempt=2))
    assert rows() == [(2, DAY)]


def test_a_table_knows_the_newest_generation_of_each_write(environment, sink) -> None:
    by_day = sink(partition_by=["dt"])
    assert by_day.newest_generation(Write("out", run_of(), {}, "dt")) is None
    for day, generation in ((DAY, 3), (NEXT, 7), (DAY, 5)):
        write(by_day, {"id": [1]}, run_of(day, generation))

    def newest(day: str, node_id: str = "out", **facts) -> int | None:
        # A sink of another process: nothing is remembered but the table.
        fresh = OneLakeSink.load({"table": "feature.out", "partition_by": ["dt"]}, environment)
        return fresh.newest_generation(Write(node_id, run_of(day, **facts), {}, "dt"))

    assert (newest(DAY), newest(NEXT), newest("2026-11-22")) == (5, 7, None)
    assert newest(DAY, last=NEXT) == 7
    assert newest(DAY, "other") is None
    assert newest(DAY, pipeline_id="another") is None


def test_a_table_replaced_whole_knows_the_newest_generation_of_any_day(environment) -> None:
    whole = OneLakeSink.load({"table": "feature.out"}, environment)
    write(whole, {"id": [1]}, run_of(DAY, 9), time=None)
    assert whole.newest_generation(Write("out", run_of(NEXT), {}, None)) == 9


@pytest.mark.parametrize("path", ["/etc/evil", "//etc/evil", "s3://bucket/evil", "file:///etc/evil"])
def test_an_absolute_path_is_refused_at_once(path: str) -> None:
    for plugin in (OneLakeSink, OneLakeSource):
        with pytest.raises(ConfigurationError) as caught:
            plugin.load({"path": path})
        assert caught.value.code == "outside-lake"


def test_a_link_in_the_lake_that_leads_outside_is_refused(tmp_path, environment) -> None:
    outside, lake = tmp_path / "outside", tmp_path / "lake"
    outside.mkdir()
    lake.mkdir()
    (lake / "feature").symlink_to(outside)
    with pytest.raises(ConfigurationError) as caught:
        write(OneLakeSink.load({"table": "feature.out"}, environment), {"id": [1]}, time=None)
    assert caught.value.code == "outside-lake"
    assert os.listdir(outside) == []


def test_readers_of_one_version_share_a_state_and_see_every_change(environment, sink, rows) -> None:
    import shutil

    from aiflow_sdk.connectors.onelake.location import table_place
    from aiflow_sdk.connectors.onelake.table import read_table

    place = table_place(environment, "feature.out", None)
    folder = Path(environment.lake) / "feature/out"
    for generation in (1, 2):
        write(sink(), {"id": [generation]}, run_of(DAY, generation), time=None)
        first = read_table(place)
        assert first is read_table(place)
        assert rows() == [(generation,)]
    assert read_table(place, 0).version == 0
    shutil.rmtree(folder)
    assert read_table(place) is None
    write(sink(), {"name": ["anew"]}, run_of(DAY, 3), time=None)
    assert rows() == [("anew",)]


def test_a_table_is_opened_once_a_write(environment, sink, monkeypatch) -> None:
    import deltalake

    opened: list[str] = []

    class Counted(DeltaTable):
        def __init__(self, address: str, **options: Any) -> None:
            opened.append(address)
            super().__init__(address, **options)

    write(sink(), {"id": [0]}, run_of(DAY, 1), time=None)
    monkeypatch.setattr(deltalake, "DeltaTable", Counted)  # the real one, counted
    for generation in (2, 3):
        one = sink()
        assert one.newest_generation(Write("out", run_of(DAY, generation), {}, None)) == generation - 1
        write(one, {"id": [generation]}, run_of(DAY, generation), time=None)
    # The table as its first write left it was known; as the second left it, it is opened to be written to.
    assert len(opened) == 1


def test_the_log_is_summed_up_after_ten_commits_and_nothing_is_forgotten(environment, sink, rows) -> None:
    daily = sink(partition_by=["dt"])
    days = [f"2026-11-{day:02}" for day in range(1, 12)]
    for generation, day in enumerate(days, 1):
        write(daily, {"id": [generation]}, run_of(day, generation))
    log = Path(environment.lake) / "feature/out/_delta_log"
    assert [file.name for file in log.glob("*.parquet")] == ["00000000000000000009.checkpoint.parquet"]
    for number in range(9):  # what a reader needs is in the sum
        (log / f"{number:020}.json").unlink()
    assert rows() == sorted(((generation, day) for generation, day in enumerate(days, 1)), key=repr)
    assert write(daily, {"id": [0]}, run_of(days[0], 1, run_id="0193c000-0000-7000-8000-0000000000aa")).rows == 1
    assert write(daily, {"id": [9]}, run_of(days[1], 1)).superseded


def test_a_table_that_says_how_often_its_log_is_summed_up_is_obeyed(environment, sink) -> None:
    folder = Path(environment.lake) / "feature/out"
    folder.mkdir(parents=True)
    schema = pa.schema({"id": pa.int64()})
    DeltaTable.create(str(folder), schema, configuration={"delta.checkpointInterval": "4"})
    for generation in range(1, 11):
        write(sink(), {"id": [generation]}, run_of(DAY, generation), time=None)
    found = sorted(file.name[18:20] for file in (folder / "_delta_log").glob("*.parquet"))
    assert found == ["03", "07"]


def test_writers_of_one_process_share_a_table_and_lose_nothing(environment, sink, rows) -> None:
    daily = sink(partition_by=["dt"])
    write(daily, {"id": [0]}, run_of("2026-10-01", 1))

    def commit(day: int) -> bool:
        one, run = sink(partition_by=["dt"]), run_of(f"2026-11-{day:02}", day)
        assert one.newest_generation(Write("out", run, {}, "dt")) is None
        return write(one, {"id": [day]}, run).superseded

    with ThreadPoolExecutor(24) as pool:
        assert not any(pool.map(commit, range(1, 25)))
    assert sorted(rows("id")) == [(number,) for number in range(25)]


def test_a_write_stands_although_its_log_could_not_be_summed_up(environment, sink, rows, monkeypatch) -> None:
    def fail(table: DeltaTable) -> None:
        raise DeltaError("no space")

    daily = sink(partition_by=["dt"])
    for day in range(1, 10):
        write(daily, {"id": [day]}, run_of(f"2026-11-{day:02}", day))
    monkeypatch.setattr(DeltaTable, "create_checkpoint", fail)
    written = write(daily, {"id": [10]}, run_of("2026-11-10", 10))
    assert (written.rows, written.table_version, written.superseded) == (1, 9, False)
    assert sorted(rows("id")) == [(number,) for number in range(1, 11)]


def test_an_option_that_the_store_does_not_have_is_no_fault_of_the_table() -> None:
    environment = Environment(lake="abfss://c@a.dfs.core.windows.net/lake", storage={"acount": "a"})
    with pytest.raises(ConfigurationError) as caught:
        write(OneLakeSink.load({"table": "feature.out"}, environment), {"id": [1]}, time=None)
    assert caught.value.code == "bad-storage"


@pytest.mark.parametrize("path", ["feature", "feature/out/more"])
def test_a_table_lies_in_no_other_one_and_around_none(environment, sink, path) -> None:
    write(sink(), {"id": [1]}, run_of(DAY, 1), time=None)
    before = sorted(Path(environment.lake).rglob("*"))
    other = OneLakeSink.load({"path": path}, environment)
    with pytest.raises(ConfigurationError) as caught:
        write(other, {"id": [2]}, run_of(DAY, 1), time=None)
    assert caught.value.code == "taken-place"
    assert sorted(Path(environment.lake).rglob("*")) == before


@pytest.mark.parametrize("path", ["mart/t/_delta_log", "mart/_Delta_Log/t", "a%2F..%2F..%2Fb", "mart/%2e%2e/t"])
def test_a_path_that_names_a_log_or_is_encoded_is_refused(environment, path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OneLakeSink.load({"path": path}, environment)
    assert caught.value.code == "bad-table-path"


def test_before_its_first_version_a_table_was_not_there(environment, sink) -> None:
    write(sink(), {"id": [1]}, run_of(DAY, 1), time=None)
    source = OneLakeSource.load({"table": "feature.out", "as_of": "2020-01-01"}, environment)
    with pytest.raises(DataError, match="was not there at 2020-01-01") as caught:
        source.arrow_schema()
    assert caught.value.code == "unknown-version"
    assert "number 0" in (caught.value.hint or "")


def test_a_column_that_differs_in_case_alone_is_not_added(sink) -> None:
    write(sink(), {"id": [1], "v": [1]}, run_of(DAY, 1), time=None)
    with pytest.raises(DataError) as caught:
        write(sink(schema_evolution="add_columns"), {"id": [1], "V": [1]}, run_of(DAY, 2), time=None)
    assert caught.value.code == "schema-mismatch"
    assert "the frame lacks 'v'" in caught.value.message
    assert "the table has no 'V'" in caught.value.message
    assert caught.value.notes == ("table feature.out has: id int64, v int64",)
