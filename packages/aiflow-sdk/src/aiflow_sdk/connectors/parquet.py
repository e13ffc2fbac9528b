"""Groups of Parquet files that share their partition values, as a lazy polars frame or as Arrow batches, and back.

The values of partition columns do not stand in the files. They come from whoever lists the files (a table's log, folder
names), so that no engine has to guess their types.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from aiflow_sdk.errors import DataError, unknown_name
from aiflow_sdk.plugins import (
    NULL_FOLDER,
    DataFile,
    Predicate,
    Scan,
    Write,
    refuse_no_columns,
    refuse_null_folder,
    refuse_partition_type,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_MOST_PARTITIONS = 100_000


@dataclass(frozen=True)
class FileGroup:
    """Files whose rows all have the same partition values."""

    paths: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    """Partition column → typed value (None: null)."""


def group_files(files: Iterable[tuple[str, Mapping[str, Any]]]) -> list[FileGroup]:
    """Return the files (path, partition values) grouped by their values, in the order of their first file."""
    groups: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for path, values in files:
        groups.setdefault(tuple(values.items()), []).append(path)
    return [FileGroup(tuple(paths), dict(values)) for values, paths in groups.items()]


def check_request(request: Scan, columns: Sequence[str], where: str) -> None:
    """Raise ``UnknownNameError`` (``unknown-column``) for a column that is asked for and not there."""
    for name in [*(request.columns or ()), *(predicate.column for predicate in request.predicates)]:
        if name not in columns:
            raise unknown_name("unknown-column", f"column of {where}", name, columns)


def scan_polars(
    groups: Sequence[FileGroup], schema: pl.Schema, request: Scan, options: Mapping[str, str] | None = None
) -> pl.LazyFrame:
    """Return the files' rows as a lazy frame of ``schema``; files may lack columns or hold narrower types.

    ``options`` are those of the object store that the files lie in, as polars takes them.
    """
    import polars as pl

    if not groups:
        return narrow_polars(pl.LazyFrame(schema=schema), request)
    columns = list(groups[0].values)
    is_hive = len(groups) > 1 and all(_is_told_by_folders(group, schema) for group in groups)
    by_path = len(groups) > 1 and not is_hive
    frame = pl.scan_parquet(
        [path for group in groups for path in group.paths],
        schema={name: dtype for name, dtype in schema.items() if name not in columns},
        glob=False,
        storage_options=dict(options) if options else None,
        hive_partitioning=is_hive,
        hive_schema={name: schema[name] for name in columns} if is_hive else None,
        include_file_paths=_PATH if by_path else None,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(
            integer_cast="upcast",
            float_cast="upcast",
            datetime_cast=["nanosecond-downcast", "convert-timezone"],
            missing_struct_fields="insert",
            extra_struct_fields="ignore",
        ),
    )
    if not is_hive:
        frame = frame.with_columns(_value_of(name, groups, schema[name]) for name in columns)
    return narrow_polars(frame.select(list(schema)), request)


_PATH = "\0path"
"""A column beside those of the files, whose names have no such character."""
_PLAIN_TYPES = ("String", "Date", "Int8", "Int16", "Int32", "Int64")
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_.-]+")


def _is_told_by_folders(group: FileGroup, schema: pl.Schema) -> bool:
    """Whether polars reads just these values out of the paths; then it leaves out files that a filter excludes."""
    wanted = [f"{name}={value}" for name, value in group.values.items()]
    plain = all(
        type(schema[name]).__name__ in _PLAIN_TYPES
        and _PLAIN_TEXT.fullmatch(name)
        and _PLAIN_TEXT.fullmatch(str(value))
        and value not in (None, NULL_FOLDER)
        for name, value in group.values.items()
    )
    return plain and all(
        sorted(part for part in path.split("/") if "=" in part) == sorted(wanted) for path in group.paths
    )


def _value_of(column: str, groups: Sequence[FileGroup], dtype: pl.DataType) -> pl.Expr:
    """Return the column's values: one constant, or by the path of the file that a row comes from."""
    import polars as pl

    if len(groups) == 1:
        return pl.lit(groups[0].values[column], dtype=dtype).alias(column)
    paths = [path for group in groups for path in group.paths]
    values = pl.Series([group.values[column] for group in groups for _ in group.paths], dtype=dtype)
    return pl.col(_PATH).replace_strict(pl.Series(paths), values, return_dtype=dtype).alias(column)


