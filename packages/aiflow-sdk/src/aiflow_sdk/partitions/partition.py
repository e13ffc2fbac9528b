"""Partitions: the hour, day, week or month that a run is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import timezone as fixed_offset
from functools import lru_cache, total_ordering
from typing import Literal, Self, TypeAlias, get_args

from aiflow_sdk.errors import ConfigurationError, unknown_name
from aiflow_sdk.partitions.zone import (
    Hour,
    as_utc,
    day_of,
    find_zone,
    first_moment,
    first_moment_of,
    hour_of,
    hours_shown,
    show,
)

Grain: TypeAlias = Literal["hour", "day", "week", "month"]
GRAINS: tuple[Grain, ...] = get_args(Grain)

_YEARS = range(1000, 9999)  # four digits, and room for a time zone at either end
_MOST_STEPS = 100_000
_INSTANT = timedelta(microseconds=1)
_FORM = re.compile(
    r"(?P<year>[0-9]{4})(?:"
    r"-W(?P<week>[0-9]{2})"
    r"|-(?P<month>[0-9]{2})"
    r"|(?:-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})|(?P<m2>[0-9]{2})(?P<d2>[0-9]{2}))"
    r"(?:[T ](?P<clock>(?P<H>[0-9]{2})(?::(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,][0-9]+)?)?)?)"
    r" ?(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?)?"
    r")",
    re.IGNORECASE,
)
_EXAMPLE = {"hour": "2026-11-20T05", "day": "2026-11-20", "week": "2026-W47 or 2026-11-16", "month": "2026-11"}


@total_ordering
@dataclass(frozen=True)
class Partition:
    """One hour, day, week or month of a time zone, ordered by its start.

    ``key`` is the local time at which the period begins, in ISO 8601: ``2026-11-20`` for a day, its Monday for a week,
    its first for a month, ``2026-11-20T05`` for an hour. Where the clocks show an hour twice, both keys carry their
    offset: ``2026-11-01T01-04:00``, ``2026-11-01T01-05:00``. Other spellings are for :meth:`parse`.

    The partitions of one grain and zone follow each other without gap or overlap. Days begin at midnight, or where the
    clocks skip it, when they come out of the gap; a day that a zone skipped altogether is no partition. An hour during
    which the offset changes is two partitions, each as long as its offset lasted.
    """

    key: str
    grain: Grain
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _bounds(self.key, self.grain, self.timezone)

    @classmethod
    def parse(cls, text: str | date, grain: Grain, timezone: str = "UTC") -> Self:
        """Return the partition that ``text`` names.

        Understood are ``2026-11-20``, ``20261120``, ``2026-11`` (a month), ``2026-W47`` (a week), a date with a time
        (``2026-11-20T05``, ``2026-11-20 05:00``; local) and with an offset (``2026-11-20T05:00Z``, ``…-04:00``; a
        moment), also as ``date`` and ``datetime``. A date names the week and the month that it lies in. What names no
        single partition is a ``ConfigurationError``: ``bad-date``, ``no-such-period`` or ``ambiguous-hour``.
        """
        _check_grain(grain)
        written = text.isoformat() if isinstance(text, date) else str(text).strip()
        return cls(_read(written, grain, timezone), grain, timezone)

    @classmethod
    def containing(cls, moment: datetime, grain: Grain, timezone: str = "UTC") -> Self:
        """Return the partition that the moment (with a time zone) lies in."""
        _check_grain(grain)
        zone = find_zone(timezone)
        try:
            if grain == "hour":
                return cls(_hour_key(hour_of(as_utc(moment), zone), timezone), grain, timezone)
            return cls(_period_of(day_of(as_utc(moment), zone), grain).isoformat(), grain, timezone)
        except OverflowError as error:
            raise _out_of_years(moment.isoformat()) from error

    @property
    def start(self) -> datetime:
        """The first moment, as the zone's clocks show it, with that moment's offset."""
        return _bounds(self.key, self.grain, self.timezone)[0]

    @property
    def end(self) -> datetime:
        """The first moment after the partition, with the offset of that moment."""
        return _bounds(self.key, self.grain, self.timezone)[1]

    @property
    def date(self) -> date:
        """The local date at which the period begins."""
        return date.fromisoformat(self.key[:10])

    def next(self) -> Self:
        """Return the partition that begins where this one ends."""
        return type(self).containing(self.end, self.grain, self.timezone)

    def previous(self) -> Self:
        """Return the partition that ends where this one begins."""
        return type(self).containing(self.start - _INSTANT, self.grain, self.timezone)

    def offset(self, periods: int) -> Self:
        """Return the partition that many periods later, or earlier where negative (at most 100,000 either way)."""
        if isinstance(periods, bool) or not isinstance(periods, int) or abs(periods) > _MOST_STEPS:
            raise ConfigurationError(
                "bad-offset",
                f"{periods!r} is not a number of periods",
                hint=f"write a whole number within ±{_MOST_STEPS:,}",
            )
        if self.grain in ("week", "month"):
            try:
                return type(self)(_step(self.date, self.grain, periods).isoformat(), self.grain, self.timezone)
            except (ValueError, OverflowError) as error:
                raise _out_of_years(f"{self.key} and {periods} {self.grain}s") from error
        at = self
        for _ in range(abs(periods)):
            at = at.next() if periods > 0 else at.previous()
        return at

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Partition):
            return NotImplemented
        return self._order < other._order

    @property
    def _order(self) -> tuple[datetime, datetime, str, str]:
        return (self.start, self.end, self.key, self.timezone)

    def __str__(self) -> str:
        return self.key


def partitions_between(first: Partition, last: Partition) -> list[Partition]:
    """Return all partitions from ``first`` to ``last``, both included.

    Raises ``ConfigurationError``: ``mixed-partitions`` unless both are of one grain and zone, ``reversed-range`` where
    ``last`` comes before ``first``.
    """
    if (first.grain, first.timezone) != (last.grain, last.timezone):
        raise ConfigurationError(
            "mixed-partitions",
            f"{first} ({first.grain}, {first.timezone}) and {last} ({last.grain}, {last.timezone}) are no range",
            hint="use one grain and one time zone",
        )
    if last < first:
        raise ConfigurationError("reversed-range", f"{last} comes before {first}", hint="name the earlier one first")
    found = [first]
    while found[-1] < last:
        found.append(found[-1].next())
    return found


def last_complete(grain: Grain, timezone: str, now: datetime) -> Partition:
    """Return the partition that ended last, at ``now`` or before."""
    return Partition.containing(now, grain, timezone).previous()


def column_value(partition: Partition) -> str:
    """Return what a table's partition column holds for the partition: its key, as ISO text."""
    return partition.key


