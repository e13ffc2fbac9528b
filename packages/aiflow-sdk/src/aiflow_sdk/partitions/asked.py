"""What a person asks for: the dates of a command, as the partitions that they name."""

from __future__ import annotations

import re
from datetime import timedelta

from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.partitions.partition import Grain, Partition

_CLOCK = re.compile(r"\d[T ]\d\d(?::?\d\d)*")
_MIDNIGHT = re.compile(r"\d[T ]00(?::?00)*")
_INSTANT = timedelta(microseconds=1)


def check_date(text: str, grain: Grain | None) -> None:
    """Raise ``ConfigurationError`` where ``text`` names an hour and a run is for more than one."""
    if grain not in (None, "hour") and _CLOCK.search(text) and not _MIDNIGHT.search(text):
        raise ConfigurationError(
            "bad-date",
            f"'{text}' names an hour, and a run is for a {grain}",
            hint=f"write the date alone, as in {text[:10]}",
        )


def partition_range(
    pipeline_id: str, grain: Grain | None, timezone: str, first: str, last: str
) -> tuple[Partition, Partition]:
    """Return the partitions that two texts name; of an hourly pipeline a day stands for all its hours.

    Raises ``ConfigurationError``: ``no-time-partition``, and as :meth:`Partition.parse`.
    """
    if grain is None:
        raise ConfigurationError(
            "no-time-partition",
            f"the pipeline '{pipeline_id}' has no time partition, so it has no range to fill",
            hint='run it without a date, or add partition="day" to @pipeline',
        )
    for text in (first, last):
        check_date(text, grain)
    if grain == "hour":
        if not _CLOCK.search(first):
            first = Partition.containing(Partition.parse(first, "day", timezone).start, "hour", timezone).key
        if not _CLOCK.search(last):
            end = Partition.parse(last, "day", timezone).end - _INSTANT
            last = Partition.containing(end, "hour", timezone).key
    return Partition.parse(first, grain, timezone), Partition.parse(last, grain, timezone)
