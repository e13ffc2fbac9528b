"""Schedules: their one form, when they fire, what they are for, and which partitions are due."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.partitions import (
    PRESETS,
    Grain,
    Partition,
    due_partitions,
    fire_times,
    infer_grain,
    last_complete,
    normalise_schedule,
)
from aiflow_sdk.partitions.cron import Cron


def at(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def due(schedule: str, now: str, after: str | None = None, grain: Grain = "day", zone: str = "UTC") -> list[str]:
    found = due_partitions(schedule, grain, zone, after=at(after) if after else None, now=at(now))
    return [partition.key for partition in found]


# --- form


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("  0   3 * *\t* ", "0 3 * * *"),
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        (timedelta(hours=1), "PT1H"),
        (timedelta(days=1), "P1D"),
        (timedelta(hours=24), "P1D"),
        (timedelta(days=7), "P1W"),
        (timedelta(days=1, minutes=90), "P1DT1H30M"),
        ("pt60m", "PT1H"),
        ("P7D", "P1W"),
        ("0 3 * * MON-FRI", "0 3 * * 1-5"),
        ("00 03 * * 1,2,3,4,5", "0 3 * * 1-5"),
        ("0 3 ? jan,feb 7", "0 3 * 1,2 0"),
        ("0-59/15 0-23 1-31 * *", "*/15 * * * *"),
        ("0,30 */12 * * *", "0,30 0,12 * * *"),
        ("0 3 1-31 * 1-5", "0 3 * * *"),
        ("0 3 5 * 0-6", "0 3 * * *"),
        ("0 3 */2 * 0-6", "0 3 */2 * *"),
        ("0 3 l,1 * *", "0 3 1,L * *"),
        ("0 3 * * fri#2,l1,fri", "0 3 * * 5,L1"),
    ],
)
def test_a_schedule_has_one_form(written: str | timedelta, form: str) -> None:
    assert normalise_schedule(written) == form
    assert normalise_schedule(form) == form


_FIELD = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}


@st.composite
def cron_texts(draw: st.DrawFn) -> str:
    fields = []
    for name, (low, high) in _FIELD.items():
        number = st.integers(low, high).map(str)
        item = st.one_of(
            number,
            st.just("*"),
            st.tuples(number, number).map("-".join),
            st.integers(1, high).map(lambda step: f"*/{step}"),
            st.tuples(number, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
            *([st.just("L")] if name == "day" else []),
            *([st.sampled_from(["1#2", "L5", "sun", "mon-fri"])] if name == "weekday" else []),
        )
        fields.append(",".join(draw(st.lists(item, min_size=1, max_size=3))))
    return " ".join(fields)


@given(cron_texts())
@settings(max_examples=200, deadline=None)
def test_the_one_form_fires_when_the_text_that_was_written_does(text: str) -> None:
    try:
        form = normalise_schedule(text)
    except DefinitionError:
        return
    assert normalise_schedule(form) == form
    written, one = Cron.parse(text), Cron.parse(form)
    assert (written.minutes, written.hours, written.months) == (one.minutes, one.hours, one.months)
    days = [date(2027, 1, 1) + timedelta(days=n) for n in range(1500)]
    assert [written.fires_on(day) for day in days] == [one.fires_on(day) for day in days]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_is_a_schedule_that_fires(preset: str) -> None:
    assert fire_times(preset, "UTC", at("2026-01-01"), at("2027-01-01"))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "0 fields instead of five"),
        ("daily", "1 field"),
        ("0 3 * *", "4 fields"),
        ("0 0 3 * * *", "6 fields"),
        ("60 * * * *", "'60' is no minute (0-59)"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "day of the month (1-31)"),
        ("0 0 * 13 *", "month"),
        ("0 0 * * 8", "weekday"),
        ("0 0 * * fir", "'fir' is no weekday"),
        ("*/0 * * * *", "steps by nothing"),
        ("0 3,, * * *", "'' is no hour"),
        ("r r * * *", "is no minute"),
        ("h h * * *", "is no minute"),
        ("0 0 31 2 *", "no month that it names has such a day"),
        ("0 0 * * 1#6", "weekday"),
        ("@dayly", "did you mean '@daily'"),
        ("@once", "None: by hand"),
        ("P1M", "ISO 8601"),
        ("P", "ISO 8601"),
        ("P99999999999W", "too long"),
        ("PT0S", "under a minute"),
        (timedelta(seconds=-60), "under a minute"),
        (timedelta(minutes=1, microseconds=1), "of whole seconds"),
        (timedelta(days=99_999), "ten years"),
        (5, "neither text nor a timedelta"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(written: Any, says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        normalise_schedule(written)
    assert caught.value.code == "bad-schedule"
    assert says in str(caught.value)
    assert caught.value.hint


# --- grain


@pytest.mark.parametrize(
    ("schedule", "grain"),
    [
        (None, None),
        ("0 * * * *", "hour"),
        ("15 */1 * * *", "hour"),
        ("@hourly", "hour"),
        ("PT1H", "hour"),
        ("0 3 * * *", "day"),
        ("0 3 ? * *", "day"),
        ("0 3 * * 1-5", "day"),
        ("0 3 * * mon,wed", "day"),
        ("0 3 * * 0-6", "day"),
        ("0 3 1-31 * 0-6", "day"),
        ("@daily", "day"),
        ("P1D", "day"),
        ("PT24H", "day"),
        ("0 3 * * 1", "week"),
        ("0 3 * * sun", "week"),
        ("P1W", "week"),
        ("P7D", "week"),
        ("0 3 1 * *", "month"),
        ("0 3 L * *", "month"),
        ("@monthly", "month"),
        ("*/15 * * * *", None),
        ("0 */6 * * *", None),
        ("0 * * * 1-5", None),
        ("0 3,15 * * *", None),
        ("0 3 1,15 * *", None),
        ("0 3 1 * 1", None),
        ("0 3 * 6 *", None),
        ("0 3 * * 1#2", None),
        ("@yearly", None),
        ("PT15M", None),
        ("P2D", None),
    ],
)
def test_the_grain_follows_from_a_plain_schedule_only(schedule: str | None, grain: Grain | None) -> None:
    assert infer_grain(schedule) == grain


# --- firing

_NAMED = {"month": ["jan", "FEB", "dec"], "weekday": ["sun", "Mon", "fri"]}


@st.composite
def fields(draw: st.DrawFn, what: str, low: int, high: int) -> str:
    number = st.integers(low, high)
    kinds = ["any", "one", "step", "range", "list", *(["name"] if what in _NAMED else [])]
    match draw(st.sampled_from(kinds)):
        case "any":
            return "*"
        case "one":
            return str(draw(number))
        case "name":
            return draw(st.sampled_from(_NAMED[what]))
        case "step":
            return f"*/{draw(st.integers(1, max(2, high // 2)))}"
        case "range":
            first, last = sorted((draw(number), draw(number)))
            return f"{first}-{last}" if first < last else str(first)
        case _:
            return ",".join(map(str, draw(st.lists(number, min_size=1, max_size=3))))


crons = st.tuples(
    fields("minute", 0, 59),
    fields("hour", 0, 23),
    fields("day", 1, 28),
    fields("month", 1, 12),
    fields("weekday", 0, 6),
).map(" ".join)


@settings(max_examples=300)
@given(crons, st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001
def test_cron_text_fires_when_croniter_and_so_airflow_says(cron: str, moment: datetime) -> None:
    start = moment.replace(tzinfo=UTC, second=0, microsecond=0)
    theirs = croniter(cron, start)
    expected: list[datetime] = []
    while len(expected) < 5:
        expected.append(theirs.get_next(datetime))
    assert fire_times(cron, "UTC", start, expected[-1]) == expected


@pytest.mark.parametrize(
    "cron",
    ["0 0 L * *", "0 0 * * 5#2", "0 0 * * L5", "0 0 * * 7", "0 0 * * fri-mon", "0 22-2 * * *", "5/20 * * * *",
     "0 0 13 * 5", "0 0 1-31 * 1", "0 0 */1 * 1", "0 0 15,L * *", "0 0 * * 0-7", "0 0 * * 5-7", "*/7 3/5 * * *",
     "0 0 * 11-2 *", "0 0 * * */2", "0 0 29 2 *", "0 0 ? * 3", "0 0 1 * */1", "0 22-4/2 * * *", "0 0 * * 5-2/2"],
)  # fmt: skip
def test_rarer_cron_text_fires_when_croniter_says(cron: str) -> None:
    theirs = croniter(cron, at("2026-01-31"))
    expected = [theirs.get_next(datetime) for _ in range(8)]
    assert fire_times(cron, "UTC", at("2026-01-31"), expected[-1]) == expected


def test_the_window_of_firing_is_open_before_and_closed_after() -> None:
    assert fire_times("0 3 * * *", "UTC", at("2026-11-20T03:00"), at("2026-11-22T03:00")) == [
        at("2026-11-21T03:00"),
        at("2026-11-22T03:00"),
    ]
    assert fire_times("0 3 * * *", "UTC", at("2026-11-22"), at("2026-11-20")) == []


def fired(cron: str, day: str, zone: str = "America/New_York") -> list[str]:
    whole = Partition(day, "day", zone)
    times = fire_times(cron, zone, whole.start - timedelta(seconds=1), whole.end)
    return [time.isoformat(timespec="minutes")[11:] for time in times]


def test_a_time_that_the_clocks_skip_fires_after_the_gap() -> None:
    assert fired("30 2 * * *", "2026-03-08") == ["03:00-04:00"]


def test_a_time_that_the_clocks_show_twice_fires_once() -> None:
    assert fired("30 1 * * *", "2026-11-01") == ["01:30-04:00"]


def test_what_fires_every_hour_fires_at_every_hour_that_passes() -> None:
    assert fired("5 * * * *", "2026-11-01")[:4] == ["00:05-04:00", "01:05-04:00", "01:05-05:00", "02:05-05:00"]
    assert fired("5 * * * *", "2026-03-08")[:3] == ["00:05-05:00", "01:05-05:00", "03:05-04:00"]
    assert len(fired("5 * * * *", "2026-11-01")) == 25


def test_a_duration_of_days_fires_at_local_midnight_whatever_the_clocks_do() -> None:
    times = fire_times("P1D", "America/New_York", at("2026-10-31T12:00"), at("2026-11-03T12:00"))
    assert [t.isoformat() for t in times] == [
        "2026-11-01T00:00:00-04:00",
        "2026-11-02T00:00:00-05:00",
        "2026-11-03T00:00:00-05:00",
    ]
    assert all(t.weekday() == 0 for t in fire_times("P1W", "UTC", at("2026-01-01"), at("2026-03-01")))


def test_a_shorter_duration_is_counted_from_midnight() -> None:
    times = fire_times("PT6H", "UTC", at("2026-11-20"), at("2026-11-21"))
    assert [t.hour for t in times] == [6, 12, 18, 0]


# --- what is due


def test_a_cron_run_is_for_the_last_complete_day() -> None:
    assert due("0 3 * * *", now="2026-11-22T03:00") == ["2026-11-21"]
    assert due("0 3 * * *", now="2026-11-22T02:59") == ["2026-11-20"]
    assert due("0 3 * * *", now="2026-11-22T05:00", after="2026-11-21T03:00") == ["2026-11-21"]


def test_nothing_is_due_before_the_next_firing() -> None:
    assert due("0 3 * * *", now="2026-11-22T05:00", after="2026-11-22T03:00") == []
    assert due("0 3 * * *", now="2026-11-20T05:00", after="2026-11-22T03:00") == []


def test_a_weekdays_only_cron_makes_friday_to_sunday_on_a_monday() -> None:
    monday = "2026-11-23T03:00"
    assert due("0 3 * * 1-5", now=monday) == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert due("0 3 * * 1-5", now=monday, after="2026-11-20T03:00") == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert due("0 3 * * 1-5", now="2026-11-24T03:00", after=monday) == ["2026-11-23"]
    assert due("0 3 * * 1-5", now="2026-11-22T12:00", after="2026-11-20T03:00") == []


def test_firings_that_were_missed_are_all_made_up() -> None:
    days = ["2026-11-19", "2026-11-20", "2026-11-21"]
    assert due("0 3 * * *", now="2026-11-22T12:00", after="2026-11-19T03:00") == days


def test_a_cron_that_fires_more_often_than_its_periods_complete_makes_the_last_one_again() -> None:
    assert due("0 */6 * * *", now="2026-11-22T06:00", after="2026-11-22T00:00") == ["2026-11-21"]
    assert due("0 */6 * * *", now="2026-11-23T00:00", after="2026-11-22T12:00") == ["2026-11-21", "2026-11-22"]


def test_hourly_runs_cover_the_day_on_which_the_clocks_go_back() -> None:
    keys = due("5 * * * *", "2026-11-01T04:00-05:00", "2026-11-01T00:30-04:00", grain="hour", zone="America/New_York")
    assert keys == ["2026-11-01T00", "2026-11-01T01-04:00", "2026-11-01T01-05:00", "2026-11-01T02"]


def test_a_day_is_complete_by_the_clocks_of_its_zone() -> None:
    assert due("0 3 * * *", now="2026-11-22T09:00Z", zone="America/New_York") == ["2026-11-21"]
    assert due("0 3 * * *", now="2026-11-22T07:00Z", zone="America/New_York") == ["2026-11-20"]


def test_a_weekly_and_a_monthly_cron_make_the_week_and_month_before() -> None:
    assert due("0 3 * * 1", now="2026-11-23T03:00", grain="week") == ["2026-11-16"]
    assert due("0 3 1 * *", now="2026-11-01T03:00", grain="month") == ["2026-10-01"]
    assert due("0 0 1 1 *", now="2026-01-01T00:00", grain="month")[0] == "2025-01-01"
    assert len(due("0 0 29 2 *", now="2028-03-01", grain="month")) == 48


@given(
    st.sampled_from(["0 3 * * *", "0 3 * * 1-5", "0 3 * * 1", "30 2 * * 6,0", "0 12 1 * *", "P1D", "P3D"]),
    st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.lists(st.datetimes(datetime(2011, 10, 1), datetime(2012, 5, 1)), min_size=3, max_size=6),  # noqa: DTZ001
)
def test_each_period_is_made_once_however_often_one_looks(schedule: str, zone: str, looks: list[datetime]) -> None:
    moments = [look.replace(tzinfo=UTC) for look in sorted(looks)]
    found: list[Partition] = []
    seen = fire_times(schedule, zone, moments[0] - timedelta(days=40), moments[0])[-1]
    first = last_complete("day", zone, seen)
    for now in moments[1:]:
        found += due_partitions(schedule, "day", zone, after=seen, now=now)
        seen = max([seen, *fire_times(schedule, zone, seen, now)])
    keys = [partition.key for partition in found]
    assert keys == sorted(set(keys))
    expected, here = [], first
    while here.end < last_complete("day", zone, seen).end:
        here = here.next()
        expected.append(here.key)
    assert keys == expected