@lru_cache(maxsize=4096)
def _bounds(key: str, grain: Grain, timezone: str) -> tuple[datetime, datetime]:
    """Return start and end. Raises ``ConfigurationError`` unless ``key`` is a partition's one key."""
    _check_grain(grain)
    zone = find_zone(timezone)
    if (own := _read(key, grain, timezone)) != key:
        raise _bad_date(key, grain, f"as a key it is {own}")
    if grain == "hour":
        hours = hours_shown(datetime.fromisoformat(key[:13]), zone)
        hour = next(hour for hour in hours if _hour_key(hour, timezone) == key)
        return show(hour.start, zone), show(hour.end, zone)
    first = date.fromisoformat(key)
    start, end = first_moment_of(first, zone), first_moment_of(_step(first, grain, 1), zone)
    if start == end:
        raise ConfigurationError("no-such-period", f"there was no {key} in {timezone}: the zone skipped that {grain}")
    return show(start, zone), show(end, zone)


@lru_cache(maxsize=4096)
def _read(text: str, grain: Grain, timezone: str) -> str:
    """Return the key of the one partition that ``text`` names."""
    try:
        return _understand(text, grain, timezone)
    except ConfigurationError:
        raise
    except (ValueError, OverflowError) as error:  # no such day of the month, hour of the day, offset
        raise _bad_date(text, grain, str(error)) from error


