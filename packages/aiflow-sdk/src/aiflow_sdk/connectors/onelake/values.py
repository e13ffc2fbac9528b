"""Partition values: from what an author or a folder name says to the column's own type, and back.

The text form is the Delta protocol's ("Partition Value Serialization"), in which empty text is null.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from aiflow_sdk.errors import DataError

_INTEGER_BITS = {"byte": 8, "short": 16, "integer": 32, "long": 64}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
_NAN = float("nan")
_EXAMPLES = {
    "date": "2026-11-20",
    "timestamp": "2026-11-20T05",
    "timestamp_ntz": "2026-11-20T05",
    "boolean": "true or false",
    **dict.fromkeys(_INTEGER_BITS, "a whole number that fits"),
}


def typed_value(value: Any, delta_type: str, column: str, timezone: str = "UTC") -> Any:
    """Return ``value`` (ISO text, a number, None) in the type of a partition column, as the table's own are.

    A local time is one of ``timezone``. Raises ``DataError`` (``bad-partition-value``) for what the type cannot hold.
    """
    if value is None or value == "":
        return None
    try:
        return _convert(value, delta_type, timezone)
    except (ValueError, TypeError, OverflowError, InvalidOperation, Inexact) as error:
        example = _EXAMPLES.get(delta_type)
        raise DataError(
            "bad-partition-value",
            f"{value!r} is no value of the partition column '{column}', which is a {delta_type}",
            hint=str(error) if isinstance(error, _ReasonError) else (f"write {example}" if example else None),
        ) from error


class _ReasonError(ValueError):
    """Why a value is refused, where the type alone does not say it."""


def _convert(value: Any, delta_type: str, timezone: str) -> Any:
    match delta_type:
        case "string":
            return _text(value)
        case "date":
            return _date(value)
        case "timestamp" | "timestamp_ntz":
            return _moment(value, delta_type, timezone)
        case "boolean":
            return _truth(value)
        case "byte" | "short" | "integer" | "long":
            return _whole(value, _INTEGER_BITS[delta_type])
        case "float" | "double":
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            # One number has many texts; as a float of four bytes they are one again.
            return plain_float(struct.unpack("f", struct.pack("f", number))[0] if delta_type == "float" else number)
        case _ if found := _DECIMAL.fullmatch(delta_type):
            return _decimal(value, int(found[1]), int(found[2]))
        case _:
            raise _ReasonError(f"a column of type {delta_type} cannot be filtered or written as a partition")


def plain_float(value: float) -> float:
    """Return the number as it names a partition: of NaN there is one, equal to itself, and -0.0 is 0.0."""
    return _NAN if value != value else value + 0.0


def _decimal(value: Any, precision: int, scale: int) -> Decimal:
    if isinstance(value, float | bool):
        raise _ReasonError(f"write it as text, as in '{value}'")
    found = Decimal(str(value))
    exact = Context(prec=precision, traps=[InvalidOperation, Inexact])
    return found.quantize(Decimal((0, (1,), -scale)), context=exact)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _ReasonError(f"write text, as in '{value}'")


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise TypeError
    return value if isinstance(value, date) else date.fromisoformat(value)


def _moment(value: Any, delta_type: str, timezone: str) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if delta_type == "timestamp_ntz":
        if found.tzinfo is not None:
            raise _ReasonError("it holds local times, which cannot tell the two hours of a clock set back apart")
        return found
    return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _refuse()


def _refuse() -> bool:
    raise ValueError


def _whole(value: Any, bits: int) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or _INTEGER.fullmatch(value)):
        raise ValueError
    number = int(value)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise ValueError
    return number


def stored_text(value: Any) -> str | None:
    """Return a typed value as the Delta log holds it; None is null."""
    match value:
        case None | "":
            return None
        case bool():
            return "true" if value else "false"
        case datetime():
            plain = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return plain.isoformat(" ", "microseconds")
        case date():
            return value.isoformat()
        case float():
            return repr(value)
        case Decimal():
            return format(value, "f")  # of no zero 0E-10, which Sail takes for null
        case _:
            return str(value)


def shown_text(value: Any, timezone: str = "UTC") -> str:
    """Return a typed value as ISO text, an hour as the key of its partition in ``timezone``, null as ``null``."""
    if value is None:
        return "null"
    if not isinstance(value, datetime):
        return stored_text(value) or ""
    local = value.astimezone(ZoneInfo(timezone)) if value.tzinfo else value
    if (local.minute, local.second, local.microsecond) != (0, 0, 0):
        return local.isoformat()
    twice = local.tzinfo is not None and local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return local.isoformat(timespec="hours") if twice else local.replace(tzinfo=None).isoformat(timespec="hours")
