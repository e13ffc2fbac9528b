"""Inputs' partitions reach the runs that read them, and a run waits for what it reads."""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import cast

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pendulum
import pytest
from aiflow_airflow import mappers as mappers_module
from aiflow_airflow.assets import UNPARTITIONED, asset_of, assets_of, restated_asset
from aiflow_airflow.mappers import InputRollup, Reading, WindowMapper
from aiflow_airflow.schedule import schedule_of
from aiflow_airflow.timetable import FiringTimetable, PartitionAssetTimetable, PartitionTimetable
from airflow.exceptions import InvalidPartitionKeyError
from airflow.partition_mappers.base import is_rollup
from airflow.sdk import DAG, Asset, AssetAll, AssetAny
from airflow.serialization.encoders import encode_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction, Timetable, compute_rollup_fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir.schedule import dataset
from aiflow_sdk.partitions import GRAINS, Partition, Window, partitions_between
from aiflow_sdk.plan import Plan

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BERLIN = "Europe/Berlin"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(mappers_module, "_now", lambda: NOW)  # which days are over must not change


def rollup(window, grain="day", zone="UTC", needed=None):
    return InputRollup(Reading(window, grain, zone), needed)


def ready(mapper, run, given):
    """Ask as Airflow's scheduler does."""
    assert is_rollup(mapper)
    expected = mapper.to_upstream(run)
    return mapper.wait_policy.is_satisfied_by_keys(matched=set(given), expected=expected).satisfied


def hours_of(day, zone):
    whole = Partition(day, "day", zone)
    first = Partition.containing(whole.start, "hour", zone)
    return [one.key for one in partitions_between(first, Partition.containing(whole.end, "hour", zone).previous())]


