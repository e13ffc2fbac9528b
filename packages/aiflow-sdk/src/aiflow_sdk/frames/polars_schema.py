"""What polars makes of Arrow's types: it panics on some that it lacks, and takes a few for other ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def held_by_polars(schema: pa.Schema) -> pa.Schema:
    """Return the schema in types that polars holds as they are: days are dates, short decimals are decimals.

    It equals ``schema`` where polars holds that. Raises ``DataError`` (``unsupported-type``) naming the column.
    """
    import pyarrow as pa

    return pa.schema([field.with_type(_held(field.type, field.name)) for field in schema], metadata=schema.metadata)


def _held(kind: pa.DataType, column: str) -> pa.DataType:
    import pyarrow as pa

    is_a = pa.types
    if is_a.is_decimal(kind):
        if kind.precision > 38 or kind.scale < 0:
            raise _lacking(column, kind, "cast it to a decimal of at most 38 digits, or to text")
        return pa.decimal128(kind.precision, kind.scale)
    if is_a.is_date64(kind):
        return pa.date32()
    if is_a.is_interval(kind):
        raise _lacking(column, kind, "make it a number of days or months, or a duration")
    is_view = is_a.is_list_view(kind) or is_a.is_large_list_view(kind)
    if is_view or is_a.is_union(kind) or is_a.is_run_end_encoded(kind):
        raise _lacking(column, kind, "cast it to a plainer type")
    if is_a.is_list(kind) or is_a.is_large_list(kind):
        value = _held(kind.value_type, column)
        return kind if value == kind.value_type else pa.list_(value)
    if is_a.is_fixed_size_list(kind):
        value = _held(kind.value_type, column)
        return kind if value == kind.value_type else pa.list_(value, kind.list_size)
    if is_a.is_struct(kind):
        return pa.struct([field.with_type(_held(field.type, column)) for field in kind])
    if is_a.is_map(kind):
        key, item = _held(kind.key_type, column), _held(kind.item_type, column)
        return kind if (key, item) == (kind.key_type, kind.item_type) else pa.map_(key, item)
    return kind


def _lacking(column: str, kind: pa.DataType, hint: str) -> DataError:
    return DataError("unsupported-type", f"column '{column}' is {kind}, which polars cannot hold", hint=hint)
