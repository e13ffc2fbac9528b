"""The rule that says why a partition is made again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.plan.making import Making, why_run

MADE = Making(
    definition="d1",
    lock="l1",
    code={"enrich": "c1", "rank": "c1"},
    params={"limit": 3},
    sources={"orders": "v1"},
    sinks={"features": "w1", "report": None},
    run_id="r1",
    generation=4,
)


def test_what_was_made_of_the_same_things_is_up_to_date() -> None:
    assert why_run(MADE, replace(MADE, run_id="", generation=0)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"definition": "d2"}, "the definition of the pipeline changed"),
        ({"code": {"enrich": "c2", "rank": "c1"}}, "the code of 'enrich' changed"),
        ({"code": {"enrich": "c2", "rank": "c2"}}, "the code of 'enrich', 'rank' changed"),
        ({"lock": "l2"}, "the installed packages changed"),
        ({"params": {"limit": 4}}, "the param 'limit' was 3 and is 4"),
        ({"sources": {"orders": "v2"}}, "input 'orders' was restated"),
        ({"sources": {"orders": None}}, "nothing tells whether input 'orders' changed"),
        ({"sinks": {"features": "w2"}}, "output 'features' was changed by someone else"),
        ({"sinks": {"features": None}}, "output 'features' is gone"),
        ({"sinks": {}}, "output 'features' is gone"),
    ],
)
def test_what_changed_is_said(change, said: str) -> None:
    assert why_run(MADE, replace(MADE, **change)) == said


def test_what_was_never_made_is_made() -> None:
    assert why_run(None, MADE) == "never made"


def test_a_sink_that_cannot_tell_stops_nothing() -> None:
    assert why_run(MADE, replace(MADE, sinks={"features": "w1", "report": "w9"})) is None


def test_a_making_survives_its_file_and_a_later_version_of_it() -> None:
    assert Making.from_dict({**MADE.to_dict(), "later": 1}) == MADE


IDENTITIES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", None]))
CODES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"]))


@given(CODES, CODES, IDENTITIES, IDENTITIES)
def test_only_equal_and_known_things_are_up_to_date(code, other_code, sources, other_sources) -> None:
    one = replace(MADE, code=code, sources=sources)
    other = replace(MADE, code=other_code, sources=other_sources)
    same = code == other_code and sources == other_sources and None not in other_sources.values()
    assert (why_run(one, other) is None) == same


def test_a_definition_that_changed_in_nothing_that_rows_depend_on_makes_nothing_again() -> None:
    made = replace(MADE, meaning="m1")
    assert why_run(made, replace(made, definition="d2")) is None
    assert why_run(made, replace(made, definition="d2", meaning="m2")) == "the definition of the pipeline changed"
    assert why_run(MADE, replace(made, definition="d2")) == "the definition of the pipeline changed"
