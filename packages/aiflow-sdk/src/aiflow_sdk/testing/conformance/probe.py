"""Sources and sinks that watch an engine at work: rows from memory, writes that are kept to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plugins import DataFile, Destination, ParquetFiles, Scan, Sink, Source, Write, Written

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(Source, kind="conformance-rows"):
    """A source of Arrow batches."""

    _table: Any = PrivateAttr(default=None)
    _stated: bool = PrivateAttr(default=True)

    @classmethod
    def of(cls, table: pa.Table, *, stated: bool = True) -> Rows:
        """Return a source of the table's rows; with ``stated`` it tells its columns beforehand."""
        source = cls()
        source._table, source._stated = table, stated
        return source

    def dataset(self) -> DatasetName:
        """Return a name."""
        return DatasetName("memory", "rows")

    def arrow_schema(self) -> pa.Schema | None:
        """Return the columns, or None where they are not to be known."""
        return self._table.schema if self._stated else None

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows, two at a time, whatever was wished."""
        yield from self._table.to_batches(max_chunksize=2)


class Files(Rows, kind="conformance-files"):
    """A source of Parquet files, which must not be asked for batches."""

    path: str

    def parquet_files(self) -> ParquetFiles | None:
        """Return the file."""
        return ParquetFiles((self.path,))

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Refuse: an engine reads Parquet files by itself."""
        raise AssertionError("the files should have been read")


class Batches(Sink, kind="conformance-batches"):
    """A sink of Arrow batches."""

    columns: tuple[str, ...] = ()
    _table: Any = PrivateAttr(default=None)

    def dataset(self) -> DatasetName:
        """Return a name."""
        return DatasetName("memory", "batches")

    def partition_columns(self) -> tuple[str, ...]:
        """Return the columns that it was made with."""
        return self.columns

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Keep the batches."""
        self._table = batches.read_all()
        return Written()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was written."""
        return list(self._table.to_pylist())


class Folder(Batches, kind="conformance-folder"):
    """A sink that commits the Parquet files which the engine wrote."""

    folder: str
    types: dict[str, str] = Field(default_factory=dict)
    _committed: list[tuple[Sequence[DataFile], Any]] = PrivateAttr(default_factory=list)

    def destination(self, request: Write) -> Destination:
        """Return the folder."""
        return Destination(self.folder, self.columns, self.types)

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Keep what was handed over."""
        import pyarrow as pa

        self._committed.append((tuple(files), pa.schema(schema)))
        return Written(rows=sum(file.rows for file in files), bytes=sum(file.bytes for file in files))

    @property
    def files(self) -> Sequence[DataFile]:
        """The files of the one commit."""
        ((files, _),) = self._committed
        return files

    @property
    def committed_schema(self) -> Any:
        """The PyArrow schema of the one commit."""
        ((_, schema),) = self._committed
        return schema

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the files hold, with the values of the partition columns as text."""
        import pyarrow.parquet as pq

        return [
            {**row, **file.partition}
            for file in self.files
            for row in pq.ParquetFile(Path(self.folder) / file.path).read().to_pylist()
        ]
