"""The timetables start, whatever happens to the clock, what aiflow's own rules of time say."""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pendulum
import pytest
from aiflow_airflow import timetable as timetable_module
from aiflow_airflow.firings import in_utc
from aiflow_airflow.timetable import FiringTimetable, PartitionTimetable
from airflow.exceptions import AirflowTimetableInvalid, InvalidPartitionKeyError
from airflow.sdk import DAG
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.utils.types import DagRunType
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.partitions import GRAINS, Partition, due_partitions, fire_times, last_complete, partitions_between

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo")
SCHEDULES = (
    "0 * * * *",
    "30 2 * * *",
    "0 3 * * *",
    "0 3 * * 1-5",
    "0 */6 * * *",
    "0 4 * * 1",
    "0 5 1 * *",
    "15 0 1,15 * 3",
    "PT1H",
    "PT6H",
    "PT7H",
    "P1D",
    "P2D",
    "P1W",
)
FREE = TimeRestriction(earliest=None, latest=None, catchup=False)
CATCHUP = TimeRestriction(earliest=None, latest=None, catchup=True)


class Clock:
    """The time that the timetables believe it is."""

    now = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(timetable_module, "_now", lambda: Clock.now)  # simulated time
    Clock.now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    return Clock


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run_until(timetable, last, until, restriction=FREE):
    """Start runs as the scheduler does, each as soon as it may; return them, and what is to be next."""
    runs = []
    while (info := timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)) is not None:
        if info.run_after > Clock.now:
            if info.run_after > until:
                break
            Clock.now = in_utc(info.run_after)
            continue  # asked again when the time has come, as the DAG is parsed again meanwhile
        runs.append(info)
        last = info
        assert len(runs) < 5_000
    Clock.now = until
    return runs, last


def keys(infos):
    return [info.partition_key for info in infos]


def unique(items):
    return list(dict.fromkeys(items))


def moments():
    """Any moment of two years, to the second."""
    return st.integers(0, 2 * 365 * 86_400).map(lambda seconds: at("2026-01-01T00:00") + timedelta(seconds=seconds))


