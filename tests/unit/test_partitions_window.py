"""Windows: which partitions of an input a run reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.partitions import GRAINS, Grain, Partition, Window, is_window, window

NEW_YORK = "America/New_York"


def keys(wanted: Window, run: Partition, grain: Grain, zone: str | None = None) -> list[str]:
    found = wanted.partitions(run, grain, zone)
    assert found is not None
    return [partition.key for partition in found]


DAY = Partition("2026-11-20", "day")


def test_same_is_the_runs_own_partition() -> None:
    assert keys(window.same(), DAY, "day") == ["2026-11-20"]


@pytest.mark.parametrize(("day", "hours"), [("2026-11-20", 24), ("2026-03-08", 23), ("2026-11-01", 25)])
def test_covering_reads_every_hour_of_a_day(day: str, hours: int) -> None:
    found = keys(window.covering(), Partition(day, "day", NEW_YORK), "hour")
    assert len(found) == hours
    assert (found[0], found[-1]) == (f"{day}T00", f"{day}T23")


def test_covering_reads_the_coarser_partition_that_the_run_lies_in() -> None:
    assert keys(window.covering(), DAY, "month") == ["2026-11-01"]
    assert keys(window.covering(), DAY, "week") == ["2026-11-16"]
    assert keys(window.covering(), DAY, "day") == ["2026-11-20"]


def test_covering_loses_nothing_where_grains_do_not_nest() -> None:
    assert keys(window.covering(), Partition("2026-11-01", "month"), "week")[0] == "2026-10-26"
    assert keys(window.covering(), Partition("2026-06-29", "week"), "month") == ["2026-06-01", "2026-07-01"]
    india = Partition("2026-11-20", "day", "Asia/Kolkata")
    assert len(keys(window.covering(), india, "hour", "UTC")) == 25


def test_covering_goes_by_moments_between_zones() -> None:
    found = keys(window.covering(), Partition("2026-11-20", "day", NEW_YORK), "hour", "UTC")
    assert (found[0], found[-1], len(found)) == ("2026-11-20T05", "2026-11-21T04", 24)


def test_last_ends_with_the_runs_period() -> None:
    assert keys(window.last(3), DAY, "day") == ["2026-11-18", "2026-11-19", "2026-11-20"]
    assert keys(window.last(2), DAY, "hour") == ["2026-11-20T22", "2026-11-20T23"]
    assert keys(window.last(2), DAY, "month") == ["2026-10-01", "2026-11-01"]


def test_offset_moves_by_periods_of_the_input() -> None:
    assert keys(window.offset(-1), DAY, "day") == ["2026-11-19"]
    assert keys(window.offset(-1), DAY, "month") == ["2026-10-01"]
    assert keys(window.offset(1), Partition("2026-11-20T05", "hour"), "day") == ["2026-11-21"]


def test_a_date_keeps_its_name_in_another_zone() -> None:
    assert keys(window.same(), DAY, "day", NEW_YORK) == ["2026-11-20"]
    assert keys(window.last(1), DAY, "day", NEW_YORK) == ["2026-11-20"]
    assert keys(window.same(), Partition("2026-11-20T05", "hour"), "hour", NEW_YORK) == ["2026-11-20T00"]


@pytest.mark.parametrize("wanted", [window.same(), window.offset(-1)])
def test_one_of_several_finer_partitions_is_an_error(wanted: Window) -> None:
    with pytest.raises(DefinitionError, match=r"window\.covering\(\)") as caught:
        wanted.partitions(DAY, "hour")
    assert caught.value.code == "window-across-grains"
    with pytest.raises(DefinitionError):
        wanted.partitions(Partition("2026-06-29", "week"), "month")


@pytest.mark.parametrize("wanted", [window.latest(), window.all()])
def test_latest_and_all_need_the_data(wanted: Window) -> None:
    assert wanted.partitions(DAY, "hour") is None


EVERY = [window.same(), window.covering(), window.last(7), window.offset(-1), window.latest(), window.all()]


@pytest.mark.parametrize("wanted", EVERY)
def test_a_window_survives_json(wanted: Window) -> None:
    data = json.loads(json.dumps(wanted.to_json()))
    assert is_window(data)
    assert Window.from_json(data) == wanted


def test_the_json_form_is_what_the_ir_shows() -> None:
    assert window.last(7).to_json() == {"$window": "last", "n": 7}
    assert window.covering().to_json() == {"$window": "covering"}
    assert window.offset(0) == window.same()


@pytest.mark.parametrize("n", [0, -1, 1.5, "7", None, True, 10**9])
def test_a_senseless_count_is_refused(n: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        window.last(n)
    assert caught.value.code == "bad-window"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"$window": "lest", "n": 7},
        {"$window": "last"},
        {"$window": "same", "n": 1},
        {"$window": "all", "m": 1},
        {"n": 1},
    ],
)
def test_json_that_is_no_window_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError) as caught:
        Window.from_json(data)
    assert caught.value.code == "bad-window"


def test_windows_cannot_be_chained() -> None:
    with pytest.raises((AttributeError, TypeError)):
        window.last(7).latest()  # type: ignore[attr-defined]  # that it does not exist is the claim


@given(
    st.datetimes().filter(lambda moment: 1905 < moment.year < 2090),
    st.sampled_from(GRAINS),
    st.sampled_from(GRAINS),
    st.sampled_from(["UTC", NEW_YORK, "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]),
)
def test_covering_holds_every_moment_of_the_run_and_nothing_beside_it(
    moment: Any, grain: Grain, other: Grain, zone: str
) -> None:
    run = Partition.parse(moment.isoformat() + "Z", grain, zone)
    found = window.covering().partitions(run, other)
    assert found
    assert found[0].start <= run.start < found[0].end
    assert found[-1].start < run.end <= found[-1].end
