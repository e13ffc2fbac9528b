"""Which of a pipeline's partitions an input's partition is for: aiflow's windows, asked by Airflow's scheduler.

Airflow's own mappers are not used: they count 24 hours on every day and know neither our keys nor sliding windows.
Ours are one value, :class:`Reading`, in Airflow's three roles: a mapper, a window, and the two joined as a rollup. What
stands in ``serialize`` is part of the fingerprint by which Airflow throws waiting runs away where it has changed, so a
new field is left out while it has its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pendulum
from airflow.partition_mappers.base import PartitionMapper, RollupMapper
from airflow.partition_mappers.wait_policy import PartitionSatisfaction, WaitPolicy
from airflow.partition_mappers.window import Window as AirflowWindow

from aiflow_airflow.assets import UNPARTITIONED
from aiflow_sdk.partitions import GRAINS, Grain, Partition, Window, last_complete, partitions_between

_INSTANT = timedelta(microseconds=1)
_HOUR_KEY = re.compile(r"\d{4}-\d\d-\d\dT\d\d(?:[+-]\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_DATE_KEY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """How a pipeline of a grain and time zone reads a dataset: by a window, the ``grain`` of which is the input's."""

    window: Window
    grain: Grain
    timezone: str

    @property
    def input_grain(self) -> Grain:
        """What the input's partitions are, as far as the pipeline tells."""
        return self.window.grain or self.grain

    def partition(self, key: str) -> Partition:
        """Return the run's partition of that key."""
        return Partition(key, self.grain, self.timezone)

    def input_partition(self, key: str) -> Partition:
        """Return the input's partition of that key, whose form says of which grain it is.

        A date is a day, week or month, whichever the input has; a Wednesday is no week's key, so then it is a day.
        Other spellings, such as Airflow's ``2026-11-20T00:00:00``, name the input's partition that they lie in.
        """
        if _HOUR_KEY.fullmatch(key):
            return Partition.parse(key, "hour", self.timezone)
        if not _DATE_KEY.fullmatch(key):
            return Partition.parse(key, self.input_grain, self.timezone)
        if self.input_grain != "hour":
            partition = Partition.parse(key, self.input_grain, self.timezone)
            if partition.key == key:
                return partition
        return Partition.parse(key, "day", self.timezone)

    def inputs(self, run: Partition) -> list[Partition]:
        """Return the input's partitions that the run waits for, in order.

        Of ``latest`` and ``all``, which do not follow the run, it is the period of the run itself.
        """
        return self.window.partitions(run, self.input_grain) or [run]

    def runs(self, given: Partition) -> list[Partition]:
        """Return the partitions whose runs read the input's partition, in order.

        One that is finer than the input's (hours of a day) stands for the one that it lies in.
        """
        match self.window.kind:
            case "latest" | "all":
                if _coarser(given.grain, self.grain):
                    return [last_complete(self.grain, self.timezone, given.end)]
                return [self._containing(given.start)]
            case "covering":
                return partitions_between(self._containing(given.start), self._containing(given.end - _INSTANT))
            case "same" | "offset":
                first, last = (one.offset(-(self.window.n or 0)) for one in self._in_input(given))
                if self.input_grain == self.grain:
                    return partitions_between(first, last)
                return self._within(first.start, last.end)
            case "last":
                assert self.window.n is not None
                first, last = self._in_input(given)
                last = last.offset(self.window.n - 1)
                if self.input_grain == self.grain:
                    return partitions_between(first, last)
                # Those that end where the window of the last may still reach back to the first.
                return self._ending(first.start, last.end)

    def suffices(self, given: Iterable[str], expected: Iterable[str], needed: int | None) -> bool:
        """Tell whether a run that expects those inputs may start: all are given, or the newest and as many as needed.

        The newest counts more than the number because a day is not over at its twentieth hour. Inputs may be given in
        other grains than they are expected in; time is what counts.
        """
        keys = set(given)
        if UNPARTITIONED in keys:
            return True
        grain = self.grain if self.window.kind in ("latest", "all") else self.input_grain
        wanted = sorted(Partition(key, grain, self.timezone) for key in expected)
        stretches = _stretches(self.input_partition(key) for key in keys)
        there = [any(start <= one.start and one.end <= end for start, end in stretches) for one in wanted]
        return all(there) or (needed is not None and there[-1] and sum(there) >= needed)

    def to_json(self) -> dict[str, Any]:
        """Return the reading as a mapper holds it in a serialized DAG."""
        return {"window": self.window.to_json(), "grain": self.grain, "timezone": self.timezone}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the reading that :meth:`to_json` wrote."""
        return cls(Window.from_json(data["window"]), data["grain"], data["timezone"])

    def _containing(self, moment: datetime) -> Partition:
        return Partition.containing(moment, self.grain, self.timezone)

    def _in_input(self, given: Partition) -> tuple[Partition, Partition]:
        """Return the first and the last of the input's partitions that share time with the given one."""
        first = Partition.containing(given.start, self.input_grain, self.timezone)
        return first, Partition.containing(given.end - _INSTANT, self.input_grain, self.timezone)

    def _within(self, start: datetime, end: datetime) -> list[Partition]:
        first = self._containing(start)
        return self._ending(start, end) if first.start >= start else self._ending(first.end, end)

    def _ending(self, after: datetime, until: datetime) -> list[Partition]:
        """Return the runs' partitions that end later than the one moment and not later than the other."""
        first, last = self._containing(after), self._containing(until - _INSTANT)
        last = last if last.end <= until else last.previous()
        return partitions_between(first, last) if first <= last else []


