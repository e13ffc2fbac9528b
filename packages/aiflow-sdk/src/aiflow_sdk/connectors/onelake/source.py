"""Tables of the lake as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from aiflow_sdk.connectors.onelake.location import (
    check_path,
    check_table_name,
    dataset_name,
    is_deferred,
    table_folder,
    unknown_table,
)
from aiflow_sdk.connectors.onelake.options import check_format, check_one_place
from aiflow_sdk.connectors.onelake.table import ActiveFile, Allowed, TableState, files_identity, read_table
from aiflow_sdk.connectors.onelake.values import shown_text, typed_value
from aiflow_sdk.connectors.parquet import (
    arrow_filter,
    check_request,
    group_files,
    narrow_polars,
    scan_arrow,
    scan_polars,
)
from aiflow_sdk.errors import ConfigurationError, did_you_mean, unknown_name
from aiflow_sdk.ir import DatasetName, FrozenMap, PlainMap
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Predicate, Scan, Source

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame
    from pyspark.sql import SparkSession


class OneLakeSource(Source, kind="onelake"):
    """A table of the lake, or some of its partitions."""

    table: str | None = None
    """``schema.table``."""
    path: str | None = None
    """Instead of ``table``: where the table lies, relative to the lake's root."""
    format: str = "delta"
    partitions: PlainMap = FrozenMap()
    """Partition column → the value that is wanted, a list of them, None (null) or a window."""
    version: int | None = Field(default=None, ge=0)
    """Of the table; None: the newest."""

    _pinned: int | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        check_one_place(self.kind, self.table, self.path)
        check_format(self.format)
        if self.table is not None and not is_deferred(self.table):
            check_table_name(self.table)
        if self.path is not None and not is_deferred(self.path):
            check_path(self.path)
        return self

    @property
    def name(self) -> str:
        """The table's logical name."""
        return self.dataset().name

    def dataset(self) -> DatasetName:
        """Return the logical name; the environment gives the address."""
        return dataset_name(self.table, self.path)

    @cached_property
    def folder(self) -> Path:
        """The table's folder, links resolved once."""
        return table_folder(self.environment, self.table, self.path)

    def arrow_schema(self) -> pa.Schema:
        """Return the table's columns. Raises ``UnknownNameError`` (``unknown-table``)."""
        return _arrow_schema(self._load())

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the wanted partitions."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        schema = _arrow_schema(state)
        allowed = self._allowed(state, _timezone(request.run))
        if not state.has_deletion_vectors:
            yield from scan_arrow(_groups(state, state.matching(allowed)), schema, request)
            return
        reader = pa.RecordBatchReader.from_stream(state.table.scan())
        predicates = [*request.predicates, *_predicates(allowed)]
        columns = list(request.columns or schema.names)
        rows = (batch.cast(schema) for batch in reader)
        scanner = ds.Scanner.from_batches(rows, schema=schema, columns=columns, filter=arrow_filter(predicates))
        yield from scanner.to_batches()

    def to_polars(self, request: Scan) -> pl.LazyFrame:
        """Return a lazy frame over just the files of the wanted partitions."""
        import polars as pl

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        allowed = self._allowed(state, _timezone(request.run))
        if not state.has_deletion_vectors:
            return scan_polars(_groups(state, state.matching(allowed)), pl.Schema(state.table.schema()), request)
        frame = narrow_polars(pl.scan_delta(state.table), Scan(predicates=tuple(_predicates(allowed))))
        return narrow_polars(frame, request)

    def to_spark(self, spark: SparkSession, request: Scan) -> SparkFrame:
        """Return Spark's own reading of the table, filtered by columns that it knows as partitions."""
        from pyspark.sql import functions as F

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        reader = spark.read.format("delta").option("versionAsOf", state.version)
        frame = reader.load(str(state.folder))
        for predicate in [*_predicates(self._allowed(state, _timezone(request.run))), *request.predicates]:
            frame = frame.filter(_spark_condition(F.col(f"`{predicate.column}`"), predicate, F.lit))
        if request.columns is not None:
            frame = frame.select([F.col(f"`{name}`") for name in request.columns])
        return frame.limit(request.limit) if request.limit is not None else frame

    def present(self, column: str, timezone: str = "UTC") -> Sequence[str]:
        """Return the values of a partition column that the table has, sorted, hours as keys of ``timezone``."""
        state = self._load(fresh=True)
        self._check_partition_column(state, column)
        values = {file.partition[column] for file in state.files} - {None}
        return [shown_text(value, timezone) for value in sorted(values)]

    def identity(self, run: Run) -> str:
        """Return a fingerprint of the files that the run reads, and read this version of the table from now on."""
        state = self._load(fresh=True)
        self._pinned = state.version
        return files_identity(state.matching(self._allowed(state, run.timezone)))

    def measure(self, run: Run) -> tuple[int | None, int | None]:
        """Return rows and bytes of the wanted partitions, as the table's log tells them."""
        state = self._load()
        files = state.matching(self._allowed(state, run.timezone))
        return total_rows(state, files), sum(file.bytes for file in files)

    def _load(self, *, fresh: bool = False) -> TableState:
        state = read_table(self.folder, self.version if self.version is not None or fresh else self._pinned)
        if state is None:
            raise unknown_table(self.environment, self.folder, self.name)
        state.check_readable(self.name)
        return state

    def _allowed(self, state: TableState, timezone: str) -> Allowed:
        """Return the typed values that are wanted of each partition column."""
        allowed: dict[str, frozenset[Any]] = {}
        newest: list[str] = []
        for column, value in self.partitions.items():
            self._check_partition_column(state, column)
            if not isinstance(value, Mapping):
                wanted = value if isinstance(value, tuple) else (value,)
                kind = state.types[column]
                allowed[column] = frozenset(typed_value(one, kind, column, timezone) for one in wanted)
            elif value.get("$window") == "latest":
                newest.append(column)
            elif value.get("$window") != "all":
                raise ConfigurationError(
                    "unresolved-window",
                    f"the window {dict(value)} of '{column}' follows a run, and there is none",
                    hint="run the pipeline for a partition, or write the value itself",
                )
        for column in newest:
            values = {file.partition[column] for file in state.matching(allowed)} - {None}
            allowed[column] = frozenset([max(values)] if values else ())
        return allowed

    def _check_partition_column(self, state: TableState, column: str) -> None:
        if column in state.partition_columns:
            return
        error = unknown_name("unknown-column", "partition column", column, state.partition_columns)
        error.message = f"the table '{self.name}' has no partition column '{column}'"
        error.args = (error.message,)
        if column in state.types:
            error.hint = f"'{column}' is a column of its files; filter by it in the transform"
        elif not state.partition_columns:
            error.hint = did_you_mean(column, state.types) or "the table is not partitioned"
        raise error


