"""Cron text: five fields, as croniter (and so Airflow) reads them, without its cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from aiflow_sdk.errors import plural

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY = timedelta(days=1)
_ALL_DAYS = frozenset(range(1, 32))
_ITEM = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>[0-9]+))?", re.ASCII)
_NTH = re.compile(r"(?P<weekday>\w+)#(?P<nth>[1-5])|l(?P<last>\w+)", re.ASCII)


@dataclass(frozen=True)
class Cron:
    """When a cron text fires, by the local clock."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    """Of the month; 0 stands for its last."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """From 0 for Sunday, whichever week of the month."""
    nth_weekdays: frozenset[tuple[int, int]]
    """(weekday, which of the month); -1 for its last."""
    any_day: bool
    """The day of the month says nothing, so that the weekday alone decides."""
    any_weekday: bool
    """The weekday says nothing."""

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> Cron:
        """Return what ``text`` means. Raises ``ValueError`` that says what is wrong with it."""
        return _parse(text)

    @property
    def text(self) -> str:
        """The one text of all that mean the same: numbers, ascending, ``*``, ``*/n`` and ranges where they fit."""
        days, weekdays = self.days, self.weekdays
        every_day, every_weekday = days >= _ALL_DAYS or self.any_day, len(weekdays) == 7 or self.any_weekday
        # Where both are restricted either suffices, so that a full one makes it every day.
        is_daily = (every_day and every_weekday) or (
            not self.any_day and not self.any_weekday and (every_day or every_weekday)
        )
        nth = [pair for pair in self.nth_weekdays if pair[0] not in weekdays]
        named = [f"{weekday}#{which}" if which > 0 else f"L{weekday}" for weekday, which in sorted(nth)]
        by_day = [*_items(days - {0}, 1, 31), *(["L"] if 0 in days else [])]
        by_weekday = [*_items(weekdays, 0, 6), *named]
        fields = (
            _items(self.minutes, 0, 59),
            _items(self.hours, 0, 23),
            ["*"] if is_daily or self.any_day else by_day,
            _items(self.months, 1, 12),
            ["*"] if is_daily or self.any_weekday else by_weekday,
        )
        return " ".join(",".join(items) for items in fields)

    @property
    def every_hour(self) -> bool:
        """Whether it fires at each hour of a day."""
        return len(self.hours) == 24

    def fires_on(self, day: date) -> bool:
        """Tell whether it fires on ``day``; where both kinds of day are restricted, either suffices."""
        if day.month not in self.months:
            return False
        by_day = day.day in self.days or (0 in self.days and (day + _DAY).day == 1)
        if self.any_weekday:
            return by_day
        weekday, nth = day.isoweekday() % 7, (day.day + 6) // 7
        by_weekday = weekday in self.weekdays or (weekday, nth) in self.nth_weekdays
        if not by_weekday and (weekday, -1) in self.nth_weekdays:
            by_weekday = (day + 7 * _DAY).day <= 7
        return by_weekday if self.any_day else by_day or by_weekday

    def local_times(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the local times (naive) from ``first`` to ``last``, both included, at which it fires."""
        day = first.date()
        while day <= last.date():
            if self.fires_on(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        at = datetime.combine(day, time(hour, minute))
                        if first <= at <= last:
                            yield at
            day += _DAY


def _parse(text: str) -> Cron:
    fields = text.lower().split()
    if len(fields) != 5:
        raise ValueError(f"it has {plural(len(fields), 'field')} instead of five")
    minute, hour, day, month, weekday = fields
    day, weekday = ("*" if field == "?" else field for field in (day, weekday))
    days, last_day = _without(day, "l")
    plain, nth = _split_nth(weekday)
    all_days = _values(days, "day of the month", 1, 31) if days else frozenset()
    weekdays = frozenset(n % 7 for n in _values(plain, "weekday", 0, 7, _WEEKDAYS)) if plain else frozenset()
    cron = Cron(
        minutes=_values(minute, "minute", 0, 59),
        hours=_values(hour, "hour", 0, 23),
        days=all_days | last_day,
        months=_values(month, "month", 1, 12, _MONTHS),
        weekdays=weekdays,
        nth_weekdays=nth,
        # croniter's rule: all values are as good as "*" only where the other field has a "*" in it.
        any_day=day == "*" or (len(all_days) == 31 and "*" in weekday),
        any_weekday=weekday == "*" or (len(weekdays) == 7 and "*" in day),
    )
    can_fire = any(day <= _LONGEST[month - 1] for day in cron.days for month in cron.months)
    if cron.any_weekday and not can_fire:
        raise ValueError("no month that it names has such a day")
    return cron


def _values(field: str, what: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise ValueError(f"'{item}' is no {what}")
        step = int(match["step"] or 1)
        if step == 0:
            raise ValueError(f"'{item}' steps by nothing")
        if match["low"] is None:
            first, last = low, high
        else:
            first = _number(match["low"], what, low, high, names)
            only = first if match["step"] is None else high
            last = _number(match["high"], what, low, high, names) if match["high"] else only
        if what == "weekday" and match["high"] is None and last == high and match["step"]:
            last = 6  # Sunday stands at both ends; a step counts it once
        if first > last:  # over the end, as in fri-mon or 22-2
            around = list(range(first, (7 if what == "weekday" else high + 1))) + list(range(low, last + 1))
            found.update(around[::step])
        else:
            found.update(range(first, last + 1, step))
    return frozenset(found)


def _items(values: frozenset[int], low: int, high: int) -> list[str]:
    """Return the field that stands for the values, item by item."""
    found = sorted(values)
    if len(found) == high - low + 1:
        return ["*"]
    if len(found) > 2 and found[0] == low and found == list(range(low, high + 1, found[1] - low)):
        return [f"*/{found[1] - low}"]
    items: list[str] = []
    while found:
        length = next((n for n in range(1, len(found)) if found[n] != found[0] + n), len(found))
        length = length if length > 2 else 1
        items.append(f"{found[0]}-{found[length - 1]}" if length > 1 else str(found[0]))
        del found[:length]
    return items


def _number(text: str, what: str, low: int, high: int, names: tuple[str, ...]) -> int:
    number = low + names.index(text) if text in names else int(text) if text.isdecimal() else -1
    if not low <= number <= high:
        raise ValueError(f"'{text}' is no {what} ({low}-{high})")
    return number


def _without(field: str, item: str) -> tuple[str, frozenset[int]]:
    items = field.split(",")
    rest = ",".join(each for each in items if each != item)
    return rest, frozenset({0} if item in items else ())


def _split_nth(field: str) -> tuple[str, frozenset[tuple[int, int]]]:
    plain: list[str] = []
    nth: set[tuple[int, int]] = set()
    for item in field.split(","):
        if match := _NTH.fullmatch(item):
            weekday = _number(match["weekday"] or match["last"], "weekday", 0, 7, _WEEKDAYS) % 7
            nth.add((weekday, int(match["nth"] or -1)))
        else:
            plain.append(item)
    return ",".join(plain), frozenset(nth)
