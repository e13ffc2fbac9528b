"""Column types: Spark's, Arrow's, and what of Arrow's Spark has no like of.

Arrow's type names are those of :mod:`aiflow_sdk.frames.arrow_type`; Spark's are written as DDL (``decimal(12,2)``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiflow_sdk.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType

_PLAIN = {
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "string": "string",
    "binary": "binary",
    "date32[day]": "date",
}
_TIMESTAMP = re.compile(r"timestamp\[\w+(, tz=.+)?\]")
_DECIMAL = re.compile(r"decimal\d*\((\d+), ?(\d+)\)")
_INTEGERS = ("int8", "int16", "int32", "int64")


def spark_type(arrow_name: str) -> str | None:
    """Return the Spark type of an Arrow type name as DDL; None for a nested one and for what Spark has no like of."""
    if found := _TIMESTAMP.fullmatch(arrow_name):
        return "timestamp" if found[1] else "timestamp_ntz"
    if found := _DECIMAL.fullmatch(arrow_name):
        return f"decimal({found[1]},{found[2]})"
    return _PLAIN.get(arrow_name)


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of that name; a string of one that Spark has no like of."""
    import pyarrow as pa

    if found := _TIMESTAMP.fullmatch(name):
        return pa.timestamp("us", "UTC" if found[1] else None)
    if found := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return pa.type_for_alias(name) if name in _PLAIN else pa.string()


def is_plain_cast(arrow_name: str, wanted: str) -> bool:
    """Return whether the types (Arrow's names) differ in width alone, so that a cast is right or fails."""
    if arrow_name == "null":
        return spark_type(wanted) is not None
    if (given := _TIMESTAMP.fullmatch(arrow_name)) and (moment := _TIMESTAMP.fullmatch(wanted)):
        return bool(given[1]) == bool(moment[1])
    target = _DECIMAL.fullmatch(wanted)
    if arrow_name in _INTEGERS:
        return wanted in _INTEGERS or target is not None or (wanted == "double" and arrow_name != "int64")
    if given := _DECIMAL.fullmatch(arrow_name):
        return int(target[2]) >= int(given[2]) if target else wanted in _INTEGERS and given[2] == "0"
    return (arrow_name, wanted) == ("float", "double")


def arrow_schema(schema: StructType) -> pa.Schema:
    """Return the Arrow schema of a Spark frame: every column and element may be null, moments are UTC's."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    return pa.schema([pa.field(field.name, _nullable(field.type)) for field in to_arrow_schema(schema, timezone="UTC")])


def _nullable(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_nullable(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _nullable(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_nullable(kind.key_type), _nullable(kind.item_type))
    return kind


def readable_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema as Spark can hold it: unsigned numbers grow, nanoseconds are rounded, codes become values.

    It equals ``schema`` (metadata aside) where Spark can hold that as it is. Raises ``DataError`` for a type that Spark
    has no like of.
    """
    import pyarrow as pa

    return pa.schema([field.with_type(_readable(field.type, field.name)).remove_metadata() for field in schema])


def _is_odd(kind: pa.DataType) -> bool:
    """Whether PySpark and Parquet know no such layout."""
    import pyarrow as pa

    is_a = pa.types
    is_view = is_a.is_list_view(kind) or is_a.is_large_list_view(kind)
    is_bare = is_a.is_struct(kind) and not kind.num_fields
    return is_view or is_bare or is_a.is_union(kind) or is_a.is_run_end_encoded(kind)


def _readable(kind: pa.DataType, column: str) -> pa.DataType:
    import pyarrow as pa

    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _readable(kind.value_type, column)
    if is_a.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32()}.get(kind.bit_width, pa.int64())
    if is_a.is_timestamp(kind) and (kind.unit != "us" or kind.tz not in (None, "UTC")):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if is_a.is_float16(kind):
        return pa.float32()
    if is_a.is_date64(kind):
        return pa.date32()
    if is_a.is_duration(kind):
        return pa.duration("us")
    if is_a.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    if is_a.is_decimal(kind) or is_a.is_time(kind) or is_a.is_interval(kind) or _is_odd(kind):
        raise DataError(
            "unsupported-type",
            f"Spark has no like of the column '{column}', which is {kind}",
            hint="cast it before, in a python transform or where the data is made",
        )
    if is_a.is_fixed_size_binary(kind):
        return pa.binary()
    if is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind):
        value = _readable(kind.value_type, column)
        return kind if value == kind.value_type and not is_a.is_fixed_size_list(kind) else pa.list_(value)
    if is_a.is_struct(kind):
        return pa.struct([field.with_type(_readable(field.type, column)) for field in kind])
    if is_a.is_map(kind):
        key, item = _readable(kind.key_type, column), _readable(kind.item_type, column)
        return kind if (key, item) == (kind.key_type, kind.item_type) else pa.map_(key, item)
    return kind
