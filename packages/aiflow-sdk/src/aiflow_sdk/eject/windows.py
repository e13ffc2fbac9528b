"""Which partitions of an input a run reads, as Python text."""

from __future__ import annotations

from typing import Any

from aiflow_sdk.eject.layout import Code, Group, call
from aiflow_sdk.eject.values import Values
from aiflow_sdk.partitions import Grain, Window, is_window
from aiflow_sdk.variables import has_template

_RUN_VALUES = {"hour": "{{ data_interval_start }}"}


def wanted_keys(raw: Any, values: Values) -> tuple[Code, int | None] | None:
    """Return the keys that a partition column's raw value asks for, and how many must be there (None: all).

    None where the value does not follow the run: a literal, ``latest`` and ``all``.
    """
    if is_window(raw):
        window = Window.from_json(raw)
        if window.kind in ("latest", "all") or values.grain is None:
            return None
        return _of_window(window, raw.get("grain") or values.grain, values), 1 if window.kind == "last" else None
    if not isinstance(raw, str) or not has_template(raw):
        return None
    if raw == _RUN_VALUES.get(values.grain or "", "{{ ds }}"):
        return Group("[", (values.key(),), "]"), None
    return Group("[", (values.code(raw),), "]"), None


def _of_window(window: Window, grain: Grain, values: Values) -> Code:
    if window.kind in ("same", "offset") and grain == values.grain:
        return Group("[", (_key(values.shifted(window.n or 0), grain),), "]")
    if window.kind == "last" and window.n == 1 and grain == values.grain:
        return Group("[", (values.key(),), "]")
    if grain == "hour":
        end = values.start(1)
        start = values.start() if window.kind != "last" else f"hours_later({end}, {-(window.n or 0)})"
        return call("hours", start, end)
    first, last = _first_day(values), _last_day(values)
    match window.kind:
        case "last":
            first = _shifted(last, grain, 1 - (window.n or 1))
        case "offset":
            first = last = _shifted(first, grain, window.n or 0)
        case _:
            pass
    return call(f"{grain}s", first, last)


def _key(shifted: str, grain: Grain) -> str:
    if grain == "hour":
        return f"hour_key({shifted})"
    return f"str({shifted})" if " " in shifted else f"{shifted}.isoformat()"


def _first_day(values: Values) -> str:
    return "hour.date()" if values.grain == "hour" else str(values.grain)


def _last_day(values: Values) -> str:
    match values.grain:
        case "week":
            return "week + timedelta(days=6)"
        case "month":
            return "month_of(month, 1) - timedelta(days=1)"
        case _:
            return _first_day(values)


def _shifted(day: str, grain: Grain, periods: int) -> str:
    if not periods:
        return day
    if grain == "month":
        return f"month_of({day}, {periods})"
    sign = "-" if periods < 0 else "+"
    return f"{day} {sign} timedelta({grain}s={abs(periods)})"