class TestWhatASpanOfTimeStarts:
    @settings(max_examples=50, deadline=None)
    @given(
        st.sampled_from(SCHEDULES),
        st.sampled_from(GRAINS),
        st.sampled_from(ZONES),
        moments(),
        st.timedeltas(timedelta(0), timedelta(days=5)),
    )
    def test_equals_the_partitions_that_are_due(self, schedule, grain, zone, begin, length):
        timetable = PartitionTimetable(schedule, grain=grain, timezone=zone)
        end = begin + length
        Clock.now = begin
        first, last = run_until(timetable, None, begin)
        assert keys(first) == [one.key for one in due_partitions(schedule, grain, zone, after=None, now=begin)]

        runs, _ = run_until(timetable, last, end)
        assert unique(keys(runs)) == [one.key for one in due_partitions(schedule, grain, zone, after=begin, now=end)]
        by_firing = {firing: keys(infos) for firing, infos in groupby(runs, lambda info: info.run_after)}
        assert by_firing == {
            firing: [one.key for one in due_partitions(schedule, grain, zone, after=None, now=firing)]
            for firing in fire_times(schedule, zone, begin, end)
        }
        for info in [*first, *runs]:
            assert info.partition_date == Partition(info.partition_key, grain, zone).start
            assert info.data_interval is None

    @settings(max_examples=50, deadline=None)
    @given(
        st.sampled_from(SCHEDULES),
        st.sampled_from(GRAINS),
        st.sampled_from(ZONES),
        moments(),
        st.timedeltas(timedelta(0), timedelta(days=4)),
        st.booleans(),
    )
    def test_after_a_pause_is_the_latest_firing_or_all(self, schedule, grain, zone, begin, pause, catchup):
        timetable = PartitionTimetable(schedule, grain=grain, timezone=zone)
        restriction = CATCHUP if catchup else FREE
        Clock.now = begin
        _, last = run_until(timetable, None, begin, restriction)
        Clock.now = end = begin + pause
        runs, _ = run_until(timetable, last, end, restriction)
        due = due_partitions(schedule, grain, zone, after=begin, now=end)
        if not catchup and due:
            due = due_partitions(schedule, grain, zone, after=None, now=end)
        assert unique(keys(runs)) == [one.key for one in due]

    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(SCHEDULES),
        st.sampled_from(("day", "week", "month")),
        st.sampled_from(ZONES),
        st.dates(date(2026, 1, 1), date(2027, 6, 1)),
        st.timedeltas(timedelta(0), timedelta(days=60)),
    )
    def test_with_catchup_is_every_partition_from_the_start_date_on(self, schedule, grain, zone, day, length):
        timetable = PartitionTimetable(schedule, grain=grain, timezone=zone)
        start = Partition.parse(day, "day", zone).start
        Clock.now = end = start + length
        runs, _ = run_until(timetable, None, end, TimeRestriction(pendulum.instance(start), None, True))
        first = Partition.containing(start, grain, zone)
        first = first if first.start >= start else first.next()
        fired = fire_times(schedule, zone, end - timedelta(days=70), end)
        last = last_complete(grain, zone, fired[-1])
        assert unique(keys(runs)) == [one.key for one in (partitions_between(first, last) if first <= last else [])]

    def test_weekdays_make_the_weekend_on_monday(self, clock):
        timetable = PartitionTimetable("0 3 * * 1-5", grain="day", timezone="Europe/Berlin")
        clock.now = at("2026-11-20T12:00")  # a Friday
        _, last = run_until(timetable, None, clock.now)
        assert last.partition_key == "2026-11-19"
        for catchup in (FREE, CATCHUP):
            runs, _ = run_until(timetable, last, at("2026-11-24T03:00"), catchup)
            assert [(info.partition_key, str(info.run_after)) for info in runs] == [
                ("2026-11-20", "2026-11-23 02:00:00+00:00"),
                ("2026-11-21", "2026-11-23 02:00:00+00:00"),
                ("2026-11-22", "2026-11-23 02:00:00+00:00"),
                ("2026-11-23", "2026-11-24 02:00:00+00:00"),
            ]

    @pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
    def test_days_have_as_many_hours_as_they_have(self, clock, day, hours):
        timetable = PartitionTimetable("5 * * * *", grain="hour", timezone="Europe/Berlin")
        whole = Partition(day, "day", "Europe/Berlin")
        clock.now = whole.start + timedelta(minutes=5)
        _, last = run_until(timetable, None, clock.now)
        runs, _ = run_until(timetable, last, whole.end + timedelta(minutes=10))
        assert len(runs) == hours
        assert len(set(keys(runs))) == hours
        assert all(key.startswith(f"{day}T") for key in keys(runs))
        assert ("2026-10-25T02+02:00" in keys(runs)) == (hours == 25)

    def test_a_schedule_without_catchup_begins_no_earlier_than_its_start_date(self, clock):
        timetable = PartitionTimetable("0 3 * * *", grain="day", timezone="UTC")
        start = pendulum.datetime(2026, 12, 5)
        info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=TimeRestriction(start, None, False))
        assert (info.partition_key, info.run_after) == ("2026-12-05", pendulum.datetime(2026, 12, 6, 3))

    def test_nothing_fires_after_the_end_date(self):
        timetable = PartitionTimetable("0 3 * * *", grain="day", timezone="UTC")
        restriction = TimeRestriction(None, pendulum.datetime(2026, 11, 29, 2), False)
        assert timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction) is None

    def test_no_schedule_fires_never(self):
        timetable = PartitionTimetable(None, grain="day", timezone="UTC")
        assert timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=FREE) is None
        assert not timetable.can_be_scheduled
        assert timetable.periodic

    def test_a_pipeline_that_changes_its_grain_goes_on(self, clock):
        daily = PartitionTimetable("0 3 * * *", grain="day", timezone="UTC")
        last = daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=FREE)
        hourly = PartitionTimetable("0 * * * *", grain="hour", timezone="UTC")
        info = hourly.next_dagrun_info_v2(last_dagrun_info=last, restriction=FREE)
        assert info.partition_key == "2026-11-29T11"


