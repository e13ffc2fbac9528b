"""A frame becomes data files that its sink commits, or Arrow batches for a sink that takes no files."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiflow_sdk.engines.publishing import discard
from aiflow_sdk.engines.python.computation import computing
from aiflow_sdk.engines.python.lake_type import narrow_types, typed_value
from aiflow_sdk.engines.usercode import plugin_code
from aiflow_sdk.errors import DataError, Where
from aiflow_sdk.frames import FrameKind, arrow_name, arrow_types, convert, polars_type, to_reader
from aiflow_sdk.plugins import (
    NULL_FOLDER,
    DataFile,
    Destination,
    FileSink,
    Frame,
    Pending,
    Sink,
    Write,
    Written,
    pending_write,
    refuse_no_columns,
    refuse_null_folder,
    refuse_partition_type,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_MOST_BYTES_PER_FILE = 1 << 30
"""In memory; on disk such a file has some 100 MB."""

_MOMENT_SECONDS = 0.1


@dataclass
class PlannedWrite(ABC):
    """One write: a part that all writes of a task compute together, and a part that each does by itself."""

    sink: Any
    request: Write
    lazy: pl.LazyFrame | None = None
    """What is to be computed with the others before :meth:`pend`."""

    @abstractmethod
    def pend(self) -> Pending:
        """Hand over to the sink what was computed; nobody sees it yet."""

    def clean(self) -> None:  # noqa: B027  # most leave nothing behind
        """Remove what only this process needed."""


def plan_write(frame: Frame, sink: Sink, request: Write, *, alone: bool) -> PlannedWrite:
    """Return the write of a frame: to files where the sink takes them, straight to the sink where it is ``alone``."""
    where = request.where or Where(about=f"sink '{request.node_id}'")
    lazy: pl.LazyFrame = convert(frame, FrameKind.POLARS_LAZY)
    with computing(f"the columns of '{request.node_id}'"):
        if isinstance(sink, FileSink):
            with plugin_code(sink):
                destination = sink.destination(request)
            try:
                return _plan_files(lazy, sink, destination, request, where)
            except BaseException:  # Ctrl-C too leaves no folder behind; it goes on up
                discard(destination)
                raise
        with plugin_code(sink):
            columns = sink.partition_columns()
        lazy = _filled(lazy, columns, {}, request, where)
        return StreamedWrite(sink, request, frame=lazy) if alone else SpooledWrite.plan(sink, request, lazy)


def _plan_files(
    frame: pl.LazyFrame, sink: FileSink, destination: Destination, request: Write, where: Where
) -> FileWrite:
    frame = _filled(frame, destination.partition_by, destination.types, request, where)
    frame = narrow_types(frame, destination.types, exact=destination.exact, widening=destination.widening, where=where)
    schema = frame.collect_schema()
    for column in destination.partition_by:
        refuse_partition_type(column, arrow_name(schema[column]))
    refuse_no_columns(tuple(schema), destination.partition_by, where)
    write = FileWrite(sink, request, destination=destination, schema=schema)
    write.lazy = write.sinked(frame)
    return write


def _filled(
    frame: pl.LazyFrame, partition_by: Sequence[str], types: Mapping[str, str], request: Write, where: Where
) -> pl.LazyFrame:
    """Return the frame with the partition columns that it lacks, each with the run's one value."""
    import polars as pl

    names = frame.collect_schema().names()
    values = []
    for column in partition_by:
        if column in names:
            continue
        if column not in request.fill:
            raise DataError(
                "missing-partition-column",
                f"the frame lacks the partition column '{column}', and no source fixes it to the run",
                where=where,
                hint=f"add '{column}' to what the function returns",
                notes=[f"the frame has: {', '.join(names)}"],
            )
        dtype = (polars_type(types[column]) if column in types else None) or pl.String()
        value = typed_value(request.fill[column], dtype, column, request.run.timezone)
        values.append(pl.lit(value, dtype=dtype).alias(column))
    return frame.with_columns(values) if values else frame