class WindowMapper(PartitionMapper):
    """From an input's partition to the partitions of the runs that read it, of those that are over.

    It is the mapper of restated inputs: what was made again is told to all who have read it, and nothing is waited for.
    """

    def __init__(self, reading: Reading, *, max_downstream_keys: int | None = None) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        self.reading = reading

    def to_downstream(self, key: str) -> list[str]:
        """Return the keys of the runs. Raises ``ConfigurationError`` for a key that names no partition."""
        now = _now()
        return [run.key for run in _runs(self.reading, key) if run.end <= now]

    def to_partition_date(self, downstream_key: str) -> datetime:
        """Return the moment at which the partition begins."""
        return _moment(self.reading.partition(downstream_key).start)

    def serialize(self) -> dict[str, Any]:
        """Return the reading."""
        return {**self.reading.to_json(), **super().serialize()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WindowMapper:
        """Return the mapper that :meth:`serialize` wrote."""
        return cls(Reading.from_json(data), max_downstream_keys=data.get("max_downstream_keys"))


class InputWindow(AirflowWindow):
    """The keys of an input that a run reads: the 23, 24 or 25 hours of its day, the seven days that end with it."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading

    def to_upstream(self, decoded_downstream: str) -> list[str]:
        """Return the keys of the inputs, in order."""
        return [one.key for one in self.reading.inputs(self.reading.partition(decoded_downstream))]

    def serialize(self) -> dict[str, Any]:
        """Return the reading."""
        return self.reading.to_json()

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> InputWindow:
        """Return the window that :meth:`serialize` wrote."""
        return cls(Reading.from_json(data))


class InputRollup(RollupMapper):
    """The mapper of an input: a run waits for its newest partition, and for as many as the source calls complete."""

    def __init__(self, reading: Reading, needed: int | None = None, *, max_downstream_keys: int | None = None) -> None:
        self.reading = reading
        self.needed = needed
        """How many of the input's partitions suffice; None: all."""
        super().__init__(
            upstream_mapper=WindowMapper(reading),
            window=InputWindow(reading),
            wait_policy=_Enough(reading, needed),
            max_downstream_keys=max_downstream_keys,
        )

    def to_downstream(self, key: str) -> list[str]:
        """Return the keys of the runs that read the input's partition; those of the days to come begin to wait."""
        return [run.key for run in _runs(self.reading, key)]

    def serialize(self) -> dict[str, Any]:
        """Return the reading, and how many suffice."""
        data = self.reading.to_json()
        if self.needed is not None:
            data["needed"] = self.needed
        if self.max_downstream_keys is not None:
            data["max_downstream_keys"] = self.max_downstream_keys
        return data

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> InputRollup:
        """Return the mapper that :meth:`serialize` wrote."""
        return cls(Reading.from_json(data), data.get("needed"), max_downstream_keys=data.get("max_downstream_keys"))


class _Enough(WaitPolicy):
    """Airflow's question whether a run may start, answered by the reading."""

    def __init__(self, reading: Reading, needed: int | None) -> None:
        self._reading = reading
        self._needed = needed

    def __repr__(self) -> str:
        return f"{'all' if self._needed is None else self._needed} of {self._reading.window}"

    def is_satisfied_by_keys(self, *, matched: AbstractSet[str], expected: AbstractSet[str]) -> PartitionSatisfaction:
        """Tell whether the keys that came suffice."""
        ready = expected <= matched or self._reading.suffices(matched, expected, self._needed)
        return PartitionSatisfaction(satisfied=ready, unreachable=False, unreachable_reason=None)

    def is_unreachable(self, expected: int) -> bool:
        """Tell that no window is out of reach."""
        return False


def _runs(reading: Reading, key: str) -> list[Partition]:
    if key == UNPARTITIONED:
        return [last_complete(reading.grain, reading.timezone, _now())]
    return reading.runs(reading.input_partition(key))


def _stretches(partitions: Iterable[Partition]) -> Sequence[tuple[datetime, datetime]]:
    """Return the unbroken stretches of time that the partitions make up."""
    found: list[tuple[datetime, datetime]] = []
    for partition in sorted(partitions):
        if found and partition.start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], partition.end))
        else:
            found.append((partition.start, partition.end))
    return found


def _coarser(one: Grain, other: Grain) -> bool:
    return GRAINS.index(one) > GRAINS.index(other)


def _moment(moment: datetime) -> pendulum.DateTime:
    return pendulum.instance(moment.astimezone(UTC))


def _now() -> datetime:
    return datetime.now(UTC)