class TestBackfills:
    def infos(self, schedule, grain, zone, first, last):
        timetable = PartitionTimetable(schedule, grain=grain, timezone=zone)
        earliest, latest = (pendulum.instance(datetime.fromisoformat(moment)) for moment in (first, last))
        return list(timetable.iter_partition_dagrun_infos(earliest=earliest, latest=latest))

    @pytest.mark.parametrize("zone", ZONES)
    def test_both_dates_are_included_and_local(self, zone):
        infos = self.infos("0 3 * * 1-5", "day", zone, "2026-10-23T00:00Z", "2026-10-26T00:00Z")
        assert keys(infos) == ["2026-10-23", "2026-10-24", "2026-10-25", "2026-10-26"]
        assert [info.partition_date for info in infos] == [Partition(key, "day", zone).start for key in keys(infos)]

    @pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
    def test_a_date_is_all_of_its_hours(self, day, hours):
        infos = self.infos("0 * * * *", "hour", "Europe/Berlin", f"{day}T00:00Z", f"{day}T00:00Z")
        assert len(infos) == len(set(keys(infos))) == hours

    def test_hours_may_be_named(self):
        infos = self.infos("0 * * * *", "hour", "Europe/Berlin", "2026-10-25T01:00Z", "2026-10-25T02:00Z")
        assert keys(infos) == ["2026-10-25T01", "2026-10-25T02+02:00", "2026-10-25T02+01:00"]
        assert keys(self.infos("0 * * * *", "hour", "UTC", "2026-10-25T00:00Z", "2026-10-25T00:01Z")) == [
            "2026-10-25T00"
        ]

    def test_what_lies_within_a_week_or_month_is_the_whole(self):
        assert keys(self.infos("0 3 * * 1", "week", "UTC", "2026-11-05T00:00Z", "2026-11-11T00:00Z")) == [
            "2026-11-02",
            "2026-11-09",
        ]
        assert keys(self.infos("0 3 1 * *", "month", "UTC", "2026-09-15T00:00Z", "2026-10-15T00:00Z")) == [
            "2026-09-01",
            "2026-10-01",
        ]

    @pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
    def test_dates_that_a_browser_has_turned_into_moments_are_dates_again(self, zone):
        first, last = (Partition(day, "day", zone).start.astimezone(UTC) for day in ("2026-11-01", "2026-11-05"))
        infos = self.infos("0 3 * * *", "day", zone, first.isoformat(), last.isoformat())
        assert (keys(infos)[0], keys(infos)[-1]) == ("2026-11-01", "2026-11-05")

    def test_what_is_not_over_is_left_out(self):
        assert keys(self.infos("0 3 * * *", "day", "UTC", "2026-11-27T00:00Z", "2026-12-24T00:00Z")) == [
            "2026-11-27",
            "2026-11-28",
        ]

    def test_needs_no_schedule(self):
        assert keys(self.infos(None, "day", "UTC", "2026-11-27T00:00Z", "2026-11-27T00:00Z")) == ["2026-11-27"]

    def test_stands_in_the_place_of_the_firing_that_was_or_starts_at_once(self, clock):
        clock.now = at("2026-11-29T01:00")
        infos = self.infos("0 3 * * *", "day", "UTC", "2026-11-27T00:00Z", "2026-11-28T00:00Z")
        assert [str(info.run_after) for info in infos] == ["2026-11-28 03:00:00+00:00", "2026-11-29 00:00:00+00:00"]

    @pytest.mark.parametrize("backfilled", ["2026-11-20", "2026-11-21", "2026-11-22"])
    def test_ahead_of_the_firing_stops_no_firing(self, clock, backfilled):
        """Airflow names the run with the newest partition as the last, though it be a backfill."""
        timetable = PartitionTimetable("0 3 * * 1-5", grain="day", timezone="UTC")
        clock.now = at("2026-11-23T01:00")  # Monday, before the firing
        (last,) = timetable.iter_partition_dagrun_infos(earliest=at(backfilled), latest=at(backfilled))
        runs, _ = run_until(timetable, last, at("2026-11-24T03:00"))
        assert keys(runs)[-2:] == ["2026-11-22", "2026-11-23"]
        assert keys(runs)[0] == backfilled
        assert len(runs) == len(set(keys(runs)))

    @settings(max_examples=25, deadline=None)
    @given(st.sampled_from(SCHEDULES), st.sampled_from(("hour", "day", "week")), moments(), st.integers(0, 6))
    def test_the_last_run_may_be_any_of_them(self, schedule, grain, begin, back):
        """A parse names the greatest run as the last, between any two runs: none is started twice for that."""
        timetable = PartitionTimetable(schedule, grain=grain, timezone="Europe/Berlin")
        Clock.now = begin
        _, last = run_until(timetable, None, begin)
        newest = last_complete(grain, "Europe/Berlin", begin)
        runs = [last]
        runs += timetable.iter_partition_dagrun_infos(earliest=newest.offset(-back).start, latest=newest.start)
        started = []
        for _ in range(12):
            reference = max(runs, key=lambda info: (info.partition_date, info.run_after))
            info = timetable.next_dagrun_info_v2(last_dagrun_info=reference, restriction=FREE)
            Clock.now = max(Clock.now, in_utc(info.run_after))
            started.append((info.run_after, info.partition_key))
            runs.append(info)
        assert len(set(started)) == len(started)
        assert started == sorted(started, key=lambda pair: pair[0])


