"""A source, a sink and a staging that hold their rows in memory: what a pipeline's test reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import DataError
from aiflow_sdk.frames import FrameKind, convert
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.plugins import Scan, Sink, Source, Write, Written

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_SHOWN = 5


class MemorySource(Source, kind="memory"):
    """Rows that stand for what a source would give."""

    node_id: str
    frame: Any
    """A polars frame."""

    def dataset(self) -> DatasetName:
        """Return a name in the namespace ``memory``."""
        return DatasetName("memory", self.node_id)

    def to_polars(self, request: Scan) -> pl.LazyFrame:
        """Return the rows as a lazy frame."""
        frame: pl.LazyFrame = self.frame.lazy()
        return frame.select(request.columns) if request.columns is not None else frame

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow; at least one batch, so that the columns are known."""
        import pyarrow as pa

        table = convert(self.to_polars(request).collect(), FrameKind.ARROW)
        yield from table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


class MemorySink(Sink, kind="memory"):
    """Keeps what is written, after the rules of a real sink: columns filled, rows outside the partition refused."""

    node_id: str
    columns: tuple[str, ...] = ()
    """The real sink's partition columns."""
    kept: Any
    """Where the written frame goes: a dict, node id → polars frame."""

    def dataset(self) -> DatasetName:
        """Return a name in the namespace ``memory``."""
        return DatasetName("memory", self.node_id)

    def partition_columns(self) -> tuple[str, ...]:
        """Return the partition columns of the sink that this one stands for."""
        return self.columns

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Keep all rows. Raises ``DataError`` as the real sink would."""
        import polars as pl

        frame = convert(batches.read_all(), FrameKind.POLARS)
        for column in self.columns:
            if column in frame.columns:
                continue
            if column not in request.fill:
                raise DataError(
                    "missing-partition-column",
                    f"the frame lacks the partition column '{column}'",
                    hint=f"add it in the transform; the frame has: {', '.join(frame.columns)}",
                )
            frame = frame.with_columns(pl.lit(request.fill[column]).alias(column))
        if request.time and request.time_keys is not None:
            _check_partition(frame, request.time, request.time_keys)
        self.kept[self.node_id] = frame
        return Written(rows=frame.height)


class MemoryStaging:
    """Frames between tasks, in memory."""

    def __init__(self) -> None:
        self.frames: dict[str, Any] = {}

    def source(self, plan: Plan, node_id: str, run: Run) -> Source:
        """Return what a task before has staged."""
        return MemorySource(node_id=node_id, frame=self.frames[node_id])

    def sink(self, task_id: str, node_id: str, run: Run) -> Sink:
        """Return where a node's frame is to be staged."""
        return MemorySink(node_id=node_id, kept=self.frames)


def make_frame(rows: Any, types: Mapping[str, str] | None, node_id: str) -> pl.DataFrame:
    """Return rows (dicts, columns, or any frame) as a polars frame; ISO text becomes what ``types`` (Arrow names) say.

    Raises ``DataError`` for what is no rows or does not fit its type.
    """
    import polars as pl

    from aiflow_sdk.frames import polars_type

    schema = {name: dtype for name, text in (types or {}).items() if (dtype := polars_type(text)) is not None}
    try:
        if isinstance(rows, Mapping) or _is_rows(rows):
            frame = pl.DataFrame(rows, infer_schema_length=None)
        else:
            frame = convert(rows, FrameKind.POLARS)
        if not frame.width:
            return pl.DataFrame(schema=schema)
        return frame.with_columns(_typed(frame[name], dtype) for name, dtype in schema.items() if name in frame.columns)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            "bad-test-input",
            f"the input of '{node_id}' is no rows: {error}",
            hint='write a list of dicts, such as [{"user_id": 1, "amount": 2.5}], or any frame',
        ) from error


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows)


def _typed(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    import polars as pl

    if column.dtype == pl.String and dtype == pl.Date:
        return column.str.to_date(strict=True)
    if column.dtype == pl.String and isinstance(dtype, pl.Datetime):
        return column.str.to_datetime(time_unit=dtype.time_unit, time_zone=dtype.time_zone, strict=True)
    return column.cast(dtype, strict=True)


def _check_partition(frame: pl.DataFrame, column: str, keys: tuple[str, ...]) -> None:
    import polars as pl

    text = frame.get_column(column).cast(pl.String).alias(column)
    outside = [value for value in text.unique().sort().to_list() if value not in keys]
    if outside:
        shown = ", ".join(map(str, outside[:_SHOWN])) + (" …" if len(outside) > _SHOWN else "")
        raise DataError(
            "rows-outside-partition",
            f"the frame has rows with {column}={shown}, and the run is for {', '.join(keys[:_SHOWN])}",
            hint='filter them out, or write with mode="overwrite_partitions"',
        )
