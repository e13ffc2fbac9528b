"""Which types a table of the lake holds: the one list that the docs show, and that the tests try on every engine."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Kind:
    """A type of a frame's column, and what it is in a table and in the frames that are read of it."""

    arrow: pa.DataType
    delta: str
    polars: str
    spark: str
    values: tuple[Any, ...]
    """The least, the greatest, the odd ones; null comes with each."""
    note: str = ""
    can_partition: bool = True


@dataclass(frozen=True)
class Converted:
    """A type that no table has, and that is written as another one."""

    arrow: pa.DataType
    as_: pa.DataType
    values: tuple[Any, ...]
    note: str = ""
    engines: tuple[str, ...] = ("python", "spark")


@dataclass(frozen=True)
class Unsupported:
    """A type that is refused, and what to write instead."""

    arrow: pa.DataType
    values: tuple[Any, ...]
    instead: str


UTC = dt.UTC


def whole(bits: int) -> tuple[int, ...]:
    """Return the ends of the range, and zero."""
    return (-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1)


def floats(greatest: float, least: float) -> tuple[float, ...]:
    """Return the odd ones among floating numbers."""
    return (math.nan, math.inf, -math.inf, -0.0, 0.0, greatest, -greatest, least)


_TIMES = (
    "0001-01-01T00:00:00",
    "1582-10-04T23:59:59",
    "1883-11-18T12:00:00",
    "1900-01-01T00:00:00.000001",
    "1969-12-31T23:59:59.999999",
    "2026-03-29T02:30:00",
    "9999-12-31T23:59:59.999999",
)
MOMENTS = tuple(map(dt.datetime.fromisoformat, _TIMES))
_POINT = pa.struct([("x", pa.int32()), ("to be. \u00fc", pa.struct([("at", pa.timestamp("us", "UTC"))]))])

KINDS = (
    Kind(pa.bool_(), "boolean", "Boolean", "boolean", (True, False)),
    Kind(pa.int8(), "byte", "Int8", "tinyint", whole(8)),
    Kind(pa.int16(), "short", "Int16", "smallint", whole(16)),
    Kind(pa.int32(), "integer", "Int32", "int", whole(32)),
    Kind(pa.int64(), "long", "Int64", "bigint", whole(64)),
    Kind(
        pa.float32(),
        "float",
        "Float32",
        "float",
        floats(3.4028234663852886e38, 1.401298464324817e-45),
        "NaN and infinities are kept; as a partition's value -0.0 is 0.0",
    ),
    Kind(pa.float64(), "double", "Float64", "double", floats(1.7976931348623157e308, 5e-324), "as float"),
    Kind(
        pa.decimal128(38, 10),
        "decimal(38,10)",
        "Decimal(38, 10)",
        "decimal(38,10)",
        (Decimal("9" * 28 + "." + "9" * 10), Decimal("-" + "9" * 28 + "." + "9" * 10), Decimal("0E-10")),
        "at most 38 digits, none cut off",
    ),
    Kind(
        pa.string(),
        "string",
        "String",
        "string",
        ("", " ", "null", "\u00fc\U0001f600", "a/../b%2F=\"'`\\", "tab\tand\nline"),
        "as a partition's value empty text is null",
    ),
    Kind(pa.binary(), "binary", "Binary", "binary", (b"", b"\x00\xff"), can_partition=False),
    Kind(
        pa.date32(),
        "date",
        "Date",
        "date",
        (dt.date(1, 1, 1), dt.date(1582, 10, 4), dt.date(1582, 10, 15), dt.date(1969, 12, 31), dt.date(9999, 12, 31)),
        "years 1 to 9999",
    ),
    Kind(
        pa.timestamp("us", "UTC"),
        "timestamp",
        "Datetime('us', 'UTC')",
        "timestamp",
        tuple(moment.replace(tzinfo=UTC) for moment in MOMENTS),
        "a moment; of other zones the moment is kept, the zone is not",
    ),
    Kind(
        pa.timestamp("us"),
        "timestamp_ntz",
        "Datetime('us')",
        "timestamp_ntz",
        MOMENTS,
        "a local time of no zone; needs readers that know timestampNtz",
    ),
    Kind(
        pa.list_(pa.string()),
        "array<string>",
        "List(String)",
        "array<string>",
        ([], [""], [None, "x"]),
        "of any type here, nested as deep as wanted",
        can_partition=False,
    ),
    Kind(
        _POINT,
        "struct",
        "Struct",
        "struct",
        (
            {"x": None, "to be. \u00fc": None},
            {"x": 1, "to be. \u00fc": {"at": None}},
            {"x": -1, "to be. \u00fc": {"at": dt.datetime(1, 1, 1, tzinfo=UTC)}},
        ),
        "one field at least",
        can_partition=False,
    ),
    Kind(
        pa.map_(pa.string(), pa.int64()),
        "map<string, long>",
        "Map(String, Int64)",
        "map<string,bigint>",
        ([], [("a", 1), ("b", None)]),
        "no null among the keys",
        can_partition=False,
    ),
)

