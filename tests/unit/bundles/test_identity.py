"""What a pipeline is called in Airflow."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.bundles import SHARDS, dag_id_of, shard_of

NAMES = st.text(alphabet="ab0x.-_é/ h2d", min_size=1, max_size=12) | st.text(min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("project", "pipeline", "dag_id"),
    [
        ("default", "daily_revenue", "daily_revenue"),
        ("shop", "daily-revenue.v2", "shop.daily-revenue.v2"),
        ("default", "größe", "gr-0xf6--0xdf-e"),
        ("default", "a-0x", "a-0x2d-0x"),
        ("default", "a b", "a-0x20-b"),
    ],
)
def test_a_plain_id_stays_and_others_are_escaped(project, pipeline, dag_id):
    assert dag_id_of(project, pipeline) == dag_id


@given(st.lists(NAMES, min_size=2, max_size=20, unique=True), st.sampled_from(["default", "shop", "a-0x", "ö"]))
def test_ids_of_a_project_never_collide_and_airflow_takes_them(ids, project):
    found = [dag_id_of(project, one) for one in ids]
    assert len(set(found)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,250}", one) for one in found)


def test_long_ids_that_differ_at_their_end_stay_apart():
    one, other = (dag_id_of("default", "x" * 300 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) == 250


def test_a_shard_is_for_ever():
    # A DAG that moved to another file would be gone and another one: these hold for every version of aiflow.
    assert [shard_of(one) for one in ("daily_revenue", "shop.daily_revenue", "a")] == ["03", "08", "0a"]
    assert {shard_of(f"p{number}") for number in range(2000)} == {f"{number:02x}" for number in range(SHARDS)}