def narrow_polars(frame: pl.LazyFrame, request: Scan) -> pl.LazyFrame:
    """Return the frame with the request's predicates, columns and limit applied."""
    import polars as pl

    for predicate in request.predicates:
        column, value = pl.col(predicate.column), predicate.value
        match predicate.comparison:
            case "in":
                condition = pl.any_horizontal(pl.lit(False), *(column.eq_missing(pl.lit(item)) for item in value))
            case "==":
                condition = column.eq_missing(pl.lit(value))
            case "!=":
                condition = column.ne_missing(pl.lit(value)) if value is None else column != pl.lit(value)
            case "<":
                condition = column < pl.lit(value)
            case "<=":
                condition = column <= pl.lit(value)
            case ">":
                condition = column > pl.lit(value)
            case ">=":
                condition = column >= pl.lit(value)
        frame = frame.filter(condition)
    if request.columns is not None:
        frame = frame.select(request.columns)
    return frame.head(request.limit) if request.limit is not None else frame


def scan_arrow(groups: Sequence[FileGroup], schema: pa.Schema, request: Scan) -> Iterator[pa.RecordBatch]:
    """Yield the files' rows with the wanted columns of ``schema``, at least one batch so that these are known."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    partition_columns = set(groups[0].values) if groups else set()
    wanted = pa.schema([schema.field(name) for name in request.columns or schema.names])
    in_files = pa.schema([column for column in schema if column.name not in partition_columns])
    told = [predicate for predicate in request.predicates if predicate.column not in partition_columns]
    left, empty = request.limit, True
    for group in groups:
        if not all(holds(group.values[one.column], one) for one in request.predicates if one.column in group.values):
            continue
        dataset = ds.dataset(list(group.paths), schema=in_files, format="parquet")
        names = [name for name in wanted.names if name not in partition_columns]
        for batch in dataset.to_batches(columns=names, filter=arrow_filter(told)):
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            arrays = [
                batch.column(column.name)
                if column.name not in partition_columns
                else pa.repeat(pa.scalar(group.values[column.name], column.type), batch.num_rows)
                for column in wanted
            ]
            if batch.num_rows:
                empty = False
                yield pa.RecordBatch.from_arrays(arrays, schema=wanted)
            if left == 0:
                return
    if empty:
        yield pa.RecordBatch.from_pylist([], schema=wanted)


def holds(value: Any, predicate: Predicate) -> bool:
    """Whether a partition's value satisfies the predicate; what cannot be compared may."""
    wanted = predicate.value
    try:
        match predicate.comparison:
            case "in":
                return value in wanted
            case "==":
                return bool(value == wanted)
            case "!=":
                return bool(value != wanted) and (value is not None or wanted is None)
            case "<":
                return value is not None and bool(value < wanted)
            case "<=":
                return value is not None and bool(value <= wanted)
            case ">":
                return value is not None and bool(value > wanted)
            case ">=":
                return value is not None and bool(value >= wanted)
    except TypeError:
        return True


def arrow_filter(predicates: Sequence[Predicate]) -> Any:
    """Return the predicates as one PyArrow expression, or None where there are none."""
    import pyarrow.compute as pc

    found = None
    for predicate in predicates:
        column, value = pc.field(predicate.column), predicate.value
        match predicate.comparison:
            case "in":
                present = [item for item in value if item is not None]
                condition = column.isin(present)
                if len(present) < len(value):
                    condition = condition | column.is_null()
            case "==":
                condition = column.is_null() if value is None else column == pc.scalar(value)
            case "!=":
                condition = ~column.is_null() if value is None else column != pc.scalar(value)
            case "<":
                condition = column < pc.scalar(value)
            case "<=":
                condition = column <= pc.scalar(value)
            case ">":
                condition = column > pc.scalar(value)
            case ">=":
                condition = column >= pc.scalar(value)
        found = condition if found is None else found & condition
    return found


