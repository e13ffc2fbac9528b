"""Airflow's timetables for pipelines, by which its native partitions carry ours.

A partition's key in Airflow is :attr:`aiflow_sdk.partitions.Partition.key`, its date the moment at which it begins, so
that a run is for the same partition whether a clock, an input, a backfill or a hand started it. A serialized DAG names
these classes by their place, ``aiflow_airflow.timetable.…``, which therefore never changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
from airflow.exceptions import AirflowTimetableInvalid, InvalidPartitionKeyError
from airflow.partition_mappers.base import PartitionMapper
from airflow.sdk.definitions.asset import BaseAsset
from airflow.serialization.definitions.assets import SerializedAssetBase
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.simple import AssetTriggeredTimetable, PartitionedAssetTimetable
from airflow.utils.types import DagRunType

from aiflow_airflow.assets import UNPARTITIONED
from aiflow_airflow.firings import firing_of, first_firing, in_utc, last_firing, oldest_due
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.partitions import Grain, Partition, last_complete, normalise_schedule

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Partitions:
    """A pipeline's partitions in Airflow's terms: text, moments and intervals."""

    grain: Grain
    timezone: str

    def begin(self, key: str) -> pendulum.DateTime:
        """Return the moment at which the partition begins.

        Only its one key is taken, because Airflow keeps the text as it was given, and two spellings would be two
        partitions to it. Raises ``InvalidPartitionKeyError``, which says how the key is written.
        """
        try:
            return _moment(Partition(key, self.grain, self.timezone).start)
        except AiflowError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise InvalidPartitionKeyError(f"{error.message}{hint}") from error

    def localize(self, moment: datetime) -> pendulum.DateTime:
        """Return the moment at which the time zone's clocks first show what ``moment`` shows."""
        return _moment(_local(_written(moment), self.timezone))

    def interval(self, moment: datetime) -> DataInterval:
        """Return when the partition begins and ends that was the last complete one at that moment."""
        partition = last_complete(self.grain, self.timezone, in_utc(moment))
        return DataInterval(_moment(partition.start), _moment(partition.end))

    def between(self, earliest: datetime, latest: datetime) -> Iterator[Partition]:
        """Yield the partitions of a backfill, of those that are over.

        The bounds are what somebody typed, a date, or a date and time, of the pipeline's own time zone, whatever zone
        Airflow has read it in; both are included, and a date is all of its hours. A bound that lies within a partition
        stands for it. Where a day, week or month is meant, a moment that is midnight here alone (Airflow's page turns
        dates into moments by its viewer's clock) is the date that begins here.
        """
        at, last = self._bound(earliest, is_end=False), self._bound(latest, is_end=True)
        now = _now()
        while at <= last and at.end <= now:
            yield at
            at = at.next()

    def _bound(self, moment: datetime, *, is_end: bool) -> Partition:
        written = _written(moment)
        if self.grain == "hour":
            if is_end and written.time() == time():
                written += timedelta(days=1) - _INSTANT
            return self._containing(_local(written, self.timezone, fold=int(is_end)))
        here = in_utc(moment).astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None)
        date = here if written.time() != time() and here.time() == time() else written
        return self._containing(_local(datetime.combine(date, time()), self.timezone))

    def _containing(self, moment: datetime) -> Partition:
        return Partition.containing(moment, self.grain, self.timezone)


