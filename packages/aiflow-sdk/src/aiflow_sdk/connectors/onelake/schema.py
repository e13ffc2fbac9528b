"""Columns: from a frame's Arrow schema to a Delta table's, and whether the two agree.

Types are compared as the Delta protocol writes them ("Schema Serialization Format"), nullability left aside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import DataError, did_you_mean
from aiflow_sdk.frames import check_names

if TYPE_CHECKING:
    from arro3.core import DataType, Field
    from deltalake import Schema

_ARROW_NAMES = {
    "string": "string",
    "long": "int64",
    "integer": "int32",
    "short": "int16",
    "byte": "int8",
    "float": "float",
    "double": "double",
    "boolean": "bool",
    "binary": "binary",
    "date": "date32[day]",
    "timestamp": "timestamp[us, tz=UTC]",
    "timestamp_ntz": "timestamp[us]",
}
_UNSIGNED = {"UInt8": "int16", "UInt16": "int32", "UInt32": "int64", "UInt64": "int64"}
_ADVICE = {
    "Null": "cast it to the type that it is to have; all its values are null",
    "Time32": "write it as text or as seconds",
    "Time64": "write it as text or as seconds",
    "Duration": "write it as a number of seconds or microseconds",
    "Float16": "cast it to float",
    "Interval": "write it as text",
    "Decimal256": "Delta's decimals have at most 38 digits",
}
_PLAIN = re.compile(
    r"arro3\.core\.DataType<(?:Boolean|Int(?:8|16|32|64)|Float(?:32|64)|Utf8(?:View)?|Date32|Decimal128\()"
)
"""Types, as arro3 shows them, that Delta has just so."""


def delta_schema(schema: Any) -> Schema:
    """Return the Delta schema of a frame whose files were written with this Arrow schema; every column nullable.

    Raises ``DataError`` (``unsupported-type``) naming all columns that a Delta table cannot hold as they are.
    """
    # That of polars: a backfill writes frames of the same columns, one after the other.
    return _of_polars(tuple(schema.items())) if isinstance(schema, Mapping) else _of_arrow(schema)


@lru_cache(maxsize=256)
def _of_polars(columns: tuple[tuple[str, Any], ...]) -> Schema:
    import polars as pl

    return _of_arrow(pl.Schema(columns))


def _of_arrow(schema: Any) -> Schema:
    from arro3.core import DataType
    from arro3.core import Schema as ArrowSchema
    from deltalake import Schema

    arrow = ArrowSchema.from_arrow(schema)
    fields = [arrow.field(index) for index in range(len(arrow.names))]
    check_names([field.name for field in fields], "the frame")
    special = [field for field in fields if not _PLAIN.match(str(field.type))]
    problems = [problem for field in special for problem in _problems(field.type, field.name)]
    if problems:
        raise DataError(
            "unsupported-type",
            "; ".join(problems),
            hint="cast in the transform that makes the frame",
        )
    if special:
        fields = [_in_utc(field) for field in fields]
    found: Schema = Schema.from_arrow(ArrowSchema([field.with_nullable(True) for field in fields]))
    if not any(DataType.is_nested(field.type) for field in special):
        return found
    return Schema.from_json(json.dumps(_all_nullable(json.loads(found.to_json()))))


def _problems(arrow: DataType, column: str) -> list[str]:
    from arro3.core import DataType

    name = str(arrow).removeprefix("arro3.core.DataType<").strip().removesuffix(">")
    head = re.split(r"[(<\[]", name, maxsplit=1)[0]
    if DataType.is_nested(arrow) and not DataType.is_dictionary(arrow):
        if DataType.is_struct(arrow):
            if not arrow.fields:
                return [f"column '{column}' is a struct without fields: give it one, or leave it out"]
            check_names([field.name for field in arrow.fields], f"the column '{column}'")
        return [problem for field in _inner(arrow) for problem in _problems(field.type, f"{column}.{field.name}")]
    if DataType.is_unsigned_integer(arrow):
        return [f"column '{column}' is unsigned ({head.lower()}), and Delta has no such type: write {_UNSIGNED[head]}"]
    if DataType.is_timestamp(arrow) and arrow.time_unit == "ns":
        return [f"column '{column}' holds nanoseconds, and Delta's timestamps hold microseconds"]
    if head in _ADVICE:
        return [f"column '{column}' is {head.lower()}, and Delta has no such type: {_ADVICE[head]}"]
    return []


def _inner(arrow: DataType) -> Sequence[Field]:
    from arro3.core import DataType

    if DataType.is_map(arrow):  # arro3 tells of a map's inside only in Arrow's own form
        import pyarrow as pa
        from arro3.core import Field

        kind = pa.DataType._import_from_c_capsule(arrow.__arrow_c_schema__())
        return [Field.from_arrow(kind.key_field), Field.from_arrow(kind.item_field)]
    return arrow.fields if DataType.is_struct(arrow) else [arrow.value_field] if arrow.value_field else []


def _in_utc(field: Field) -> Field:
    """Return the field with every time zone told as UTC: Parquet and Delta keep the moment, not the zone."""
    from arro3.core import DataType

    arrow = field.type
    if DataType.is_timestamp(arrow):
        return field.with_type(DataType.timestamp("us", tz="UTC" if arrow.tz else None))
    if DataType.is_struct(arrow):
        return field.with_type(DataType.struct([_in_utc(inner) for inner in arrow.fields]))
    if (DataType.is_list(arrow) or DataType.is_large_list(arrow)) and arrow.value_field:
        return field.with_type(DataType.list(_in_utc(arrow.value_field)))
    if DataType.is_map(arrow):
        return field.with_type(DataType.map(*map(_in_utc, _inner(arrow)), False))
    return field


def _all_nullable(document: Any) -> Any:
    """Return the schema document with every column, element and value nullable."""
    if isinstance(document, list):
        return [_all_nullable(item) for item in document]
    if not isinstance(document, dict):
        return document
    always = {"nullable", "containsNull", "valueContainsNull"}
    return {key: True if key in always else _all_nullable(value) for key, value in document.items()}


def column_types(schema: Schema) -> dict[str, str]:
    """Return column → type as the protocol writes it: a name, or canonical JSON of a nested one."""
    found = {}
    for field in json.loads(schema.to_json())["fields"]:
        kind = field["type"]
        if not isinstance(kind, str):
            kind = json.dumps(_without_metadata(_all_nullable(kind)), sort_keys=True)
        found[field["name"]] = kind
    return found


def _without_metadata(document: Any) -> Any:
    if isinstance(document, list):
        return [_without_metadata(item) for item in document]
    if isinstance(document, dict):
        return {key: _without_metadata(value) for key, value in document.items() if key != "metadata"}
    return document


def arrow_name(delta_type: str) -> str:
    """Return the Arrow type name of a type as :func:`column_types` tells it."""
    if delta_type.startswith("decimal"):
        return "decimal128" + delta_type.removeprefix("decimal").replace(",", ", ")
    if delta_type.startswith("{"):
        return _nested_name(json.loads(delta_type))
    return _ARROW_NAMES.get(delta_type, delta_type)


def _nested_name(document: Any) -> str:
    if isinstance(document, str):
        return arrow_name(document)
    match document["type"]:
        case "struct":
            inner = ", ".join(f"{field['name']}: {_nested_name(field['type'])}" for field in document["fields"])
            return f"struct<{inner}>"
        case "array":
            return f"list<item: {_nested_name(document['elementType'])}>"
        case _:
            return f"map<{_nested_name(document['keyType'])}, {_nested_name(document['valueType'])}>"


def check_columns(name: str, table: Mapping[str, str], frame: Mapping[str, str], addable: str | None = None) -> None:
    """Raise ``schema-mismatch`` unless frame and table have the same columns and types, in any order.

    ``addable`` is what an author may write so that the table is changed instead.
    """
    problems = [
        f"'{column}' is {arrow_name(frame[column])} in the frame and {arrow_name(kind)} in the table"
        for column, kind in table.items()
        if column in frame and frame[column] != kind
    ]
    missing = [column for column in table if column not in frame]
    added = [column for column in frame if column not in table]
    problems += [f"the frame lacks '{column}' ({arrow_name(table[column])})" for column in missing]
    for column in added:
        near = did_you_mean(column, missing)
        problems.append(f"the table has no '{column}' ({arrow_name(frame[column])}){', ' + near if near else ''}")
    if not problems:
        return
    casts = [f"'{column}' to {arrow_name(kind)}" for column, kind in table.items() if frame.get(column, kind) != kind]
    advice = [f"cast {' and '.join(casts)}"] if casts else []
    if missing or added:
        advice.append(f"select exactly {', '.join(table)}")
    raise DataError(
        "schema-mismatch",
        f"the frame does not fit the table '{name}': {'; '.join(problems)}",
        hint="; ".join(advice) + (f", or write {addable}" if addable else ", or write to a new table"),
        notes=[f"table {name} has: " + ", ".join(f"{column} {arrow_name(kind)}" for column, kind in table.items())],
    )
