"""When a schedule fires, asked one firing at a time, as a scheduler asks; the rules are those of aiflow's partitions.

Airflow's own cron and interval timetables are not used: they differ where the clocks change, and count a duration from
the last run, so that local runs and runs on Airflow would part.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from aiflow_sdk.partitions import Grain, Partition, fire_times, last_complete

_INSTANT = timedelta(microseconds=1)
_SPANS = tuple(timedelta(days=days) for days in (0.125, 2, 10, 70, 400, 3_000, 15_000))
"""How far is looked, nearest first; 29 February on a Monday comes every 28 years, or 40."""


@lru_cache(maxsize=4096)
def first_firing(schedule: str, timezone: str, after: datetime) -> datetime | None:
    """Return the first firing later than ``after``, in UTC, or None where there is none within 40 years."""
    for span in _SPANS:
        if found := fire_times(schedule, timezone, after, after + span):
            return found[0].astimezone(UTC)
    return None


@lru_cache(maxsize=4096)
def last_firing(schedule: str, timezone: str, until: datetime) -> datetime | None:
    """Return the last firing at ``until`` or before, in UTC, or None where there is none within 40 years."""
    for span in _SPANS:
        if found := fire_times(schedule, timezone, until - span, until):
            return found[-1].astimezone(UTC)
    return None


@lru_cache(maxsize=4096)
def oldest_due(schedule: str, timezone: str, grain: Grain, firing: datetime) -> Partition:
    """Return the first of the partitions that the firing starts a run for; the last is the last complete one.

    See :func:`aiflow_sdk.partitions.due_partitions`.
    """
    newest = last_complete(grain, timezone, firing)
    before = last_firing(schedule, timezone, firing - _INSTANT)
    return newest if before is None else min(newest, Partition.containing(before, grain, timezone))


def in_utc(moment: datetime) -> datetime:
    """Return the moment as a plain ``datetime``: pendulum's loses its zone when it is moved within ``datetime.UTC``."""
    shown = moment.astimezone(UTC)
    return datetime(
        shown.year, shown.month, shown.day, shown.hour, shown.minute, shown.second, shown.microsecond, tzinfo=UTC
    )


def firing_of(schedule: str, partition: Partition) -> datetime | None:
    """Return the first firing that starts a run for the partition: the first at its end or later."""
    return first_firing(schedule, partition.timezone, partition.end.astimezone(UTC) - _INSTANT)
