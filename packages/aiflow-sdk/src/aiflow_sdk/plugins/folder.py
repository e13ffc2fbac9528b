"""How null stands in the name of a partition's folder, and the text that therefore can stand in none."""

from __future__ import annotations

from collections.abc import Iterable

from aiflow_sdk.errors import DataError

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and polars call the folder of null, after ``column=``."""


def refuse_null_folder(column: str, values: Iterable[str | None]) -> None:
    """Raise ``DataError`` (``bad-partition-value``) where one of the column's values is the text that means null."""
    if NULL_FOLDER in values:
        raise DataError(
            "bad-partition-value",
            f"the partition column '{column}' has the text '{NULL_FOLDER}', which as the name of a folder means null",
            hint="write null, or another text, in its place",
        )
