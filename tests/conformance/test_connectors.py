"""Our connectors pass the suites that a stranger's inherit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.files import FilesSink, FilesSource
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import Scan, Write
from aiflow_sdk.testing.conformance.sink import SinkConformance, run_of
from aiflow_sdk.testing.conformance.source import SourceConformance

ROWS = pa.table({"id": [1, 2, 3], "name": ["a", "it's", None], "amount": [1.5, None, 3.0]})


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


class TestOneLakeSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def table(self, environment):
        sink = OneLakeSink.load({"table": "raw.orders", "partition_by": ["dt"]}, environment)
        for number, day in enumerate(("2026-11-20", "2026-11-21"), 1):
            sink.write(ROWS.to_reader(), Write("out", run_of(day, number), {"dt": day}, "dt"))
        options = {"table": "raw.orders", "partitions": {"dt": ["2026-11-20", "2026-11-21"]}}
        self.source = OneLakeSource.load(options, environment)
        self.absent = OneLakeSource.load({"table": "raw.order"}, environment)


class TestParquetFilesSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def files(self, environment, tmp_path):
        for region in ("us", "eu"):
            (tmp_path / "in" / f"region={region}").mkdir(parents=True)
            pyarrow.parquet.write_table(ROWS, tmp_path / "in" / f"region={region}" / "a.parquet")
        self.source = FilesSource.load({"path": "in/**/*.parquet"}, environment)
        self.absent = FilesSource.load({"path": "out/*.parquet"}, environment)


class TestCsvFilesSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def files(self, environment, tmp_path):
        pyarrow.csv.write_csv(ROWS, tmp_path / "orders.csv")
        self.source = FilesSource.load({"path": "orders.csv"}, environment)
        self.absent = FilesSource.load({"path": "order.csv"}, environment)


class TestJsonLinesFilesSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def files(self, environment, tmp_path):
        (tmp_path / "orders.jsonl").write_text('{"id": 1, "tags": ["a"]}\n{"id": 2, "name": "it\'s"}\n')
        self.source = FilesSource.load({"path": "orders.jsonl"}, environment)


@contextmanager
def absent_is_nothing(code: str) -> Iterator[None]:
    """Let pass the error for what was never written, and no other."""
    try:
        yield
    except AiflowError as error:
        if error.code != code:
            raise


class LakeSink(SinkConformance):
    options: Mapping[str, Any]

    @pytest.fixture(autouse=True)
    def lake(self, environment):
        self.sink = OneLakeSink.load(self.options, environment)
        self.source = OneLakeSource.load({"table": "feature.out"}, environment)

    def read(self) -> Sequence[Mapping[str, Any]]:
        with absent_is_nothing("unknown-table"):
            return pa.Table.from_batches(self.source.scan(Scan())).to_pylist()
        return []


class TestOneLakeSinkByDay(LakeSink):
    options = {"table": "feature.out", "partition_by": ["dt"]}


class TestOneLakeSinkWhole(LakeSink):
    options = {"table": "feature.out"}


class FolderSink(SinkConformance):
    options: Mapping[str, Any]

    @pytest.fixture(autouse=True)
    def lake(self, environment):
        self.sink = FilesSink.load(self.options, environment)
        wanted = {"root": "lake", "path": self.options["path"], "format": self.options.get("format", "parquet")}
        self.source = FilesSource.load(wanted, environment)

    def read(self) -> Sequence[Mapping[str, Any]]:
        with absent_is_nothing("input-absent"):
            return pa.Table.from_batches(self.source.scan(Scan())).to_pylist()
        return []


class TestParquetFilesSinkByDay(FolderSink):
    options = {"path": "exports/out", "partition_by": ["dt"]}


class TestParquetFilesSinkWhole(FolderSink):
    options = {"path": "exports/out"}


class TestParquetFilesSinkOneFile(FolderSink):
    options = {"path": "exports/out.parquet"}


class TestCsvFilesSinkByDay(FolderSink):
    options = {"path": "exports/out", "partition_by": ["dt"], "format": "csv"}


class TestCsvFilesSinkOneFile(FolderSink):
    options = {"path": "exports/out.csv", "format": "csv"}


class TestJsonLinesFilesSinkByDay(FolderSink):
    options = {"path": "exports/out", "partition_by": ["dt"], "format": "jsonl"}


class TestJsonLinesFilesSinkOneFile(FolderSink):
    options = {"path": "exports/out.jsonl", "format": "jsonl"}
