"""Which types a lake holds, and what becomes of those that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from aiflow_sdk.errors import DataError, Where
from aiflow_sdk.frames import arrow_name, check_names, is_wider, polars_type

if TYPE_CHECKING:
    import polars as pl

_HINTS = {
    "Time": "store it as text or as seconds: .dt.to_string() or .cast(pl.Int64)",
    "Duration": "store it as a number: .dt.total_seconds()",
    "Null": "it holds nothing but nulls, so say what it is: .cast(pl.String)",
    "Object": "polars does not know what it holds: give it a type, or make it text",
}


def narrow_types(
    frame: pl.LazyFrame, wanted: Mapping[str, str], *, exact: bool, where: Where, widening: bool = False
) -> pl.LazyFrame:
    """Return the frame with its columns as the table (``wanted``: column → Arrow type name) and the lake hold them.

    Only what is plain is cast: widths of numbers (an overflow is an error when it is computed), categories to text,
    units of time, zones to UTC. With ``widening`` numbers that are wider than wanted stay so. With ``exact`` types
    stay, but for nanoseconds and what no file holds. Raises ``DataError`` (``unsupported-type``) naming the column.
    """
    import polars as pl

    casts = []
    if not exact:
        check_names(frame.collect_schema().names(), "the frame")
    for name, dtype in frame.collect_schema().items():
        target = polars_type(wanted[name]) if name in wanted else None
        if target is None or not _is_plain_cast(dtype, target) or (widening and _outgrows(dtype, wanted[name])):
            target = _exact_type(dtype) if exact else _lake_type(dtype)
        if target is None:
            raise DataError(
                "unsupported-type",
                f"column '{name}' is {arrow_name(dtype)}, which {'a Parquet file' if exact else 'a lake'} cannot hold",
                where=where,
                hint=_HINTS.get(type(dtype).__name__, "cast it to a plainer type"),
            )
        if target != dtype:
            casts.append(pl.col(name).cast(target))
    return frame.with_columns(casts) if casts else frame


def typed_value(text: str, dtype: pl.DataType, column: str, timezone: str) -> Any:
    """Return ISO text as a value of the type; a time without a zone is meant in ``timezone``."""
    kind = type(dtype).__name__
    try:
        match kind:
            case "Date":
                return date.fromisoformat(text)
            case "Datetime":
                moment = datetime.fromisoformat(text)
                zone = getattr(dtype, "time_zone", None)
                if not zone:
                    return moment.replace(tzinfo=None)
                return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).astimezone(
                    ZoneInfo(zone)
                )
            case "Boolean":
                return {"true": True, "false": False}[text.lower()]
            case "Decimal":
                return Decimal(text)
            case _ if dtype.is_integer():
                return int(text)
            case _ if dtype.is_float():
                return float(text)
            case _:
                return text
    except (ValueError, KeyError, InvalidOperation) as error:
        raise DataError(
            "bad-partition-value",
            f"'{text}' is no {arrow_name(dtype)}, which the partition column '{column}' is",
            hint="let the source's partition and the table's column be of one type",
        ) from error


def _lake_type(dtype: pl.DataType) -> pl.DataType | None:
    import polars as pl

    match type(dtype).__name__:
        case "Categorical" | "Enum":
            return pl.String()
        case "UInt8":
            return pl.Int16()
        case "UInt16":
            return pl.Int32()
        case "UInt32" | "UInt64":
            return pl.Int64()
        case "Float16":
            return pl.Float32()
        case "Datetime":
            return pl.Datetime("us", "UTC" if dtype.time_zone else None)  # type: ignore[attr-defined]  # known by its name
        case "Time" | "Duration" | "Null" | "Object" | "Int128" | "UInt128" | "Unknown" | "Extension":
            return None
        case "List" | "Array":
            inner = _lake_type(dtype.inner)  # type: ignore[attr-defined]  # likewise
            return pl.List(inner) if inner is not None else None
        case "Map":
            key, value = _lake_type(dtype.key), _lake_type(dtype.value)  # type: ignore[attr-defined]  # likewise
            return pl.Map(key, value) if key is not None and value is not None else None
        case "Struct":
            fields = {field.name: _lake_type(field.dtype) for field in dtype.fields}  # type: ignore[attr-defined]  # likewise
            known = {name: inner for name, inner in fields.items() if inner is not None}
            return pl.Struct(known) if len(known) == len(fields) and fields else None
        case _:
            return dtype


def _exact_type(dtype: pl.DataType) -> pl.DataType | None:
    import polars as pl

    if isinstance(dtype, pl.Object):
        return None
    # Spark reads no nanoseconds.
    return pl.Datetime("us", dtype.time_zone) if isinstance(dtype, pl.Datetime) else dtype


def _is_plain_cast(found: pl.DataType, wanted: pl.DataType) -> bool:
    import polars as pl

    if found == wanted or isinstance(found, pl.Null):
        return True
    if isinstance(found, pl.Categorical | pl.Enum):
        return isinstance(wanted, pl.String)
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return bool(found.time_zone) == bool(wanted.time_zone)
    if isinstance(found, pl.Decimal):
        return (
            wanted.scale >= found.scale if isinstance(wanted, pl.Decimal) else wanted.is_integer() and not found.scale
        )
    if found.is_integer():
        narrow = isinstance(found, pl.Int8 | pl.Int16 | pl.Int32 | pl.UInt8 | pl.UInt16 | pl.UInt32)
        return wanted.is_integer() or isinstance(wanted, pl.Decimal) or (narrow and isinstance(wanted, pl.Float64))
    if isinstance(found, pl.Float32 | pl.Float16):
        return isinstance(wanted, pl.Float32 | pl.Float64)
    if isinstance(found, pl.List | pl.Array) and isinstance(wanted, pl.List):
        return _is_plain_cast(_made(found.inner), _made(wanted.inner))
    if isinstance(found, pl.Map) and isinstance(wanted, pl.Map):
        inner = ((found.key, wanted.key), (found.value, wanted.value))
        return all(_is_plain_cast(_made(one), _made(other)) for one, other in inner)
    if isinstance(found, pl.Struct) and isinstance(wanted, pl.Struct):
        same = [field.name for field in found.fields] == [field.name for field in wanted.fields]
        pairs = zip(found.fields, wanted.fields, strict=False)
        return same and all(_is_plain_cast(_made(one.dtype), _made(other.dtype)) for one, other in pairs)
    return False


def _outgrows(dtype: pl.DataType, wanted: str) -> bool:
    """Whether the lake's type for a column is wider than the table's."""
    kept = _lake_type(dtype)
    return kept is not None and is_wider(arrow_name(kept), wanted)


def _made(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made