class TestKeysAndMoments:
    timetable = PartitionTimetable("0 3 * * *", grain="day", timezone="Europe/Berlin")

    def test_a_key_is_the_moment_at_which_its_partition_begins(self):
        assert self.timetable.resolve_partition_date("2026-11-20") == at("2026-11-19T23:00")
        assert self.timetable.resolve_partition_date(None) is None

    @pytest.mark.parametrize("key", ["20261120", "2026-W47", "2026-13-01", "2026-11-20T05", "yesterday"])
    def test_another_spelling_is_refused_and_says_the_key(self, key):
        with pytest.raises(InvalidPartitionKeyError, match=r"2026-11-\d\d"):
            self.timetable.resolve_partition_date(key)

    def test_bounds_of_lists_are_local(self):
        assert self.timetable.localize_partition_datetime(at("2026-11-20T01:30")) == at("2026-11-20T00:30")
        assert self.timetable.localize_partition_datetime(pendulum.datetime(2026, 3, 29, 2, 30)) == at(
            "2026-03-29T01:30"
        )

    def test_a_run_by_hand_is_for_the_last_complete_partition(self):
        interval = self.timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 20, 22, 59))
        assert interval == DataInterval(at("2026-11-18T23:00"), at("2026-11-19T23:00"))

    def test_ids_are_readable_and_differ(self):
        ids = {
            self.timetable.generate_run_id(
                run_type=DagRunType.SCHEDULED,
                run_after=pendulum.datetime(2026, 11, 21, 2),
                data_interval=None,
                partition_key="2026-11-20",
            )
            for _ in range(50)
        }
        assert len(ids) == 50
        assert all(one.startswith("scheduled__2026-11-20__2026-11-21T02:00:00+00:00__") for one in ids)
        assert DagRunType.from_run_id(ids.pop()) == DagRunType.SCHEDULED

    def test_says_what_it_is(self):
        assert self.timetable.summary == "0 3 * * *"
        assert self.timetable.description == "At '0 3 * * *' by the clocks of Europe/Berlin, a run for each day"

    @pytest.mark.parametrize(("schedule", "zone"), [("0 25 * * *", "UTC"), ("0 3 * * *", "Mars/Olympus")])
    def test_what_cannot_be_read_is_invalid(self, schedule, zone):
        with pytest.raises(AirflowTimetableInvalid):
            PartitionTimetable(schedule, grain="day", timezone=zone).validate()
        with pytest.raises(AirflowTimetableInvalid):
            FiringTimetable(schedule, timezone=zone).validate()


