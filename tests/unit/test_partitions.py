"""Partitions: keys, bounds through changes of the clocks, spellings, ranges."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.errors import AiflowError, ConfigurationError
from aiflow_sdk.partitions import GRAINS, Grain, Partition, column_value, last_complete, partitions_between

# Half-hour changes, midnights that are skipped or shown twice, a skipped day, changes by odd minutes, and the usual.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Caracas",
    "America/Toronto",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Africa/Monrovia",
    "Africa/Cairo",
    "Pacific/Apia",
    "Pacific/Kwajalein",
]

grains = st.sampled_from(GRAINS)
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(1905, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


def changes_of(zone: str) -> list[datetime]:
    """All changes of the clocks from 1905 to 2037, to the second."""
    found, at, step = [], datetime(1905, 1, 1, tzinfo=UTC), timedelta(days=5)
    offset = lambda moment: moment.astimezone(ZoneInfo(zone)).utcoffset()  # noqa: E731
    while at.year < 2038:
        if offset(at) != offset(at + step):
            low, high = at, at + step
            while high - low > timedelta(seconds=1):
                middle = (low + (high - low) / 2).replace(microsecond=0)
                low, high = (low, middle) if offset(middle) != offset(low) else (middle, high)
            found.append(high)
        at += step
    return found


def hours(partition: Partition) -> float:
    return (partition.end - partition.start) / timedelta(hours=1)


@settings(max_examples=300, deadline=None)
@given(moments, grains, zones)
def test_each_moment_lies_in_one_partition_and_those_tile_the_time_line(
    moment: datetime, grain: Grain, zone: str
) -> None:
    here = Partition.containing(moment, grain, zone)
    assert here.start <= moment < here.end
    after, before = here.next(), here.previous()
    assert after.start == here.end
    assert before.end == here.start
    assert before < here < after
    assert after.previous() == here == before.next()
    assert before.key < here.key < after.key or grain == "hour"


@pytest.mark.parametrize("zone", ZONES[1:])
def test_partitions_tile_the_time_line_around_every_change_of_the_clocks(zone: str) -> None:
    for change in changes_of(zone)[-40:]:
        for grain in GRAINS:
            here = Partition.containing(change - timedelta(hours=30), grain, zone)
            seen = {here.key}
            while here.start < change + timedelta(hours=3):
                assert Partition.parse(here.key, grain, zone) == here
                assert here.start < here.end
                assert here.next().start == here.end
                assert here.next().previous() == here
                here = here.next()
                assert here.key not in seen
                seen.add(here.key)


@settings(max_examples=200, deadline=None)
@given(moments, grains, zones)
def test_a_key_parses_to_its_own_partition(moment: datetime, grain: Grain, zone: str) -> None:
    here = Partition.containing(moment, grain, zone)
    assert Partition.parse(here.key, grain, zone) == here
    assert Partition(here.key, grain, zone) == here
    assert Partition.parse(here.start.isoformat(), grain, zone) == here
    assert Partition.parse(here.start, grain, zone) == here


@settings(max_examples=100, deadline=None)
@given(moments, grains, zones, st.integers(-40, 40), st.integers(-40, 40))
def test_offsets_add_up(moment: datetime, grain: Grain, zone: str, first: int, second: int) -> None:
    here = Partition.containing(moment, grain, zone)
    assert here.offset(first).offset(second) == here.offset(first + second)
    assert here.offset(1) == here.next()
    assert here.offset(-1) == here.previous()


@settings(max_examples=100, deadline=None)
@given(moments, zones)
def test_days_weeks_and_months_consist_of_whole_hours_and_days(moment: datetime, zone: str) -> None:
    for large, small in (("day", "hour"), ("month", "day"), ("week", "day")):
        whole = Partition.containing(moment, large, zone)  # type: ignore[arg-type]  # a pair of literals
        assert Partition.containing(whole.start, small, zone).start == whole.start  # type: ignore[arg-type]
        assert Partition.containing(whole.end, small, zone).start == whole.end  # type: ignore[arg-type]


def test_a_day_has_23_hours_when_the_clocks_go_forward() -> None:
    day = Partition("2026-03-08", "day", "America/New_York")
    assert hours(day) == 23
    assert day.start.isoformat() == "2026-03-08T00:00:00-05:00"
    assert day.end.isoformat() == "2026-03-09T00:00:00-04:00"


def test_a_day_has_25_hours_when_the_clocks_go_back() -> None:
    assert hours(Partition("2026-11-01", "day", "America/New_York")) == 25


def test_a_day_may_be_half_an_hour_longer_or_shorter() -> None:
    assert hours(Partition("2026-04-05", "day", "Australia/Lord_Howe")) == 24.5
    assert hours(Partition("2026-10-04", "day", "Australia/Lord_Howe")) == 23.5


def test_a_day_whose_midnight_is_skipped_begins_after_the_gap() -> None:
    day = Partition("2018-11-04", "day", "America/Sao_Paulo")
    assert day.start.isoformat() == "2018-11-04T01:00:00-02:00"
    assert hours(day) == 23
    assert day.date == date(2018, 11, 4)
    assert Partition("1919-03-31", "day", "America/Toronto").start.isoformat() == "1919-03-31T00:30:00-04:00"


def test_a_day_that_the_zone_skipped_is_no_partition() -> None:
    assert Partition("2011-12-29", "day", "Pacific/Apia").next().key == "2011-12-31"
    assert Partition("2011-12-31", "day", "Pacific/Apia").offset(-2).key == "2011-12-28"
    with pytest.raises(ConfigurationError, match="skipped that day") as caught:
        Partition.parse("2011-12-30", "day", "Pacific/Apia")
    assert caught.value.code == "no-such-period"


def test_an_hour_shown_twice_is_two_partitions_whose_keys_carry_their_offset() -> None:
    day = Partition("2026-11-01", "day", "America/New_York")
    first = Partition.containing(day.start, "hour", "America/New_York")
    keys = [first.offset(n).key for n in range(25)]
    assert keys[:4] == ["2026-11-01T00", "2026-11-01T01-04:00", "2026-11-01T01-05:00", "2026-11-01T02"]
    assert keys[-1] == "2026-11-01T23"
    assert all(hours(first.offset(n)) == 1 for n in range(25))


def test_clocks_set_back_by_half_an_hour_show_one_hour_and_a_half_under_one_number() -> None:
    long, short = (
        Partition(f"2026-04-05T01{offset}", "hour", "Australia/Lord_Howe") for offset in ("+11:00", "+10:30")
    )
    assert (hours(long), hours(short)) == (1, 0.5)
    assert long.next() == short
    assert short.next().key == "2026-04-05T02"
    assert hours(Partition("2026-10-04T02", "hour", "Australia/Lord_Howe")) == 0.5


@pytest.mark.parametrize(
    ("text", "grain", "key"),
    [
        ("2026-11-20", "day", "2026-11-20"),
        (" 20261120 ", "day", "2026-11-20"),
        ("2026-11-20T05:00", "day", "2026-11-20"),
        ("2026-11-20", "week", "2026-11-16"),
        ("2026-W47", "week", "2026-11-16"),
        ("2027-W01", "week", "2027-01-04"),
        ("2026-11-20", "month", "2026-11-01"),
        ("2026-11", "month", "2026-11-01"),
        ("2026-11-20T05", "hour", "2026-11-20T05"),
        ("2026-11-20t05:00", "hour", "2026-11-20T05"),
        ("2026-11-20 05:59:59.123", "hour", "2026-11-20T05"),
        ("2026-11-20T05Z", "hour", "2026-11-20T05"),
        ("2026-11-20T05:00:00z", "hour", "2026-11-20T05"),
        ("2026-11-20T05:00-04:00", "hour", "2026-11-20T09"),
        ("2026-11-20T05+0530", "hour", "2026-11-19T23"),
        ("2026-11-20T23:00-04", "day", "2026-11-21"),
        (date(2026, 11, 20), "day", "2026-11-20"),
        (datetime(2026, 11, 20, 5, 7, tzinfo=UTC), "hour", "2026-11-20T05"),
        (datetime(2026, 11, 20, 5, 7), "hour", "2026-11-20T05"),  # noqa: DTZ001 local, as a date is
    ],
)
def test_sensible_spellings_are_understood(text: str | date, grain: Grain, key: str) -> None:
    assert Partition.parse(text, grain).key == key


def test_a_moment_is_placed_by_the_zone() -> None:
    assert Partition.parse("2026-11-21T03:00Z", "day", "America/New_York").key == "2026-11-20"
    assert Partition.parse("2026-11-01T05:30Z", "hour", "America/New_York").key == "2026-11-01T01-04:00"
    assert Partition.parse("2026-11-01T06:30Z", "hour", "America/New_York").key == "2026-11-01T01-05:00"


@pytest.mark.parametrize(
    ("text", "grain", "zone", "code", "says"),
    [
        ("", "day", "UTC", "bad-date", "write 2026-11-20"),
        ("yesterday", "day", "UTC", "bad-date", "write 2026-11-20"),
        ("2026", "month", "UTC", "bad-date", "write 2026-11"),
        ("2026-11", "day", "UTC", "bad-date", "names a month"),
        ("2026-W47", "day", "UTC", "bad-date", "names a week"),
        ("2026-W47", "month", "UTC", "bad-date", "names a week"),
        ("2026-11", "week", "UTC", "bad-date", "names a month"),
        ("2026-W54", "week", "UTC", "bad-date", "week"),
        ("2026-W53Z", "week", "UTC", "bad-date", "names no week"),
        ("2026-02-29", "day", "UTC", "bad-date", "day"),
        ("2026-13-01", "day", "UTC", "bad-date", "month"),
        ("20/11/2026", "day", "UTC", "bad-date", "write 2026-11-20"),
        ("٢٠٢٦-11-20", "day", "UTC", "bad-date", "write 2026-11-20"),
        ("2026-11-20'; drop table x", "day", "UTC", "bad-date", "names no day"),
        ("2026-11-20T24", "hour", "UTC", "bad-date", "hour"),
        ("2026-11-20T05:61", "hour", "UTC", "bad-date", "minute"),
        ("2026-11-20T05+25:00", "hour", "UTC", "bad-date", "names no hour"),
        ("2026-11-20", "hour", "UTC", "bad-date", "2026-11-20T00"),
        ("0001-01-01", "day", "UTC", "bad-date", "1000 to 9998"),
        ("9999-12-31", "day", "Pacific/Apia", "bad-date", "1000 to 9998"),
        ("2026-03-08T02", "hour", "America/New_York", "no-such-period", "the next hour is 2026-03-08T03"),
        ("2026-11-01T01", "hour", "America/New_York", "ambiguous-hour", "2026-11-01T01-04:00 or 2026-11-01T01-05:00"),
        ("2026-11-20", "day", "Europe/Berln", "unknown-timezone", "did you mean 'Europe/Berlin'"),
        ("2026-11-20", "day", "Europe", "unknown-timezone", "unknown time zone 'Europe'"),
        ("2026-11-20", "day", "../../etc/passwd", "unknown-timezone", "unknown time zone"),
        ("2026-11-20", "day", "", "unknown-timezone", "unknown time zone"),
        ("2026-11-20", "days", "UTC", "unknown-grain", "did you mean 'day'"),
    ],
)
def test_what_names_no_single_partition_is_refused_and_says_what_to_write(
    text: str, grain: Grain, zone: str, code: str, says: str
) -> None:
    with pytest.raises(AiflowError) as caught:
        Partition.parse(text, grain, zone)
    assert caught.value.code == code
    assert says in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"\A[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ]?[0-9:+Z-]{0,14}\Z"), grains, zones)
def test_any_text_is_a_partition_or_an_error_of_ours(text: str, grain: Grain, zone: str) -> None:
    try:
        found = Partition.parse(text, grain, zone)
    except AiflowError:
        return
    assert Partition(found.key, grain, zone) == found


@pytest.mark.parametrize("key", ["20261120", "2026-11-20T05", " 2026-11-20", "2026-11"])
def test_a_key_has_one_spelling(key: str) -> None:
    with pytest.raises(ConfigurationError):
        Partition(key, "day")


def test_a_week_is_keyed_by_its_monday_only() -> None:
    with pytest.raises(ConfigurationError, match="as a key it is 2026-11-16"):
        Partition("2026-11-20", "week")


def test_a_moment_without_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Partition.containing(datetime(2026, 11, 20), "day")  # noqa: DTZ001
    assert caught.value.code == "naive-moment"


def test_a_range_holds_both_its_ends() -> None:
    first, last = Partition("2026-10-31", "day", "Europe/Berlin"), Partition("2026-11-02", "day", "Europe/Berlin")
    assert [p.key for p in partitions_between(first, last)] == ["2026-10-31", "2026-11-01", "2026-11-02"]
    assert partitions_between(first, first) == [first]


def test_a_range_that_is_none_is_refused() -> None:
    day = Partition("2026-11-02", "day")
    with pytest.raises(ConfigurationError, match="2026-11-01 comes before 2026-11-02") as caught:
        partitions_between(day, day.previous())
    assert caught.value.code == "reversed-range"
    with pytest.raises(ConfigurationError) as caught:
        partitions_between(day, Partition("2026-11-02T05", "hour"))
    assert caught.value.code == "mixed-partitions"


@pytest.mark.parametrize("periods", [10**9, -(10**9), True, 1.5, "1"])
def test_a_senseless_offset_is_refused_at_once(periods: int) -> None:
    with pytest.raises(ConfigurationError, match="number of periods"):
        Partition("2026-11-02", "day").offset(periods)


def test_an_offset_out_of_the_calendar_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="outside the years"):
        Partition("2026-11-01", "month").offset(-99_999)
    with pytest.raises(ConfigurationError):
        Partition("9998-12-31", "day").offset(2)


def test_the_last_complete_partition_ended_at_the_moment_or_before() -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert last_complete("day", "UTC", midnight).key == "2026-11-21"
    assert last_complete("day", "UTC", midnight - timedelta(microseconds=1)).key == "2026-11-20"
    assert last_complete("day", "America/New_York", midnight).key == "2026-11-20"


def test_a_partition_is_a_value() -> None:
    day = Partition("2026-11-20", "day", "Europe/Berlin")
    assert day == pickle.loads(pickle.dumps(day))
    assert len({day, Partition("2026-11-20", "day", "Europe/Berlin"), Partition("2026-11-20", "day")}) == 2
    assert column_value(day) == str(day) == "2026-11-20"
    assert sorted([day.next(), day, day.previous()]) == [day.previous(), day, day.next()]
    with pytest.raises(AttributeError):
        day.key = "2026-11-21"  # type: ignore[misc]  # that it cannot be set is the claim