@dataclass
class FileWrite(PlannedWrite):
    """Parquet files in the sink's folder, committed by the sink."""

    destination: Destination = field(kw_only=True)
    schema: pl.Schema = field(kw_only=True)
    partitions: dict[str, dict[str, str | None]] = field(default_factory=dict)
    sinked_files: list[Any] = field(default_factory=list)
    handed_over: bool = False

    def sinked(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the lazy write of the files."""
        import polars as pl

        numbers = itertools.count()
        keys = self.destination.partition_by

        def path_of(file: Any) -> str:
            # Polars asks from several threads at once; next() of a count is one step.
            row = file.partition_keys.row(0) if keys else ()
            values = {key: value_text(value) for key, value in zip(keys, row, strict=True)}
            folders = [f"{quote(key, safe='')}={folder_name(value)}" for key, value in values.items()]
            path = "/".join([*folders, f"part-{next(numbers):05d}.parquet"])
            self.partitions[path] = values
            return path

        target = pl.PartitionBy(
            self.folder,
            file_path_provider=path_of,
            key=list(keys) or None,
            include_key=False if keys else None,
            approximate_bytes_per_file=_MOST_BYTES_PER_FILE,
        )
        lazy = frame.sink_parquet(
            target,
            mkdir=True,
            storage_options=dict(self.destination.storage_options) or None,
            sinked_paths_callback=lambda done: self.sinked_files.extend(done.paths),
            lazy=True,
        )
        assert lazy is not None
        return lazy

    @property
    def folder(self) -> str:
        """The folder's address without a slash at its end."""
        return self.destination.folder.rstrip("/")

    def pend(self) -> Pending:
        """Hand over the files; those without rows are left out, unless the frame is to be kept exactly."""
        for column in self.destination.partition_by:
            refuse_null_folder(column, (values[column] for values in self.partitions.values()))
        files = []
        for file in sorted(self.sinked_files, key=lambda one: one.path):
            path = file.path.removeprefix("file://").removeprefix(self.folder.removeprefix("file://")).lstrip("/")
            if file.num_rows or self.destination.exact:
                files.append(DataFile(path, file.num_bytes, file.num_rows, self.partitions.get(path, {})))
            elif "://" not in file.path:
                Path(file.path).unlink(missing_ok=True)
        self.handed_over = True
        with plugin_code(self.sink):
            return pending_write(self.sink, files, self.schema, self.request)

    def clean(self) -> None:
        """Remove the files of a write that was not to be; those that the sink heard of are its own."""
        if self.handed_over:
            return
        discard(self.destination)
        # One frame has failed, and polars may be a moment from making a file of another one.
        time.sleep(_MOMENT_SECONDS)
        discard(self.destination)


@dataclass
class StreamedWrite(PlannedWrite):
    """Arrow batches, computed while the sink takes them."""

    frame: pl.LazyFrame = field(kw_only=True)

    def pend(self) -> Pending:
        """Let the sink read the frame, once it is to be published."""
        return Pending(lambda: _write_batches(self.sink, self.request, self.frame), withdraw=_nothing)


@dataclass
class SpooledWrite(PlannedWrite):
    """Arrow batches from a file of this process, so that what the task's other sinks need too is computed once."""

    folder: Path = field(kw_only=True)

    @classmethod
    def plan(cls, sink: Sink, request: Write, frame: pl.LazyFrame) -> SpooledWrite:
        """Return the write, its file not yet computed."""
        folder = Path(tempfile.mkdtemp(prefix="aiflow-spool-"))
        return cls(sink, request, frame.sink_ipc(folder / "frame.arrow", compression="lz4", lazy=True), folder=folder)

    def pend(self) -> Pending:
        """Let the sink read the file, once it is to be published."""
        import polars as pl

        frame = pl.scan_ipc(self.folder / "frame.arrow")
        return Pending(lambda: _write_batches(self.sink, self.request, frame), withdraw=_nothing)

    def clean(self) -> None:
        """Remove the file."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _nothing() -> None:
    """Of a sink that takes batches nothing lies anywhere before it has taken them."""


def _write_batches(sink: Sink, request: Write, frame: pl.LazyFrame) -> Written:
    import pyarrow as pa

    batches = to_reader(frame)
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        with computing(f"'{request.node_id}'"):
            for batch in batches:
                rows += batch.num_rows
                yield batch

    with plugin_code(sink):
        written = sink.write(pa.RecordBatchReader.from_batches(batches.schema, counted()), request)
    return replace(
        written,
        rows=written.rows if written.rows is not None or written.superseded else rows,
        columns=written.columns or arrow_types(frame),
    )


def value_text(value: object) -> str | None:
    """Return a partition value as text; moments are in UTC and, as Delta writes them, without a ``T``."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case datetime():
            return str(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
        case date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)


def folder_name(value: str | None) -> str:
    """Return the folder's part after ``column=``: percent-encoded, so that it is one plain name on every store."""
    return NULL_FOLDER if value is None else quote(value, safe="")