def _understand(text: str, grain: Grain, timezone: str) -> str:
    found = _FORM.fullmatch(text)
    if not found:
        raise _bad_date(text, grain, None)
    year = int(found["year"])
    if year not in _YEARS:
        raise _out_of_years(text)
    if found["week"]:
        if grain != "week":
            raise _bad_date(text, grain, "it names a week")
        return date.fromisocalendar(year, int(found["week"]), 1).isoformat()
    if found["month"]:
        if grain != "month":
            raise _bad_date(text, grain, "it names a month")
        return date(year, int(found["month"]), 1).isoformat()
    day = date(year, int(found["m"] or found["m2"]), int(found["d"] or found["d2"]))
    if not found["clock"]:
        if grain == "hour":
            raise ConfigurationError(
                "bad-date", f"'{text}' names a day, and the run is for an hour", hint=f"write the hour, as in {day}T00"
            )
        return _period_of(day, grain).isoformat()
    hour, minute, second = (int(found[part] or 0) for part in ("H", "M", "S"))
    local = datetime(year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 what local clocks show
    if found["offset"]:
        return _read_moment(local, found["offset"], grain, timezone, only_hour=not found["M"])
    if grain != "hour":
        return _period_of(day, grain).isoformat()
    return _read_hour(local.replace(minute=0, second=0), timezone)


def _read_moment(local: datetime, offset: str, grain: Grain, timezone: str, *, only_hour: bool) -> str:
    digits = offset[1:].replace(":", "").ljust(6, "0")
    away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    zone_of_text = UTC if offset in "Zz" else fixed_offset(-away if offset[0] == "-" else away)
    if grain == "hour" and only_hour:
        # A key with its offset names the hour itself, which need not begin at its full hour (clocks set back by half).
        for hour in hours_shown(local, find_zone(timezone)):
            if hour.offset == zone_of_text.utcoffset(None):
                return _hour_key(hour, timezone)
    return Partition.containing(local.replace(tzinfo=zone_of_text), grain, timezone).key


def _read_hour(local: datetime, timezone: str) -> str:
    hours = hours_shown(local, find_zone(timezone))
    if not hours:
        after = hour_of(first_moment(local, find_zone(timezone)), find_zone(timezone))
        raise ConfigurationError(
            "no-such-period",
            f"there is no hour {local.isoformat(timespec='hours')} in {timezone}: the clocks are set forward over it",
            hint=f"the next hour is {_hour_key(after, timezone)}",
        )
    keys = [_hour_key(hour, timezone) for hour in hours]
    if len(keys) > 1:
        raise ConfigurationError(
            "ambiguous-hour",
            f"the clocks of {timezone} show {local.isoformat(timespec='hours')} twice",
            hint=f"write {' or '.join(keys)}",
        )
    return keys[0]


def _hour_key(hour: Hour, timezone: str) -> str:
    alone = len(hours_shown(hour.local, find_zone(timezone))) == 1
    shown = hour.local if alone else hour.local.replace(tzinfo=fixed_offset(hour.offset))
    return shown.isoformat(timespec="hours")


def _period_of(day: date, grain: Grain) -> date:
    match grain:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "hour" | "day":
            return day


def _step(day: date, grain: Grain, periods: int) -> date:
    if grain == "month":
        year, month = divmod(day.year * 12 + day.month - 1 + periods, 12)
        return date(year, month + 1, 1)
    return day + timedelta(days=periods * (7 if grain == "week" else 1))


def _check_grain(grain: str) -> None:
    if grain not in GRAINS:
        raise unknown_name("unknown-grain", "partition grain", str(grain), GRAINS)


def _bad_date(text: str, grain: Grain, why: str | None) -> ConfigurationError:
    reason = f": {why}" if why else ""
    return ConfigurationError("bad-date", f"'{text}' names no {grain}{reason}", hint=f"write {_EXAMPLE[grain]}")


def _out_of_years(text: str) -> ConfigurationError:
    return ConfigurationError("bad-date", f"{text} lies outside the years {_YEARS.start} to {_YEARS.stop - 1}")
