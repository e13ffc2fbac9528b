"""Folders ``column=value`` of partitions: the name of null, and what cannot be the name of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiflow_sdk.errors import DataError, Where

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and polars call the folder of null, after ``column=``."""

_NO_PARTITION = ("binary", "list", "struct", "map")


def refuse_null_folder(column: str, values: Iterable[str | None]) -> None:
    """Raise ``DataError`` (``bad-partition-value``) where one of the column's values is the text that means null."""
    if NULL_FOLDER in values:
        raise DataError(
            "bad-partition-value",
            f"the partition column '{column}' has the text '{NULL_FOLDER}', which as the name of a folder means null",
            hint="write null, or another text, in its place",
        )


def refuse_partition_type(column: str, arrow_name: str) -> None:
    """Raise ``DataError`` (``unsupported-type``) where values of the type (Arrow's name) name no partition."""
    if arrow_name.partition("<")[0] in _NO_PARTITION or arrow_name.startswith("fixed_size_"):
        raise DataError(
            "unsupported-type",
            f"the column '{column}' is {arrow_name}, and a table cannot be partitioned by such values",
            hint="partition by a date, a text or a number; binary can be made text: hex",
        )


def refuse_no_columns(names: Collection[str], partition_by: Collection[str], where: Where | None = None) -> None:
    """Raise ``DataError`` (``no-columns``) for a frame whose files would have no column, and so no rows."""
    if set(names) <= set(partition_by):
        raise DataError(
            "no-columns",
            f"the frame has no columns but those that the table is partitioned by: {', '.join(names) or 'none'}",
            where=where,
            hint="return a column more",
        )
