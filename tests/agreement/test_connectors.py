"""Both engines write and read the same rows, whatever the connector and the values of its partitions."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.files import FilesSink, FilesSource
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine, FrameWrite, Scan, Session, Source, Write

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
ODD = ["a'b\"; --", "../x", "%2F", "/", "日本 é", " x ", "null", "a=b", None, "x"]
ENGINES: dict[str, Engine] = {"python": PythonEngine(), "spark": SparkEngine()}


class Table(Source, kind="table-of-the-test"):
    """A table of the test."""

    rows: Any

    def dataset(self) -> DatasetName:
        return DatasetName("memory", "table")

    def arrow_schema(self) -> pa.Schema:
        return self.rows.schema

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        yield from self.rows.to_batches()


def run_of(generation: int = 1, key: str = "2026-11-20", grain: Any = "day", timezone: str = "UTC") -> Run:
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id="x",
        partition_key=key,
        partition_grain=grain,
        timezone=timezone,
        generation=generation,
    )


@pytest.fixture(scope="module", params=list(ENGINES))
def session(request) -> Iterator[Session]:
    task = PlanTask(
        id="task",
        engine=request.param,
        engine_plugin="unused",
        cluster="local",
        node_ids=("node",),
        retries=0,
        retry_delay_seconds=0,
        timeout_seconds=None,
        bounded=True,
    )
    with ENGINES[request.param].open(task, run_of()) as session:
        yield session


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake="lake", root=tmp_path)


def write(session: Session, sink, rows: dict | pa.Table, request: Write):
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    frame = session.read(Table(rows=table), Scan(request.run))
    return session.write([FrameWrite(frame, sink, request)])[0]


def read(session: Session, source, tmp_path) -> list[dict]:
    """Return the rows as the engine reads them, through a file that it writes."""
    copy = FilesSink.load({"path": f"copies/{len(list(tmp_path.iterdir()))}"}, source.environment)
    session.write([FrameWrite(session.read(source, Scan(run_of())), copy, Write("copy", run_of()))])
    back = FilesSource.load({"path": copy.path, "root": "lake", "format": "parquet"}, source.environment)
    return sorted(back.to_polars(Scan()).collect().to_dicts(), key=lambda row: row["id"])


FRAME = {
    "id": list(range(len(ODD))),
    "n": pa.array([2**31] * len(ODD), pa.uint32()),
    "t": pa.array([NOON] * len(ODD), pa.timestamp("ns", "Europe/Berlin")),
    "tags": [["a", None]] * len(ODD),
    "v": ODD,
}


@pytest.mark.parametrize("kind", ["onelake", "files"])
def test_odd_partition_values(session, environment, tmp_path, kind):
    if kind == "onelake":
        options: dict[str, Any] = {"table": "raw.odd", "mode": "overwrite_partitions", "partition_by": ["v"]}
        sink: Any = OneLakeSink.load(options, environment)
        source: Source = OneLakeSource.load({"table": "raw.odd"}, environment)
    else:
        sink = FilesSink.load({"path": "odd", "partition_by": ["v"]}, environment)
        source = FilesSource.load({"path": "odd", "root": "lake", "format": "parquet"}, environment)
    written = write(session, sink, FRAME, Write("out", run_of()))
    assert written.rows == len(ODD)
    expected = [{"id": i, "n": 2**31, "t": NOON, "tags": ["a", None], "v": value} for i, value in enumerate(ODD)]
    assert read(session, source, tmp_path) == expected
    assert pa.Table.from_batches(source.scan(Scan())).num_rows == len(ODD)


@pytest.mark.parametrize(
    "values",
    [
        [dt.date(2026, 11, 20), dt.date(1969, 12, 31)],
        [NOON, NOON.replace(microsecond=123456)],
        [NOON.replace(tzinfo=None), None],
        [1, -1],
        [True, False],
        [1.5, -0.25],
        pa.array([1, 2], pa.int32()),
    ],
)
def test_typed_partition_values(session, environment, tmp_path, values):
    options = {"table": "raw.typed", "mode": "overwrite_partitions", "partition_by": ["v"]}
    table = pa.table({"id": [1, 2], "v": values})
    write(session, OneLakeSink.load(options, environment), table, Write("out", run_of()))
    source = OneLakeSource.load({"table": "raw.typed"}, environment)
    assert read(session, source, tmp_path) == pl.DataFrame(table).to_dicts()


@pytest.mark.parametrize("first", ["2026-11-20T04", None])
def test_a_filled_hour_is_one_of_the_runs_zone(session, environment, tmp_path, first):
    sink = OneLakeSink.load({"table": "raw.hourly", "partition_by": ["hour"]}, environment)
    if first:
        hours = {"id": [1], "hour": [NOON.replace(hour=3)]}
        write(session, sink, hours, Write("out", run_of(1, first, "hour", "Europe/Berlin"), {}, "hour"))
    run = run_of(2, "2026-11-20T05", "hour", "Europe/Berlin")
    for ids in ([2, 3], [4]):
        write(session, sink, {"id": ids}, Write("out", run, {"hour": run.partition_key or ""}, "hour"))
        run = run.model_copy(update={"generation": 3})
    source = OneLakeSource.load({"table": "raw.hourly"}, environment)
    second: Any = NOON.replace(hour=4) if first else "2026-11-20T05"
    rows = [{"id": 1, "hour": NOON.replace(hour=3)}] if first else []
    assert read(session, source, tmp_path) == [*rows, {"id": 4, "hour": second}]


def test_text_files_are_the_same_for_every_engine(session, environment, tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbfid,zip,d,t,s\r\n1,007,2026-11-20,2026-11-20 05:00:00,\r\n2,08,,,""\r\n'
    )
    rows = read(session, FilesSource.load({"path": "a.csv"}, environment), tmp_path)
    hour = dt.datetime(2026, 11, 20, 5)  # noqa: DTZ001 a local time
    assert rows == [
        {"id": 1, "zip": 7, "d": dt.date(2026, 11, 20), "t": hour, "s": None},
        {"id": 2, "zip": 8, "d": None, "t": None, "s": ""},
    ]
    (tmp_path / "a.jsonl").write_text('{"id": 1, "a": {"b": [1, 2]}}\n{"id": 2}\n')
    rows = read(session, FilesSource.load({"path": "a.jsonl"}, environment), tmp_path)
    assert rows == [{"id": 1, "a": {"b": [1, 2]}}, {"id": 2, "a": None}]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_files_of_a_day_are_replaced(session, environment, tmp_path, format):
    sink = FilesSink.load({"path": "out", "format": format, "partition_by": ["dt"]}, environment)
    for generation, (key, ids) in enumerate((("2026-11-20", [1, 2]), ("2026-11-21", [3]), ("2026-11-20", [4])), 1):
        request = Write("out", run_of(generation, key), {"dt": key}, "dt")
        assert write(session, sink, {"id": ids}, request).rows == len(ids)
    source = FilesSource.load({"path": "out", "root": "lake", "format": format}, environment)
    assert read(session, source, tmp_path) == [{"id": 3, "dt": "2026-11-21"}, {"id": 4, "dt": "2026-11-20"}]


def test_a_frame_that_does_not_fit_is_refused_alike(session, environment):
    sink = OneLakeSink.load({"table": "raw.fit", "partition_by": ["dt"]}, environment)
    request = Write("out", run_of(), {"dt": "2026-11-20"}, "dt")
    write(session, sink, {"id": [1], "v": ["x"]}, request)
    for rows in ({"id": [1]}, {"id": [1], "v": [1.5]}, {"id": [1], "v": ["x"], "w": [1]}):
        with pytest.raises(AiflowError) as caught:
            write(session, sink, rows, Write("out", run_of(2), {"dt": "2026-11-20"}, "dt"))
        assert caught.value.code == "schema-mismatch"
    with pytest.raises(AiflowError) as caught:
        write(session, sink, {"id": [1], "v": ["x"], "dt": ["2026-11-21"]}, Write("out", run_of(2), {}, "dt"))
    assert caught.value.code == "rows-outside-partition"
