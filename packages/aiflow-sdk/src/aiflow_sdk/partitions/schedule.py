"""Schedules: when they fire, and for which partitions each firing starts a run."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from aiflow_sdk.errors import DefinitionError, did_you_mean
from aiflow_sdk.partitions.cron import Cron
from aiflow_sdk.partitions.partition import Grain, Partition, last_complete, partitions_between
from aiflow_sdk.partitions.zone import as_utc, find_zone, first_moment, first_moment_of, moments, show

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""The cron text that each preset stands for, as in Airflow."""

_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
_EPOCH = date(1970, 1, 5)  # a Monday
_DAY = timedelta(days=1)
_FOLD = timedelta(hours=3)  # more than clocks are set back by
_WINDOWS = tuple(
    timedelta(days=days) for days in (0.125, 2, 10, 70, 400, 3_000, 15_000)
)  # 29 February on a Monday: 40 years


def normalise_schedule(schedule: str | timedelta) -> str:
    """Return the schedule in its one form: cron text of numbers, or an ISO 8601 duration.

    ``00 3 * * mon-fri`` becomes ``0 3 * * 1-5``, a preset (``@daily``) its cron text; a ``timedelta``, or a duration
    however it is written, becomes ``PT1H``, ``P1D``, ``P1W``. Raises ``DefinitionError`` (``bad-schedule``) for
    anything else.
    """
    if isinstance(schedule, timedelta):
        return _write_duration(schedule)
    if not isinstance(schedule, str):
        raise _bad_schedule(schedule, "it is neither text nor a timedelta")
    text = " ".join(schedule.split())
    if text.startswith("@"):
        if text.lower() not in PRESETS:
            hint = did_you_mean(text.lower(), PRESETS)
            raise _bad_schedule(text, "there is no such preset", hint or f"known: {', '.join(PRESETS)}; None: by hand")
        return PRESETS[text.lower()]
    if text[:1] in ("P", "p"):
        return _write_duration(read_duration(text.upper()))
    try:
        return _canonical_cron(text)
    except ValueError as error:
        raise _bad_schedule(text, str(error)) from error


@lru_cache(maxsize=1024)
def _canonical_cron(text: str) -> str:
    return Cron.parse(text).text


def infer_grain(schedule: str | None) -> Grain | None:
    """Return what one run of the schedule is plainly for, or None where that is not plain.

    ``0 * * * *`` is for an hour, ``0 3 * * *`` and ``0 3 * * 1-5`` for a day, ``0 3 * * 1`` for a week, ``0 3 1 * *``
    for a month; ``PT1H``, ``P1D`` and ``P1W`` likewise.
    """
    if schedule is None:
        return None
    text = normalise_schedule(schedule)
    if text.startswith("P"):
        durations: dict[str, Grain] = {"PT1H": "hour", "P1D": "day", "P1W": "week"}
        return durations.get(text)
    cron = Cron.parse(text)
    if len(cron.minutes) != 1 or len(cron.months) != 12 or cron.nth_weekdays:
        return None
    if cron.every_hour:
        return "hour" if cron.any_day and cron.any_weekday else None
    if len(cron.hours) != 1:
        return None
    if cron.any_day:
        return "week" if len(cron.weekdays) == 1 else "day"
    return "month" if cron.any_weekday and len(cron.days) == 1 else None