class TestWithoutPartitions:
    @settings(max_examples=25, deadline=None)
    @given(
        st.sampled_from(SCHEDULES),
        st.sampled_from(ZONES),
        moments(),
        st.timedeltas(timedelta(0), timedelta(days=4)),
        st.booleans(),
    )
    def test_each_firing_starts_one_run(self, schedule, zone, begin, length, catchup):
        timetable = FiringTimetable(schedule, timezone=zone)
        restriction = CATCHUP if catchup else FREE
        Clock.now = begin
        first, last = run_until(timetable, None, begin, restriction)
        assert len(first) == 1
        runs, _ = run_until(timetable, last, begin + length, restriction)
        assert [info.run_after for info in runs] == fire_times(schedule, zone, begin, begin + length)
        assert all(info.logical_date == info.run_after for info in runs)

    def test_without_catchup_only_the_latest_is_made_up_for(self, clock):
        timetable = FiringTimetable("0 3 * * *", timezone="UTC")
        last = DagRunInfo.exact(pendulum.datetime(2026, 11, 20, 3))
        runs, _ = run_until(timetable, last, clock.now)
        assert [str(info.run_after) for info in runs] == ["2026-11-29 03:00:00+00:00"]
        start = TimeRestriction(pendulum.datetime(2026, 11, 27, 3), None, True)
        runs, _ = run_until(timetable, None, clock.now, start)
        assert len(runs) == 3


TIMETABLES = (
    PartitionTimetable("0 3 * * 1-5", grain="day", timezone="Europe/Berlin"),
    PartitionTimetable(None, grain="month", timezone="UTC"),
    FiringTimetable("PT6H", timezone="UTC"),
)


class TestSerialization:
    @pytest.mark.parametrize("timetable", TIMETABLES, ids=lambda one: one.description)
    def test_a_dag_comes_back_as_it_was(self, timetable):
        dag = DAG("orders", schedule=timetable, start_date=pendulum.datetime(2026, 1, 1), catchup=False)
        data = DagSerialization.to_dict(dag)
        again = DagSerialization.from_dict(json.loads(json.dumps(data)))
        assert type(again.timetable) is type(timetable)
        assert again.timetable.serialize() == timetable.serialize()
        assert again.timetable.description == timetable.description
        assert again.timetable.can_be_scheduled == timetable.can_be_scheduled
        assert again.next_dagrun_info(last_automated_run_info=None) == DAG(
            "orders", schedule=timetable
        ).timetable.next_dagrun_info_v2(
            last_dagrun_info=None, restriction=TimeRestriction(pendulum.datetime(2026, 1, 1), None, False)
        )

    def test_is_small_and_the_same_in_every_process(self):
        assert encode_timetable(TIMETABLES[0]) == {
            "__type": "aiflow_airflow.timetable.PartitionTimetable",
            "__var": {"schedule": "0 3 * * 1-5", "grain": "day", "timezone": "Europe/Berlin"},
        }
        again = decode_timetable(encode_timetable(TIMETABLES[1]))
        assert isinstance(again, PartitionTimetable)
        assert again.schedule is None


def test_the_plugin_brings_no_library_of_frames_and_is_quickly_imported():
    code = (
        "import airflow.serialization.serialized_objects, airflow.plugins_manager, sys, time\n"
        "before = set(sys.modules)\n"
        "begun = time.process_time()\n"
        "import aiflow_airflow.plugin\n"
        "print(time.process_time() - begun)\n"
        "print(*(name for name in set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    seconds, names = done.stdout.strip().splitlines()[-2:]
    heavy = {"pandas", "polars", "pyarrow", "deltalake", "duckdb", "obstore", "pydantic", "aiflow_sdk.ir"}
    assert not heavy & set(names.split())
    assert float(seconds) < 2