def partition_of(path: str, columns: Sequence[str], told: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return a data file's partition values as text: as told, else from the folders ``column=value`` of its path."""
    values: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        name, equals, text = part.partition("=")
        if equals:
            values[unquote(name)] = None if text in (NULL_FOLDER, "") else unquote(text)
    return {column: told[column] if column in told else values[column] for column in columns}


def write_files(
    batches: pa.RecordBatchReader,
    folder: Path,
    partition_by: Sequence[str],
    request: Write,
    *,
    types: Mapping[str, pa.DataType] | None = None,
    format: str = "parquet",
) -> tuple[list[DataFile], pa.Schema]:
    """Write all batches below ``folder`` as an engine would, and return the files and the frame's schema.

    Columns become types that every engine reads (no unsigned numbers, microseconds); missing partition columns are
    filled. ``types`` are those that partition columns, and columns of nothing but nulls, have in the table.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    schema = shared_schema(batches.schema)
    lacking = missing_columns(partition_by, schema.names, request)
    types = types or {}
    full = pa.schema([(one.name, types.get(one.name, one.type)) for one in schema])
    full = pa.schema([*full, *((name, types.get(name, pa.string())) for name in lacking)])
    for name in partition_by:
        refuse_partition_type(name, str(full.field(name).type))
    refuse_no_columns(full.names, partition_by)
    # Folder names are text, the column's part of them encoded; the sink turns them into the column's type again.
    folders = {name: quote(name, safe="") for name in partition_by}
    in_files = pa.schema([(folders[one.name], pa.string()) if one.name in folders else one for one in full])

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            try:
                arrays = [column.cast(one.type) for column, one in zip(batch.columns, schema, strict=True)]
            except pa.ArrowInvalid as error:
                message = f"a value does not fit the column that it is written to: {error}"
                raise DataError("value-out-of-range", message) from error
            arrays += [pa.repeat(pa.scalar(request.fill[name]), batch.num_rows) for name in lacking]
            arrays = [array.cast(one.type) for array, one in zip(arrays, in_files, strict=True)]
            batch = pa.RecordBatch.from_arrays(arrays, schema=in_files)
            for name, folder in folders.items():
                refuse_null_folder(name, batch.column(folder).unique().to_pylist())
            yield batch

    found: list[DataFile] = []

    def visit(file: Any) -> None:
        path = Path(file.path)
        rows = file.metadata.num_rows if file.metadata is not None else 0
        found.append(DataFile(path.relative_to(folder).as_posix(), path.stat().st_size, rows))

    try:
        ds.write_dataset(
            converted(),
            folder,
            schema=in_files,
            format=format,
            partitioning=ds.partitioning(pa.schema([in_files.field(one) for one in folders.values()]), flavor="hive")
            if partition_by
            else None,
            basename_template="part-{i}." + format,
            file_visitor=visit,
            max_partitions=_MOST_PARTITIONS,
            existing_data_behavior="overwrite_or_ignore",
        )
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG and os.strerror(errno.ENAMETOOLONG) not in str(error):
            raise
        raise DataError(
            "bad-partition-value",
            "a partition value is too long for the name of a folder",
            hint="partition by a shorter column",
        ) from error
    found.sort(key=lambda file: file.path)
    return [file for file in found if file.rows or format != "parquet"], full


def missing_columns(partition_by: Sequence[str], columns: Sequence[str], request: Write) -> list[str]:
    """Return the partition columns that are to be filled. Raises ``DataError`` for one without a value."""
    lacking = [name for name in partition_by if name not in columns]
    for name in lacking:
        if name not in request.fill:
            raise missing_partition_column(name, columns)
    return lacking


def shared_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema in types that Parquet, Delta and all engines share."""
    import pyarrow as pa

    return pa.schema([one.with_type(shared_type(one.type)).with_metadata(None) for one in schema])


def shared_type(arrow: pa.DataType) -> pa.DataType:
    """Return the type that Parquet, Delta and all engines share; the rest stays as it is and is refused by the sink."""
    import pyarrow as pa

    types = pa.types
    if types.is_unsigned_integer(arrow):
        return {8: pa.int16(), 16: pa.int32()}.get(arrow.bit_width, pa.int64())
    if types.is_timestamp(arrow):
        return pa.timestamp("us", "UTC" if arrow.tz else None)
    if types.is_date64(arrow):
        return pa.date32()
    if types.is_large_string(arrow) or types.is_string_view(arrow):
        return pa.string()
    if types.is_large_binary(arrow) or types.is_binary_view(arrow):
        return pa.binary()
    if types.is_dictionary(arrow):
        return shared_type(arrow.value_type)
    if types.is_struct(arrow):
        return pa.struct([inner.with_type(shared_type(inner.type)) for inner in arrow])
    if types.is_list(arrow) or types.is_large_list(arrow) or types.is_fixed_size_list(arrow):
        return pa.list_(shared_type(arrow.value_type))
    if types.is_map(arrow):
        return pa.map_(shared_type(arrow.key_type), shared_type(arrow.item_type))
    if types.is_decimal(arrow) and arrow.precision <= 38:
        return pa.decimal128(arrow.precision, arrow.scale)
    return arrow


def rows_outside(name: str, request: Write, values: str) -> DataError:
    """Return the error for rows that do not lie in the run's partition."""
    column, keys = request.time, request.time_keys or ()
    first, last = keys[0], keys[-1]
    wanted = f"{column}={first}" if len(keys) == 1 else f"{column}={first} to {last}"
    return DataError(
        "rows-outside-partition",
        f"the run writes {wanted} of '{name}', and the frame has rows of {column}={values}",
        hint='filter them out, or write mode="overwrite_partitions" if they are meant',
    )


def missing_partition_column(column: str, columns: Iterable[str]) -> DataError:
    """Return the error for a frame without one of the columns that it is partitioned by."""
    return DataError(
        "missing-partition-column",
        f"the frame lacks the partition column '{column}'",
        hint=f"add it in the transform; the frame has: {', '.join(columns)}",
    )