class TestHoursOfADay:
    @pytest.mark.parametrize(("day", "count"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
    @pytest.mark.parametrize("window", [Window("covering", grain="hour"), Window("same", grain="day"), Window("all")])
    def test_all_of_them_are_waited_for(self, day, count, window):
        mapper, hours = rollup(window, zone=BERLIN), hours_of(day, BERLIN)
        assert len(hours) == count
        assert [mapper.to_downstream(hour) for hour in hours] == [[day]] * count
        assert not any(ready(mapper, day, [other for other in hours if other != hour]) for hour in hours)
        assert ready(mapper, day, hours)

    def test_the_page_of_waiting_runs_names_them(self):
        mapper = rollup(Window("covering", grain="hour"), zone=BERLIN)
        assert sorted(mapper.to_upstream("2026-10-25")) == sorted(hours_of("2026-10-25", BERLIN))

    def test_a_producer_of_whole_days_makes_all_hours_at_once(self):
        mapper = rollup(Window("covering", grain="hour"), zone=BERLIN)
        assert mapper.to_downstream("2026-10-25") == ["2026-10-25"]
        assert ready(mapper, "2026-10-25", ["2026-10-25"])

    def test_as_many_suffice_as_the_source_calls_complete_and_the_last(self):
        mapper, hours = rollup(Window("covering", grain="hour"), needed=20), hours_of("2026-06-01", "UTC")
        assert not ready(mapper, "2026-06-01", hours[:20])  # the day is not over
        assert not ready(mapper, "2026-06-01", [*hours[:18], hours[-1]])
        assert ready(mapper, "2026-06-01", [*hours[:19], hours[-1]])

    def test_days_of_a_month(self):
        mapper = rollup(Window("covering", grain="day"), grain="month")
        days = [f"2026-02-{day:02}" for day in range(1, 29)]
        assert {key for day in days for key in mapper.to_downstream(day)} == {"2026-02-01"}
        assert ready(mapper, "2026-02-01", days)
        assert not ready(mapper, "2026-02-01", days[1:])

    def test_a_week_that_lies_in_two_months(self):
        mapper = rollup(Window("covering", grain="week"), grain="month")
        assert mapper.to_downstream("2026-06-29") == ["2026-06-01", "2026-07-01"]


class TestOtherWindows:
    def test_the_same(self):
        mapper = rollup(Window("same", grain="day"), zone=BERLIN)
        assert mapper.to_downstream("2026-11-20") == ["2026-11-20"]
        assert ready(mapper, "2026-11-20", ["2026-11-20"])
        assert mapper.to_partition_date("2026-11-20") == datetime(2026, 11, 19, 23, tzinfo=UTC)

    def test_the_day_before(self):
        mapper = rollup(Window("offset", -1, "day"))
        assert mapper.to_downstream("2026-11-20") == ["2026-11-21"]
        assert ready(mapper, "2026-11-21", ["2026-11-20"])
        assert not ready(mapper, "2026-11-21", ["2026-11-21"])

    def test_the_day_before_by_its_hours(self):
        mapper = rollup(Window("offset", -1, "day"), zone=BERLIN)
        hours = hours_of("2026-10-25", BERLIN)
        assert {key for hour in hours for key in mapper.to_downstream(hour)} == {"2026-10-26"}
        assert not ready(mapper, "2026-10-26", hours[1:])
        assert ready(mapper, "2026-10-26", hours)

    def test_a_coarser_input_is_for_all_that_lie_in_it(self):
        mapper = rollup(Window("same", grain="month"))
        assert mapper.to_downstream("2026-02-01") == [f"2026-02-{day:02}" for day in range(1, 29)]
        assert ready(mapper, "2026-02-07", ["2026-02-01"])

    def test_the_last_seven_days(self):
        mapper = rollup(Window("last", 7, "day"))
        assert mapper.to_downstream("2026-11-20") == [f"2026-11-{day}" for day in range(20, 27)]
        days = [f"2026-11-{day}" for day in range(14, 21)]
        assert ready(mapper, "2026-11-20", days)
        assert not ready(mapper, "2026-11-20", days[:-1])
        assert not ready(mapper, "2026-11-20", days[1:])

    def test_the_last_hours_of_a_day(self):
        mapper = rollup(Window("last", 3, "hour"))
        assert mapper.to_downstream("2026-11-20T20") == []
        assert mapper.to_downstream("2026-11-20T22") == ["2026-11-20"]

    @pytest.mark.parametrize("kind", ["latest", "all"])
    def test_what_does_not_follow_the_run(self, kind):
        mapper = rollup(Window(kind))
        assert mapper.to_downstream("2026-11-20") == ["2026-11-20"]
        assert rollup(Window(kind, grain="month")).to_downstream("2026-10-01") == ["2026-10-31"]

    def test_an_input_without_partitions_is_for_the_last_complete_one(self):
        mapper = rollup(Window("all"))
        assert mapper.to_downstream(UNPARTITIONED) == ["2026-11-28"]
        assert ready(mapper, "2026-11-28", [UNPARTITIONED])

    def test_a_monday_is_a_week_or_a_day_and_a_wednesday_a_day(self):
        mapper = rollup(Window("all"), grain="week")
        assert mapper.to_downstream("2026-11-18") == ["2026-11-16"]
        assert not ready(mapper, "2026-11-16", ["2026-11-18"])
        assert ready(mapper, "2026-11-16", ["2026-11-16"])
        known = rollup(Window("all", grain="day"), grain="week")
        assert known.to_downstream("2026-11-16") == ["2026-11-16"]

    def test_keys_of_airflows_own_timetables(self):
        assert rollup(Window("same", grain="day")).to_downstream("2026-11-20T00:00:00") == ["2026-11-20"]
        hours = rollup(Window("covering", grain="hour"))
        assert hours.to_downstream("2026-11-20T05:00:00") == ["2026-11-20"]

    @pytest.mark.parametrize("key", ["us", "2026-13-01", "2026-03-29T02", "2026-10-25T02"])
    def test_a_key_that_names_nothing_is_an_error(self, key):
        with pytest.raises(AiflowError):
            rollup(Window("covering", grain="hour"), zone=BERLIN).to_downstream(key)

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from([*product(GRAINS, GRAINS[1:]), ("hour", "hour"), ("day", "hour")]),
        st.sampled_from(["same", "covering", "last", "offset"]),
        st.integers(1, 4),
        st.integers(0, 730 * 24),
        st.sampled_from(["UTC", BERLIN, "Australia/Lord_Howe"]),
    )
    def test_a_run_gets_what_it_reads_and_nothing_else(self, grains, kind, n, hours, zone):
        """An input's partition is for exactly the runs whose window holds it."""
        run_grain, input_grain = grains
        window = Window(kind, n if kind in ("last", "offset") else None, input_grain)
        reading = Reading(window, run_grain, zone)
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
        given_ = Partition.containing(moment, input_grain, zone)
        found = reading.runs(given_)
        at = Partition.containing(moment, run_grain, zone)
        edges = [found[0].previous(), found[0], found[len(found) // 2], found[-1], found[-1].next()] if found else []
        for run in [*edges, *(at.offset(step) for step in range(-2, 3))]:
            try:
                reads = given_ in (window.partitions(run, input_grain, zone) or [])
            except AiflowError:
                reads = False  # which of the hours, is asked: there is no such run
            assert (run in found) == reads, f"{run} of {given_}"


class TestMadeAgain:
    def test_is_told_to_all_that_have_read_it(self):
        mapper = WindowMapper(Reading(Window("last", 7, "day"), "day", "UTC"))
        assert mapper.to_downstream("2026-11-20") == [f"2026-11-{day}" for day in range(20, 27)]
        assert mapper.to_downstream("2026-11-27") == ["2026-11-27", "2026-11-28"]  # the others are still to come
        assert not is_rollup(mapper)

    def test_an_hour_is_told_to_its_day_alone(self):
        mapper = WindowMapper(Reading(Window("covering", grain="hour"), "day", "UTC"))
        assert mapper.to_downstream("2026-11-20T05") == ["2026-11-20"]
        assert mapper.to_downstream("2026-11-29T05") == []  # today waits for its hours


def plan(schedule, *sources, partition="day", timezone="UTC"):
    nodes = [
        {
            "id": f"source_{number}",
            "type": "source",
            "kind": "onelake",
            "dataset": ["onelake", name],
            "options": {"table": name, "complete": None, "restated": "stale", **options},
        }
        for number, (name, options) in enumerate(sources)
    ]
    return Plan.model_validate(
        {
            "project": "shop",
            "pipeline_id": "daily",
            "version": "v",
            "definition": "d",
            "lock": "l",
            "environment": {"name": "prod", "lake": "s3://lake", "staging": "s3://lake/_s", "staging_keep_days": 7},
            "schedule": schedule if isinstance(schedule, str | None) else schedule.to_dict(),
            "owner": "ana",
            "sla_minutes": None,
            "tags": [],
            "extra": {},
            "description": "",
            "start_date": None,
            "timezone": timezone,
            "catchup": False,
            "max_active_runs": 1,
            "concurrency": None,
            "timeout_seconds": None,
            "notify": [],
            "params": {},
            "partition": partition,
            "ranges": False,
            "nodes": nodes,
            "tasks": [],
        }
    )


def window(kind, n=None, grain=None):
    return {"$window": kind, "grain": grain} | ({"n": n} if n is not None else {})


HOURLY = plan(
    dataset("raw.clicks") & (dataset("dims.users") | dataset("dims.teams")),
    ("raw.clicks", {"partitions": {"hour": window("covering", grain="hour")}, "restated": "rerun"}),
    ("dims.users", {}),
    timezone=BERLIN,
)


class TestPlans:
    def mapper(self, timetable, name):
        return timetable.get_partition_mapper(name=name)

    def test_a_schedule_of_time(self):
        timetable = schedule_of(plan("0 3 * * *"))
        assert isinstance(timetable, PartitionTimetable)
        assert timetable.serialize() == {"schedule": "0 3 * * *", "grain": "day", "timezone": "UTC"}
        assert isinstance(schedule_of(plan("PT6H", partition=None)), FiringTimetable)
        assert schedule_of(plan(None, partition=None)) is None
        by_hand = schedule_of(plan(None))
        assert by_hand.partitioned
        assert by_hand.summary == "None"

    def test_datasets_are_joined_as_they_are(self):
        condition = assets_of("prod", dataset("raw.clicks") & (dataset("dims.users") | dataset("dims.teams")))
        assert isinstance(condition, AssetAll)
        (any_of,) = (one for one in condition.objects if isinstance(one, AssetAny))
        assert {one.name for one in any_of.objects if isinstance(one, Asset)} == {"prod/dims.users", "prod/dims.teams"}

    def test_each_input_has_the_mapper_of_its_window(self):
        timetable = schedule_of(HOURLY)
        assert isinstance(timetable, PartitionAssetTimetable)
        clicks = self.mapper(timetable, "prod/raw.clicks")
        assert clicks.reading == Reading(Window("covering", grain="hour"), "day", BERLIN)
        assert self.mapper(timetable, "prod/dims.users").reading.window == Window("all")
        assert self.mapper(timetable, "prod/dims.teams").reading.window == Window("all")  # which nothing reads
        assert isinstance(self.mapper(timetable, "prod/raw.clicks restated"), WindowMapper)

    def test_what_was_made_again_starts_a_run_by_itself(self):
        timetable = schedule_of(HOURLY)
        assert [asset.name for _, asset in timetable.asset_condition.iter_assets()].count("prod/raw.clicks") == 1
        condition = timetable.asset_condition.as_expression()
        alone = [one["asset"]["name"] for one in condition["any"] if "asset" in one]
        assert alone == ["prod/raw.clicks restated"]

    @pytest.mark.parametrize("restated", ["stale", "ignore"])
    def test_or_does_not(self, restated):
        options = {"partitions": {"dt": "{{ ds }}"}, "restated": restated}
        timetable = schedule_of(plan(dataset("raw.orders"), ("raw.orders", options)))
        assert [asset.name for _, asset in timetable.asset_condition.iter_assets()] == ["prod/raw.orders"]

    @pytest.mark.parametrize(
        ("complete", "reading", "needed"),
        [
            (None, Window("last", 1, "day"), None),
            ("all", Window("last", 7, "day"), None),
            (3, Window("last", 7, "day"), 3),
        ],
    )
    def test_the_newest_starts_the_run_unless_more_are_called_complete(self, complete, reading, needed):
        options = {"partitions": {"dt": window("last", 7, "day")}, "complete": complete, "restated": "rerun"}
        timetable = schedule_of(plan(dataset("raw.orders"), ("raw.orders", options)))
        mapper = self.mapper(timetable, "prod/raw.orders")
        assert (mapper.reading.window, mapper.needed) == (reading, needed)
        again = self.mapper(timetable, "prod/raw.orders restated")
        assert again.to_downstream("2026-11-20") == [f"2026-11-{day}" for day in range(20, 27)]

    @pytest.mark.parametrize(
        ("value", "reading"),
        [
            ("{{ ds.format('%Y-%m-%d') }}", Window("same")),
            ("{{ params.region }}", Window("same")),
            ("{{ ds.offset(-1) }}", Window("offset", -1)),
            ("{{ data_interval_end }}", Window("offset", 1)),
        ],
    )
    def test_a_template_means_the_partition_that_it_names(self, value, reading):
        options = {"partitions": {"dt": value}, "restated": "rerun"}
        timetable = schedule_of(plan(dataset("raw.orders"), ("raw.orders", options)))
        assert self.mapper(timetable, "prod/raw.orders").reading.window == reading
        again = self.mapper(timetable, "prod/raw.orders restated")
        assert again.to_downstream("2026-11-20") == [str(date(2026, 11, 20) - timedelta(days=reading.n or 0))]

    @pytest.mark.parametrize(
        ("path", "reading"),
        [
            ("days/dt={{ ds }}", Window("all")),
            ("days/dt={{ ds.offset(-1) }}", Window("offset", -1)),
            ("days-{{ data_interval_end.format('%Y%m%d') }}.csv", Window("offset", 1)),
        ],
    )
    def test_files_of_another_day_are_waited_for_and_start_the_run_that_reads_them_again(self, path, reading):
        options = {"path": path, "restated": "rerun"}
        timetable = schedule_of(plan(dataset("raw.orders"), ("raw.orders", options)))
        assert self.mapper(timetable, "prod/raw.orders").reading.window == reading
        again = self.mapper(timetable, "prod/raw.orders restated")
        assert again.to_downstream("2026-11-20") == [str(date(2026, 11, 20) - timedelta(days=reading.n or 0))]

    def test_of_several_readers_the_most_demanding_speaks(self):
        timetable = schedule_of(
            plan(
                dataset("raw.orders"),
                ("raw.orders", {"partitions": {"dt": window("offset", -1, "day")}}),
                ("raw.orders", {"partitions": {"dt": "{{ ds }}", "region": "eu"}}),
            )
        )
        assert self.mapper(timetable, "prod/raw.orders").reading.window == Window("same")

    def test_grains_may_be_told(self):
        timetable = schedule_of(plan(dataset("dims.users"), partition="week"), {"dims.users": "day"})
        assert self.mapper(timetable, "prod/dims.users").reading.input_grain == "day"

    def test_a_pipeline_without_partitions_has_one_run_for_all(self):
        timetable = schedule_of(plan(dataset("raw.orders"), ("raw.orders", {"restated": "rerun"}), partition=None))
        for name in ("prod/raw.orders", "prod/raw.orders restated"):
            assert self.mapper(timetable, name).to_downstream("2026-11-20T05") == UNPARTITIONED
        assert timetable.resolve_partition_date(UNPARTITIONED) is None
        with pytest.raises(InvalidPartitionKeyError, match="its one key is 'all'"):
            timetable.resolve_partition_date("2026-11-20")
        assert not timetable.periodic


class TestAssetTimetables:
    timetable = cast(Timetable, schedule_of(HOURLY))

    def test_may_be_backfilled(self):
        infos = self.timetable.iter_partition_dagrun_infos(
            earliest=pendulum.datetime(2026, 10, 24), latest=pendulum.datetime(2026, 10, 25)
        )
        assert [(info.partition_key, str(info.partition_date)) for info in infos] == [
            ("2026-10-24", "2026-10-23 22:00:00+00:00"),
            ("2026-10-25", "2026-10-24 22:00:00+00:00"),
        ]
        assert self.timetable.periodic

    def test_no_clock_starts_them(self):
        restriction = TimeRestriction(None, None, False)
        assert self.timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction) is None

    def test_a_key_is_the_moment_at_which_its_partition_begins(self):
        assert self.timetable.resolve_partition_date("2026-11-20") == pendulum.datetime(2026, 11, 19, 23)
        with pytest.raises(InvalidPartitionKeyError):
            self.timetable.resolve_partition_date("2026-11")

    def test_a_dag_comes_back_as_it_was(self):
        dag = DAG("daily", schedule=self.timetable, catchup=False)
        again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).timetable
        assert isinstance(again, PartitionAssetTimetable)
        assert json.dumps(encode_timetable(again)) == json.dumps(encode_timetable(self.timetable))
        assert again.asset_condition.as_expression() == self.timetable.asset_condition.as_expression()
        assert again.partition_mapper_info == self.timetable.partition_mapper_info
        assert json.loads(json.dumps(compute_rollup_fingerprint(again))) == compute_rollup_fingerprint(self.timetable)

    def test_is_written_the_same_in_every_process(self):
        code = (
            "import json, sys; sys.path.insert(0, sys.argv[1])\n"
            "from test_mappers import HOURLY, encode_timetable, schedule_of\n"
            "print(json.dumps(encode_timetable(schedule_of(HOURLY))))\n"
        )
        found = {
            subprocess.run(
                [sys.executable, "-c", code, str(Path(__file__).parent)],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
            for seed in ("1", "2")
        }
        assert found == {json.dumps(encode_timetable(self.timetable))}


def test_assets_have_names_that_no_provider_is_loaded_for():
    orders, again = asset_of("prod", "raw.orders"), restated_asset("prod", "raw.orders")
    assert (orders.name, orders.uri) == ("prod/raw.orders", "x-aiflow://prod/raw.orders")
    assert (again.name, again.uri) == ("prod/raw.orders restated", "x-aiflow://prod/raw.orders/restated")
    assert asset_of("prod", "raw.bestellungen_für").name.isascii()
    assert asset_of("prod", "raw.orders") == Asset(name="prod/raw.orders", uri="x-aiflow://prod/raw.orders")