def _timezone(run: Run | None) -> str:
    return run.timezone if run is not None else "UTC"


def _arrow_schema(state: TableState) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(state.table.schema().to_arrow())


def _groups(state: TableState, files: Sequence[ActiveFile]) -> list[Any]:
    return group_files((state.address(file), file.partition) for file in files)


def total_rows(state: TableState, files: Sequence[ActiveFile]) -> int | None:
    """Return how many rows the files hold, or None where the log does not tell."""
    counts = [file.rows for file in files if file.rows is not None]
    return sum(counts) if len(counts) == len(files) and not state.has_deletion_vectors else None


def _predicates(allowed: Allowed) -> Iterator[Predicate]:
    for column, values in allowed.items():
        ordered = sorted(values - {None}) + ([None] if None in values else [])
        yield Predicate(column, "in", tuple(ordered))


def _spark_condition(column: Any, predicate: Predicate, literal: Any) -> Any:
    value = predicate.value
    match predicate.comparison:
        case "in":
            present = [item for item in value if item is not None]
            condition = column.isin(present) if present else literal(False)
            return condition | column.isNull() if len(present) < len(value) else condition
        case "==":
            return column.isNull() if value is None else column == literal(value)
        case "!=":
            return column.isNotNull() if value is None else column != literal(value)
        case "<":
            return column < literal(value)
        case "<=":
            return column <= literal(value)
        case ">":
            return column > literal(value)
        case ">=":
            return column >= literal(value)
