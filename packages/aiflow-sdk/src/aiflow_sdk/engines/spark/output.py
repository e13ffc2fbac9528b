"""How Spark writes a frame for a sink to commit: Parquet files in the sink's folder, listed with rows and bytes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiflow_sdk.engines.spark.types import arrow_schema, arrow_type, is_plain_cast, spark_type
from aiflow_sdk.errors import DataError
from aiflow_sdk.frames import arrow_types, is_wider
from aiflow_sdk.plugins import (
    NULL_FOLDER,
    DataFile,
    Destination,
    refuse_no_columns,
    refuse_null_folder,
    refuse_partition_type,
)
from aiflow_sdk.stores import open_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame

_NULL_FOLDERS = (NULL_FOLDER, "")
"""Folder values that stand for null: Spark's own, and Sail's."""
_NULL_FOLDER_TEXT = f"{NULL_FOLDER}{uuid.uuid4().hex}"
"""What a text is called that means null as the name of a folder, so that it is told from null and refused."""


def complete(
    frame: SparkFrame,
    partition_by: Sequence[str],
    types: Mapping[str, str],
    fill: Mapping[str, str],
    *,
    widening: bool = False,
) -> SparkFrame:
    """Return the frame with the partition columns that it lacks, and its columns in the types that the table has.

    With ``widening`` a column that is wider than the table's stays so. A number that does not fit fails when it is
    computed; a type of another kind is left for the sink to judge. Raises ``DataError`` (``missing-partition-column``)
    for a partition column that nothing gives a value to.
    """
    from pyspark.sql import functions

    for column in partition_by:
        if column not in frame.columns:
            if column not in fill:
                raise DataError(
                    "missing-partition-column",
                    f"the frame lacks the partition column '{column}'",
                    hint=f"add it in the transform; the frame has: {', '.join(frame.columns)}",
                )
            frame = frame.withColumn(column, functions.lit(fill[column]))
    present = dict(arrow_types(frame) or ())
    if partition_by:
        refuse_no_columns(frame.columns, partition_by)
    for column in partition_by:
        refuse_partition_type(column, present[column])
    casts = {
        column: functions.col(quoted(column)).cast(target)
        for column, wanted in types.items()
        if column in present and present[column] != wanted and is_plain_cast(present[column], wanted)
        if not (widening and is_wider(present[column], wanted))
        if (target := spark_type(wanted))
    }
    return frame.withColumns(casts) if casts else frame


def write_parquet(frame: SparkFrame, folder: str, partition_by: Sequence[str] = ()) -> None:
    """Let Spark write the frame below the folder, partition values as text in folder names ``column=value``.

    Moments are in UTC, the session's clock.
    """
    if partition_by:
        from pyspark.sql import functions

        # As text, because Sail has no folder names for moments, and writes some others in a way of its own.
        texts = {column: functions.col(quoted(column)).cast("string") for column in partition_by}
        frame = frame.withColumns(
            {
                column: functions.when(text == NULL_FOLDER, _NULL_FOLDER_TEXT).otherwise(text)
                for column, text in texts.items()
            }
        )
    frame.write.mode("append").partitionBy(*partition_by).parquet(folder)


def list_files(
    folder: str, partition_by: Sequence[str] = (), storage_options: Mapping[str, str] | None = None
) -> list[DataFile]:
    """Return the Parquet files below the folder that have rows, rows as their footers tell.

    ``storage_options`` are those of the object store that it lies in, as drivers take them. Raises ``DataError``
    (``bad-partition-value``) for a value that no folder can be named by.
    """
    import pyarrow.parquet as pq

    store = open_folder(folder, storage_options or {})
    found = []
    sizes = dict(store.sizes())
    for path in _data_files(list(sizes)):
        with closing(store.open(path)) as file:
            found.append(_data_file(path, sizes[path], pq.read_metadata(file).num_rows, partition_by))
    return [file for file in found if file.rows]


def _data_files(paths: Sequence[str]) -> list[str]:
    names = ((os.path.basename(path), path) for path in paths)
    return sorted(
        path
        for name, path in names
        if name.endswith(".parquet") and not name.startswith(("_", ".")) and "_temporary" not in path.split("/")
    )


def _data_file(path: str, size: int, rows: int, partition_by: Sequence[str]) -> DataFile:
    folders = path.split("/")[:-1]
    values = {
        column: _text_of(folder, column)
        for column, folder in zip(partition_by, folders[len(folders) - len(partition_by) :], strict=True)
    }
    for column in partition_by:
        refuse_null_folder(column, [NULL_FOLDER if values[column] == _NULL_FOLDER_TEXT else None])
    partition = {
        column: None if values[column] in _NULL_FOLDERS else unquote(values[column]) for column in partition_by
    }
    return DataFile(path, size, rows, partition)


def _text_of(folder: str, column: str) -> str:
    """Return what a folder name says of its column, whose own "=" Sail writes as it is, and other signs encoded."""
    ends = (index for index, sign in enumerate(folder) if sign == "=" and unquote(folder[:index]) == column)
    return folder[next(ends, folder.find("=")) + 1 :]


def committed_schema(frame: SparkFrame, destination: Destination, filled: Sequence[str]) -> pa.Schema:
    """Return the frame's Arrow schema; a filled partition column has the table's type, else it is a string."""
    import pyarrow as pa

    schema = arrow_schema(frame.schema)
    for column in filled:
        if wanted := destination.types.get(column):
            schema = schema.set(schema.get_field_index(column), pa.field(column, arrow_type(wanted)))
    return schema


def quoted(column: str) -> str:
    """Return the column's name for Spark, whatever it holds: ``a.b`` would be field ``b`` of column ``a``."""
    return "`" + column.replace("`", "``") + "`"