def fire_times(schedule: str, timezone: str, after: datetime, until: datetime) -> list[datetime]:
    """Return the moments later than ``after`` and not later than ``until`` at which the schedule fires, in order.

    Cron text goes by the clocks of ``timezone``. What fires at certain hours fires once a day: after a gap in which
    its time lies, and at the first of two equal times. What fires every hour fires at every hour that passes. A
    duration of whole days fires at midnight (weeks: on Mondays), a shorter one is counted from midnight of Monday,
    5 January 1970.
    """
    text = normalise_schedule(schedule)
    zone = find_zone(timezone)
    low, high = as_utc(after), as_utc(until)
    found: set[datetime] = set()
    first, last = (moment.astimezone(zone).replace(tzinfo=None, fold=0) for moment in (low, high))
    if not text.startswith("P"):
        cron = Cron.parse(text)
        for local in cron.local_times(first - _FOLD, last + _FOLD):
            found.update(moments(local, zone) if cron.every_hour else (first_moment(local, zone),))
    elif (step := read_duration(text)) % _DAY:
        epoch = first_moment_of(_EPOCH, zone)
        at = epoch + ((low - epoch) // step + 1) * step
        while at <= high:
            found.add(at)
            at += step
    else:
        day = first.date() - (first.date() - _EPOCH) % step
        while day <= last.date() + _DAY:
            found.add(first_moment(datetime.combine(day, time()), zone))
            day += step
    return [show(at, zone) for at in sorted(found) if low < at <= high]


def due_partitions(
    schedule: str, grain: Grain, timezone: str, *, after: datetime | None, now: datetime
) -> list[Partition]:
    """Return the partitions that the firings later than ``after`` and not later than ``now`` start a run for, in order.

    Each firing is for the last complete period, and where several were completed since the firing before it, for each
    of them: ``0 3 * * 1-5`` makes Friday, Saturday and Sunday on a Monday. ``after`` is the firing that was seen last;
    None stands for the one before the latest, so that a new pipeline begins with its latest firing.
    """
    latest = _last_fire(schedule, timezone, now)
    if after is None:
        first = latest
    elif latest is not None and latest > as_utc(after):
        first = _first_fire(schedule, timezone, after, now)
    else:
        first = None
    if first is None or latest is None:
        return []
    oldest = last_complete(grain, timezone, first)
    before = _last_fire(schedule, timezone, first - timedelta(microseconds=1))
    if before is not None:
        oldest = min(oldest, Partition.containing(before, grain, timezone))
    return partitions_between(oldest, last_complete(grain, timezone, latest))


def _first_fire(schedule: str, timezone: str, after: datetime, until: datetime) -> datetime | None:
    for window in _WINDOWS:
        if found := fire_times(schedule, timezone, after, min(as_utc(until), as_utc(after) + window)):
            return found[0]
    return None


def _last_fire(schedule: str, timezone: str, until: datetime) -> datetime | None:
    for window in _WINDOWS:
        if found := fire_times(schedule, timezone, as_utc(until) - window, until):
            return found[-1]
    return None


@lru_cache(maxsize=256)
def read_duration(text: str) -> timedelta:
    """Return how long an ISO 8601 duration is. Raises ``DefinitionError`` (``bad-schedule``)."""
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        hint = "write weeks, days, hours, minutes: P1W, P1D, PT6H, PT15M; for months cron text, as in '0 0 1 * *'"
        raise _bad_schedule(text, "it is no ISO 8601 duration", hint)
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as error:
        raise _bad_schedule(text, "it is too long") from error


def _write_duration(duration: timedelta) -> str:
    if duration < timedelta(minutes=1) or duration.microseconds:
        raise _bad_schedule(duration, "it is under a minute, or not of whole seconds", "write timedelta(hours=1)")
    if duration > timedelta(days=3660):
        raise _bad_schedule(duration, "it is longer than ten years", "write timedelta(days=1)")
    days, seconds = duration.days, duration.seconds
    if not seconds:
        return f"P{days}D" if days % 7 else f"P{days // 7}W"
    parts = zip((seconds // 3600, seconds // 60 % 60, seconds % 60), "HMS", strict=True)
    return (f"P{days}D" if days else "P") + "T" + "".join(f"{number}{unit}" for number, unit in parts if number)


def _bad_schedule(schedule: object, why: str, hint: str | None = None) -> DefinitionError:
    return DefinitionError(
        "bad-schedule",
        f"{schedule!r} is not a schedule: {why}",
        hint=hint or "write cron text (minute hour day month weekday), as in '0 3 * * *', '@daily', or a timedelta",
    )