CONVERTED = (
    Converted(pa.uint8(), pa.int16(), (0, 255)),
    Converted(pa.uint16(), pa.int32(), (0, 65535)),
    Converted(pa.uint32(), pa.int64(), (0, 2**32 - 1)),
    Converted(pa.uint64(), pa.int64(), (0, 2**63 - 1), "greater numbers are an error"),
    Converted(pa.float16(), pa.float32(), (1.5, math.nan)),
    Converted(pa.decimal32(7, 2), pa.decimal128(7, 2), (Decimal("99999.99"),)),
    Converted(pa.decimal64(18, 2), pa.decimal128(18, 2), (Decimal("-99999.99"),)),
    Converted(pa.decimal256(30, 2), pa.decimal128(30, 2), (Decimal("99999.99"),)),
    Converted(
        pa.timestamp("ns"),
        pa.timestamp("us"),
        (1_000, -1_000),
        "what is shorter than a microsecond is cut off (python) or an error (spark)",
    ),
    Converted(pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), (1, -1)),
    Converted(pa.timestamp("s"), pa.timestamp("us"), (1, -1)),
    Converted(pa.timestamp("us", "Europe/Berlin"), pa.timestamp("us", "UTC"), (0, 1)),
    Converted(pa.date64(), pa.date32(), (dt.date(2020, 2, 29),)),
    Converted(pa.large_string(), pa.string(), ("x",)),
    Converted(pa.string_view(), pa.string(), ("x",)),
    Converted(pa.large_binary(), pa.binary(), (b"x",)),
    Converted(pa.binary(2), pa.binary(), (b"xy",)),
    Converted(pa.dictionary(pa.int32(), pa.string()), pa.string(), ("x", "y", "x"), "categories, as text"),
    Converted(pa.large_list(pa.int32()), pa.list_(pa.int32()), ([1, None], [])),
    Converted(pa.list_(pa.int32(), 2), pa.list_(pa.int32()), ([1, 2],)),
    Converted(pa.list_(pa.uint8()), pa.list_(pa.int16()), ([255],)),
    Converted(pa.struct([("a", pa.uint8())]), pa.struct([("a", pa.int16())]), ({"a": 255},)),
    Converted(pa.map_(pa.string(), pa.uint8()), pa.map_(pa.string(), pa.int16()), ([("a", 255)],)),
)

UNSUPPORTED = (
    Unsupported(pa.null(), (None,), "a column of the type that it is to have, `.cast(pl.String)`"),
    Unsupported(pa.time32("s"), (dt.time(1),), "text, or a number of seconds"),
    Unsupported(pa.time64("us"), (dt.time(1),), "text, or a number of microseconds"),
    Unsupported(pa.duration("us"), (dt.timedelta(1),), "a number of seconds or microseconds"),
    Unsupported(pa.month_day_nano_interval(), ((1, 2, 3),), "a number of days or months"),
    Unsupported(pa.decimal256(40, 2), (Decimal("1.00"),), "a decimal of at most 38 digits, or text"),
    Unsupported(pa.decimal128(5, -2), (Decimal(100),), "a decimal of scale 0"),
    Unsupported(pa.struct([]), ({},), "a struct with a field, or no such column"),
    Unsupported(pa.list_(pa.null()), ([None],), "a list of the type that it is to have"),
    Unsupported(pa.list_view(pa.int32()), ([1],), "a plain list"),
    Unsupported(pa.struct([("a", pa.time64("us"))]), ({"a": dt.time(1)},), "as above, for the field"),
    Unsupported(pa.map_(pa.string(), pa.duration("us")), ([("a", dt.timedelta(1))],), "as above, for the values"),
)


def render() -> str:
    """Return the tables of docs/lake.md."""
    lines = ["| Arrow | Delta | polars | Spark | |", "| --- | --- | --- | --- | --- |"]
    for kind in KINDS:
        note = "; ".join([*([] if kind.can_partition else ["names no partition"]), *([kind.note] if kind.note else [])])
        arrow = "struct" if pa.types.is_struct(kind.arrow) else str(kind.arrow)
        lines.append(f"| `{arrow}` | `{kind.delta}` | `{kind.polars}` | `{kind.spark}` | {note} |")
    lines += [
        "",
        "What no table has is written as its nearest like:",
        "",
        "| Arrow | becomes | |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{one.arrow}` | `{one.as_}` | {one.note} |" for one in CONVERTED]
    lines += ["", "Refused (`unsupported-type`):", "", "| Arrow | write instead |", "| --- | --- |"]
    lines += [f"| `{one.arrow}` | {one.instead} |" for one in UNSUPPORTED]
    return "\n".join(lines)
