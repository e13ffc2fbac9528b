"""What the clocks of a time zone show: where a local day or hour begins and ends, through every change of the clocks.

Moments are passed as aware datetimes in UTC; local time as naive datetimes. A gap is local time that the clocks skip, a
fold is local time that they show twice (PEP 495). A zone's offset changes at whole seconds only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from datetime import timezone as fixed_offset
from functools import lru_cache
from typing import NamedTuple

from aiflow_sdk.errors import ConfigurationError, unknown_name

_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)


@lru_cache(maxsize=256)
def find_zone(name: str) -> tzinfo:
    """Return the zone of that IANA name. Raises ``UnknownNameError`` with the nearest one."""
    if name == "UTC":
        return UTC  # needs no tz database, and is quicker
    from zoneinfo import ZoneInfo, available_timezones  # 2 ms that most imports of this package need not pay

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:  # a folder of the database is an OSError
        raise unknown_name("unknown-timezone", "time zone", str(name), available_timezones()) from error


def as_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC. Raises ``ConfigurationError`` where it has no time zone."""
    if moment.utcoffset() is None:
        raise ConfigurationError(
            "naive-moment",
            f"{moment.isoformat()} has no time zone",
            hint="give the datetime a tzinfo, as in tzinfo=UTC",
        )
    return moment.astimezone(UTC)


def show(moment: datetime, zone: tzinfo) -> datetime:
    """Return ``moment`` as the zone's clocks show it, with that moment's offset fixed.

    The offset is fixed because Python subtracts and compares two datetimes of one ``ZoneInfo`` by their wall clocks,
    which makes each day 24 hours long.
    """
    shown = moment.astimezone(zone)
    return shown.replace(tzinfo=fixed_offset(_offset(shown)), fold=0)


def first_moment(local: datetime, zone: tzinfo) -> datetime:
    """Return the first moment at which the clocks show ``local``, or where they skip it, what follows the gap."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None, fold=0) == local:
        return moment
    return _change(local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment, zone)


def moments(local: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """Return the moments at which the clocks show ``local``: one, two in a fold, none in a gap."""
    found = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(at for at in found if at.astimezone(zone).replace(tzinfo=None, fold=0) == local))


def first_moment_of(day: date, zone: tzinfo) -> datetime:
    """Return the moment at which ``day`` begins: midnight, or the end of the gap that midnight lies in."""
    return first_moment(datetime.combine(day, time()), zone)


def day_of(moment: datetime, zone: tzinfo) -> date:
    """Return the day that ``moment`` belongs to. Clocks set back over midnight do not begin the new day again."""
    day = moment.astimezone(zone).date()
    while moment >= first_moment_of(day + timedelta(days=1), zone):
        day += timedelta(days=1)
    return day


class Hour(NamedTuple):
    """A stretch of time through which the clocks show one hour at one offset; shorter than an hour beside a change."""

    local: datetime
    offset: timedelta
    start: datetime
    end: datetime


def hour_of(moment: datetime, zone: tzinfo) -> Hour:
    """Return the hour that ``moment`` lies in."""
    shown = moment.astimezone(zone)
    offset = _offset(shown)
    local = shown.replace(minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    start = (local - offset).replace(tzinfo=UTC)
    end = start + _HOUR
    if _offset(start.astimezone(zone)) != offset:
        start = _change(start, moment, zone)
    if _offset((end - _INSTANT).astimezone(zone)) != offset:
        end = _change(moment, end, zone)
    return Hour(local, offset, start, end)


def hours_shown(local: datetime, zone: tzinfo) -> tuple[Hour, ...]:
    """Return the hours that the clocks show as ``local`` (a full hour), in order: mostly one; none in a gap."""
    inside = [*moments(local, zone), *moments(local + _HOUR - _INSTANT, zone)]
    return tuple(sorted({hour_of(moment, zone) for moment in inside}, key=lambda hour: hour.start))


def _offset(shown: datetime) -> timedelta:
    offset = shown.utcoffset()
    assert offset is not None  # only aware datetimes come here
    return offset


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the first moment later than ``before`` that has the offset of ``after``."""
    new = _offset(after.astimezone(zone))
    low, high = before.replace(microsecond=0), after.replace(microsecond=0)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if _offset(middle.astimezone(zone)) == new:
            high = middle
        else:
            low = middle
    return high