class PartitionTimetable(Timetable):
    """A schedule, each firing of which starts one run for each period completed since the firing before it.

    ``schedule`` is cron text or an ISO 8601 duration; None never fires, and leaves starts by hand and backfills.

    With ``catchup`` every partition from the start date on gets its run: the first is the first that begins at the
    start date or later. Without, the firings before the latest one are skipped, as Airflow's cron timetables do, but
    none of the partitions of the latest: the first run of a new DAG is at once, for the last firing that was, as
    Airflow's DAGs with a start date in the past and aiflow's local runner have it.

    The next run is the least (firing, partition) that is greater than that of the last run. Airflow names as the last
    one the run with the newest partition, of those the one with the latest ``run_after``, be it scheduled or a
    backfill: the order is the same, so that whatever run it names, no firing is met twice and the schedule goes on
    after the newest partition.
    """

    partitioned = True
    run_ordering = ("partition_date", "run_after")

    def __init__(self, schedule: str | None, *, grain: Grain, timezone: str) -> None:
        self.schedule = schedule
        self.partitions = Partitions(grain, timezone)
        self.can_be_scheduled = schedule is not None
        self.description = f"{_described(schedule, timezone)}, a run for each {grain}"

    @property
    def summary(self) -> str:
        """The schedule."""
        return self.schedule or "None"

    def validate(self) -> None:
        """Raise ``AirflowTimetableInvalid`` unless schedule and time zone can be read."""
        _validate(self.schedule, self.partitions.timezone)

    def serialize(self) -> dict[str, Any]:
        """Return schedule, grain and time zone."""
        return {"schedule": self.schedule, "grain": self.partitions.grain, "timezone": self.partitions.timezone}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PartitionTimetable:
        """Return the timetable that :meth:`serialize` wrote."""
        return cls(data["schedule"], grain=data["grain"], timezone=data["timezone"])

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the first run; after that Airflow asks :meth:`next_dagrun_info_v2`, which knows the last partition."""
        return self.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run after the last one, or None where the schedule never fires again."""
        if self.schedule is None:
            return None
        found = [
            after
            for after in (
                self._after(self.schedule, last_dagrun_info),
                self._begin(self.schedule, restriction.earliest),
                None if restriction.catchup else self._newest(self.schedule),
            )
            if after is not None
        ]
        due = max(found, default=None) or self._newest(self.schedule)
        if due is None or (restriction.latest is not None and due[0] > restriction.latest):
            return None
        return _info(*due)

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        """Yield a run for each partition of a backfill; see :meth:`Partitions.between`.

        It stands in the place of its firing, or before a firing that is still to come, which will make it again.
        """
        for partition in self.partitions.between(earliest, latest):
            firing = self.schedule and firing_of(self.schedule, partition)
            yield _info(firing if firing and firing <= _now() else partition.end, partition)

    def localize_partition_datetime(self, dt: datetime) -> pendulum.DateTime:
        """Return the moment that ``dt`` is by the pipeline's clocks."""
        return self.partitions.localize(dt)

    def infer_manual_data_interval(self, *, run_after: datetime) -> DataInterval:
        """Return the interval of a run by hand that names no partition: of the last complete one, as at a firing."""
        return self.partitions.interval(run_after)

    def generate_run_id(
        self, *, run_type: DagRunType, run_after: datetime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Return an id that names the partition, where it is known, and is no other run's."""
        return _run_id(run_type, run_after, extra.get("partition_key"))

    def _decode_partition_date(self, partition_key: str) -> pendulum.DateTime:
        return self.partitions.begin(partition_key)

    def _after(self, schedule: str, last: DagRunInfo | None) -> tuple[datetime, Partition] | None:
        """Return the firing and partition that follow those of the last run."""
        if last is None or last.partition_date is None:
            return None
        # By the date and not the key, which another version of the pipeline may have had in another grain.
        partition = self._containing(in_utc(last.partition_date))
        fired = max(in_utc(last.run_after), in_utc(partition.end) - _INSTANT)
        again = first_firing(schedule, self.partitions.timezone, fired)
        if again is not None and oldest_due(schedule, self.partitions.timezone, partition.grain, again) <= partition:
            return again, partition  # it fires more often than its periods complete
        return self._first(schedule, partition.next())

    def _begin(self, schedule: str, earliest: datetime | None) -> tuple[datetime, Partition] | None:
        """Return the first partition that begins at the start date or later, and its firing."""
        if earliest is None:
            return None
        partition = self._containing(in_utc(earliest))
        return self._first(schedule, partition if partition.start >= earliest else partition.next())

    def _newest(self, schedule: str) -> tuple[datetime, Partition] | None:
        """Return the latest firing, or the first that is still to come, and its first partition."""
        timezone = self.partitions.timezone
        now = _now().replace(microsecond=0)  # which all DAGs of one schedule ask for within the second
        firing = last_firing(schedule, timezone, now) or first_firing(schedule, timezone, now)
        return (firing, oldest_due(schedule, timezone, self.partitions.grain, firing)) if firing else None

    def _first(self, schedule: str, partition: Partition) -> tuple[datetime, Partition] | None:
        firing = firing_of(schedule, partition)
        return (firing, partition) if firing else None

    def _containing(self, moment: datetime) -> Partition:
        return Partition.containing(moment, self.partitions.grain, self.partitions.timezone)


class FiringTimetable(Timetable):
    """A schedule of a pipeline without partitions: each firing starts one run, named by the moment of the firing.

    Catchup and start date mean what they mean to Airflow's ``CronTriggerTimetable``, but that a new DAG's first run is
    at once, for the last firing that was.
    """

    def __init__(self, schedule: str, *, timezone: str) -> None:
        self.schedule = schedule
        self.timezone = timezone
        self.description = _described(schedule, timezone)

    @property
    def summary(self) -> str:
        """The schedule."""
        return self.schedule

    def validate(self) -> None:
        """Raise ``AirflowTimetableInvalid`` unless schedule and time zone can be read."""
        _validate(self.schedule, self.timezone)

    def serialize(self) -> dict[str, Any]:
        """Return schedule and time zone."""
        return {"schedule": self.schedule, "timezone": self.timezone}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> FiringTimetable:
        """Return the timetable that :meth:`serialize` wrote."""
        return cls(data["schedule"], timezone=data["timezone"])

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run after the last one, or None where the schedule never fires again."""
        now = _now().replace(microsecond=0)
        newest = last_firing(self.schedule, self.timezone, now) or first_firing(self.schedule, self.timezone, now)
        after = [in_utc(last_automated_data_interval.end)] if last_automated_data_interval else []
        after += [in_utc(restriction.earliest) - _INSTANT] if restriction.earliest else []
        firings = [first_firing(self.schedule, self.timezone, moment) for moment in after]
        if not restriction.catchup or not after:
            firings.append(newest)
        firing = max((firing for firing in firings if firing is not None), default=None)
        if firing is None or (restriction.latest is not None and firing > restriction.latest):
            return None
        return DagRunInfo.exact(_moment(firing))

    def infer_manual_data_interval(self, *, run_after: datetime) -> DataInterval:
        """Return the moment itself."""
        return DataInterval.exact(_moment(run_after))


class PartitionAssetTimetable(PartitionedAssetTimetable):
    """Runs that changes of other datasets start, each for the partitions that read what was changed.

    ``assets`` is the condition, ``partition_mapper_config`` holds the mapper of each of its assets. A pipeline without
    partitions (``grain`` None) has one run for all, whose key is ``all``.

    It counts as periodic, which Airflow asks of whatever may be backfilled: its partitions do follow each other. Of the
    rest of Airflow that asks, the calendar finds no next run and the metrics of delays leave asset-triggered runs out.
    """

    def __init__(
        self,
        *,
        assets: BaseAsset | SerializedAssetBase,
        partition_mapper_config: Mapping[Any, PartitionMapper],
        grain: Grain | None,
        timezone: str,
    ) -> None:
        # The assets as Airflow turns them into its own, so that those of a DAG file and of its database are alike.
        condition = AssetTriggeredTimetable(assets).asset_condition  # type: ignore[arg-type]  # it takes both kinds
        mappers = {asset.name: mapper for asset, mapper in partition_mapper_config.items()}
        super().__init__(
            assets=condition,
            partition_mapper_config={asset: mappers[asset.name] for _, asset in condition.iter_assets()},
        )
        self.partitions = Partitions(grain, timezone) if grain else None
        self.timezone = timezone
        self.periodic = grain is not None
        self.run_ordering = ("partition_date", "run_after") if grain else ("run_after",)
        self.description = f"When its inputs change, a run for each {grain}" if grain else "When its inputs change"

    def serialize(self) -> dict[str, Any]:
        """Return condition, mappers, grain and time zone."""
        grain = self.partitions.grain if self.partitions else None
        return {**super().serialize(), "grain": grain, "timezone": self.timezone}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PartitionAssetTimetable:
        """Return the timetable that :meth:`serialize` wrote."""
        plain = PartitionedAssetTimetable.deserialize(data)
        return cls(
            assets=plain.asset_condition,
            partition_mapper_config=plain.partition_mapper_config,
            grain=data["grain"],
            timezone=data["timezone"],
        )

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        """Yield a run for each partition of a backfill; see :meth:`Partitions.between`."""
        for partition in self.partitions.between(earliest, latest) if self.partitions else ():
            yield _info(partition.end, partition)

    def localize_partition_datetime(self, dt: datetime) -> pendulum.DateTime:
        """Return the moment that ``dt`` is by the pipeline's clocks."""
        return self.partitions.localize(dt) if self.partitions else super().localize_partition_datetime(dt)

    def infer_manual_data_interval(self, *, run_after: datetime) -> DataInterval:
        """Return the interval of a run by hand that names no partition: of the last complete one."""
        return self.partitions.interval(run_after) if self.partitions else DataInterval.exact(_moment(run_after))

    def generate_run_id(
        self, *, run_type: DagRunType, run_after: datetime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Return an id that names the partition, where it is known, and is no other run's."""
        return _run_id(run_type, run_after, extra.get("partition_key"))

    def _decode_partition_date(self, partition_key: str) -> pendulum.DateTime | None:
        if self.partitions is not None:
            return self.partitions.begin(partition_key)
        if partition_key != UNPARTITIONED:
            raise InvalidPartitionKeyError(f"the pipeline has no partitions, so its one key is '{UNPARTITIONED}'")
        return None


def _info(firing: datetime, partition: Partition) -> DagRunInfo:
    return DagRunInfo(
        run_after=_moment(firing),
        data_interval=None,  # with one, Airflow would know the run by its logical date
        partition_date=_moment(partition.start),
        partition_key=partition.key,
    )


def _run_id(run_type: DagRunType, run_after: datetime, partition_key: str | None) -> str:
    about = f"{partition_key}__" if partition_key else ""
    return run_type.generate_run_id(suffix=f"{about}{run_after.isoformat()}__{uuid.uuid4().hex[:8]}")


def _described(schedule: str | None, timezone: str) -> str:
    if schedule is None:
        return "By hand"
    return f"Every {schedule}" if schedule.startswith("P") else f"At '{schedule}' by the clocks of {timezone}"


def _validate(schedule: str | None, timezone: str) -> None:
    try:
        if schedule is not None:
            normalise_schedule(schedule)
        last_complete("hour", timezone, _now())
    except AiflowError as error:
        raise AirflowTimetableInvalid(str(error)) from error


def _written(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), moment.time().replace(tzinfo=None, fold=0))


def _local(written: datetime, timezone: str, *, fold: int = 0) -> datetime:
    return written.replace(tzinfo=ZoneInfo(timezone), fold=fold).astimezone(UTC)


def _moment(moment: datetime) -> pendulum.DateTime:
    return pendulum.instance(moment.astimezone(UTC))


def _now() -> datetime:
    return datetime.now(UTC)
