"""Arrow's type names as the one language for column types, read and written without PyArrow.

The names are those of ``str(pyarrow.DataType)``, with layouts that mean the same told alike (``large_string`` and
``string_view`` are ``string``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiflow_sdk.frames.kind import FrameKind, kind_of

if TYPE_CHECKING:
    import polars as pl

_PLAIN = {
    "Boolean": "bool",
    "Float16": "halffloat",
    "Float32": "float",
    "Float64": "double",
    "String": "string",
    "Categorical": "string",
    "Enum": "string",
    "Date": "date32[day]",
    "Time": "time64[ns]",
}
_SYNONYMS = {
    "boolean": "Boolean",
    "bool": "Boolean",
    "halffloat": "Float16",
    "float16": "Float16",
    "float": "Float32",
    "float32": "Float32",
    "double": "Float64",
    "float64": "Float64",
    "string": "String",
    "utf8": "String",
    "binary": "Binary",
    "date": "Date",
    "date32": "Date",
    "null": "Null",
}
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, ?(?:tz=)?(.+))?\]")
_DECIMAL = re.compile(r"decimal(?:32|64|128|256)?\((\d+), ?(-?\d+)\)")
_WRAPPED = re.compile(r"(list|struct|map)<(.*)>", re.DOTALL)


_WHOLE = {"int8": 3, "int16": 5, "int32": 10, "int64": 19}
"""Whole numbers, the widest last, with the digits that they need."""


def is_wider(name: str, than: str) -> bool:
    """Whether every value of the second type has an equal in the first, and not the other way round (Arrow's names)."""
    if name in _WHOLE and than in _WHOLE:
        return _WHOLE[name] > _WHOLE[than]
    if name == "double":
        return than in ("float", "int8", "int16", "int32")
    if not (mine := _DECIMAL.fullmatch(name)):
        return False
    precision, scale = int(mine[1]), int(mine[2])
    if theirs := _DECIMAL.fullmatch(than):
        other_scale = int(theirs[2])
        fits = scale >= other_scale and precision - scale >= int(theirs[1]) - other_scale
        return fits and (precision, scale) != (int(theirs[1]), other_scale)
    return than in _WHOLE and precision - scale >= _WHOLE[than]


def arrow_types(frame: Any) -> tuple[tuple[str, str], ...] | None:
    """Return name and Arrow type name of each column; None for what is no frame or cannot tell without running."""
    match kind_of(frame):
        case FrameKind.POLARS:
            return tuple((name, arrow_name(dtype)) for name, dtype in frame.schema.items())
        case FrameKind.POLARS_LAZY:
            return tuple((name, arrow_name(dtype)) for name, dtype in frame.collect_schema().items())
        case FrameKind.ARROW:
            return _told(frame.schema)
        case FrameKind.PANDAS:
            import pyarrow as pa

            return _told(pa.Schema.from_pandas(frame, preserve_index=False))
        case FrameKind.SPARK:
            from pyspark.sql.pandas.types import to_arrow_schema

            return _told(to_arrow_schema(frame.schema, timezone="UTC"))
        case FrameKind.DUCKDB:
            return _told(frame.limit(0).to_arrow_table().schema)
        case None:
            return None


def _told(schema: Any) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, plain_name(str(field.type))) for field in schema)


def plain_name(name: str) -> str:
    """Return the Arrow type name without the layout: ``list<item: string>`` for ``large_list<item: large_string>``."""
    name = re.sub(r"\blarge_(?=string|binary|list)|(?<=string)_view\b|(?<=binary)_view\b", "", name)
    return re.sub(r"\blist<\w+: ", "list<item: ", name)


def arrow_name(dtype: pl.DataType) -> str:
    """Return the Arrow type name of a polars type."""
    kind = type(dtype).__name__
    if kind in _PLAIN:
        return _PLAIN[kind]
    match kind:
        case "Datetime":
            zone = f", tz={dtype.time_zone}" if dtype.time_zone else ""  # type: ignore[attr-defined]  # known by its name
            return f"timestamp[{dtype.time_unit}{zone}]"  # type: ignore[attr-defined]  # likewise
        case "Duration":
            return f"duration[{dtype.time_unit}]"  # type: ignore[attr-defined]  # likewise
        case "Decimal":
            return f"decimal128({dtype.precision}, {dtype.scale})"  # type: ignore[attr-defined]  # likewise
        case "List":
            return f"list<item: {arrow_name(dtype.inner)}>"  # type: ignore[attr-defined]  # likewise
        case "Array":
            return f"fixed_size_list<item: {arrow_name(dtype.inner)}>[{dtype.size}]"  # type: ignore[attr-defined]  # likewise
        case "Struct":
            fields = ", ".join(f"{field.name}: {arrow_name(field.dtype)}" for field in dtype.fields)  # type: ignore[attr-defined]  # likewise
            return f"struct<{fields}>"
        case "Map":
            return f"map<{arrow_name(dtype.key)}, {arrow_name(dtype.value)}>"  # type: ignore[attr-defined]  # likewise
        case _:
            return kind.lower()


@lru_cache(maxsize=4096)
def polars_type(name: str) -> pl.DataType | None:
    """Return the polars type of an Arrow type name; None for one that polars has no like of."""
    import polars as pl

    name = re.sub(r" not null$", "", plain_name(name.strip()))
    if found := _TIMESTAMP.fullmatch(name):
        unit: Any = "ms" if found[1] == "s" else found[1]
        return pl.Datetime(unit, found[2])
    if found := _DECIMAL.fullmatch(name):
        return pl.Decimal(int(found[1]), int(found[2]))
    if found := re.fullmatch(r"(u?)int(8|16|32|64)", name):
        return _called(f"{'UI' if found[1] else 'I'}nt{found[2]}")
    if found := _WRAPPED.fullmatch(name):
        if found[1] == "map":
            key, value, *_ = [polars_type(part) for part in _split(found[2])]
            return pl.Map(key, value) if key is not None and value is not None else None
        fields = [part.partition(":") for part in _split(found[2])]
        inner = [polars_type(part) for _, _, part in fields]
        known = [dtype for dtype in inner if dtype is not None]
        if len(known) < len(inner) or not inner:
            return None
        if found[1] == "list":
            return pl.List(known[0])
        return pl.Struct({field.strip(): dtype for (field, _, _), dtype in zip(fields, known, strict=True)})
    plain = _SYNONYMS.get(re.sub(r"\[day\]$", "", name))
    return _called(plain) if plain else None


def _called(name: str) -> pl.DataType:
    import polars as pl

    found: pl.DataType = getattr(pl, name)()
    return found


def _split(text: str) -> Iterator[str]:
    """Yield what stands between the outermost commas."""
    depth = start = 0
    for position, character in enumerate(text):
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            yield text[start:position]
            start = position + 1
    yield text[start:]
