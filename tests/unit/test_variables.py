"""Run variables: one spelling, no use while a pipeline is built, and what they become in a run."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from datetime import UTC, date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.errors import AiflowError, DefinitionError, UnknownNameError, VariableUseError
from aiflow_sdk.ir import FrozenMap
from aiflow_sdk.partitions import GRAINS, Partition, window
from aiflow_sdk.variables import (
    NAMES,
    Variables,
    canonicalise,
    has_secret,
    has_template,
    names_in,
    render,
    run_facts,
    secret_name,
    secrets_in,
)

variables = Variables()
run_date = variables["run_date"]

DAY = Partition("2026-11-20", "day", "Europe/Berlin")
FACTS = run_facts(DAY, run_id="r-1", pipeline_id="orders", params={"region": "eu", "top": 3, "deep": {"x": [1, None]}})


# --- one spelling


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("{{ds}}", "{{ ds }}"),
        ("{{\n  ds }}", "{{ ds }}"),
        ("{{ run_date }}", "{{ ds }}"),
        ("{{ ts }}", "{{ data_interval_start }}"),
        ("{{ logical_date }}", "{{ data_interval_start }}"),
        ("{{ params . region }}", "{{ params.region }}"),
        ("{{ params.a.b }}", "{{ params.a.b }}"),
        ("{{ ds . offset( - 1 ) }}", "{{ ds.offset(-1) }}"),
        ("{{ ds.offset(+1).offset(-1) }}", "{{ ds }}"),
        ('{{ ds.format("%Y/%m") }}', "{{ ds.format('%Y/%m') }}"),
        ("{{ ds.format('%Y-%m-%d') }}", "{{ ds }}"),
        ("{{ ds.format('%Y%m%d') }}", "{{ ds_nodash }}"),
        ("{{ ds_nodash.offset(-1) }}", "{{ ds.offset(-1).format('%Y%m%d') }}"),
        ("{{ ds.format('%Y').offset(-1) }}", "{{ ds.offset(-1).format('%Y') }}"),
        ("s3://x/dt={{ds}}/{{run_id}}", "s3://x/dt={{ ds }}/{{ run_id }}"),
        ('{"a": {"b": {{ params.n }}}}', '{"a": {"b": {{ params.n }}}}'),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("select * from {orders} where x = '{{ds}}'", "select * from {orders} where x = '{{ ds }}'"),
        (r"^\d{4}$", r"^\d{4}$"),
    ],
)
def test_one_meaning_has_one_spelling(written: str, form: str) -> None:
    assert canonicalise(written) == form
    assert canonicalise(form) == form


@pytest.mark.parametrize("name", [*NAMES, "params.region"])
def test_a_variable_and_its_template_mean_the_same(name: str) -> None:
    assert canonicalise(variables[name]) == canonicalise(f"{{{{{name}}}}}")


def test_a_variable_inside_text_means_the_same_as_its_template() -> None:
    expected = "s3://x/dt={{ ds }}/part"
    assert f"s3://x/dt={run_date}/part" == expected
    assert "s3://x/dt=" + run_date + "/part" == expected
    assert "s3://x/dt=%s/part" % run_date == expected  # noqa: UP031 authors write it
    assert "s3://x/dt={}/part".format(run_date) == expected  # noqa: UP032
    assert canonicalise(PurePosixPath("dt") / run_date) == "dt/{{ ds }}"
    assert os.path.join("dt", run_date) == "dt/{{ ds }}"
    assert run_date + run_date == "{{ ds }}{{ ds }}"


def test_offsets_and_formats_have_a_template_too() -> None:
    assert str(run_date.offset(-1)) == "{{ ds.offset(-1) }}"
    assert str(run_date.offset(-1).format("%Y%m%d")) == "{{ ds.offset(-1).format('%Y%m%d') }}"
    assert f"{run_date:%Y%m%d}" == "{{ ds_nodash }}"
    assert str(variables["ts"].format("%H")) == "{{ data_interval_start.format('%H') }}"


def test_whole_values_are_gone_through() -> None:
    value = {"dt": run_date, "paths": ("a/{{ds}}", Path("b")), "n": 1, "none": None, "w": window.last(7)}
    assert canonicalise(value) == {
        "dt": "{{ ds }}",
        "paths": ["a/{{ ds }}", "b"],
        "n": 1,
        "none": None,
        "w": {"$window": "last", "n": 7},
    }
    assert names_in(value) == {"ds"}
    assert names_in(["{{ run_id }}", {"x": "{{ params.a }} {{ ts }}"}]) == {"run_id", "params.a", "data_interval_start"}
    assert canonicalise(FrozenMap({"dt": ["{{ds}}"]})) == {"dt": ["{{ ds }}"]}
    assert has_template("a {{ ds }}")
    assert not has_template("{orders}")


@pytest.mark.parametrize(
    ("written", "code", "says"),
    [
        ("{{ ds | upper }}", "bad-template", "filters"),
        ("{{ data_interval_start.year }}", "bad-template", "format"),
        ("{{ data_interval_start.strftime('%Y') }}", "bad-template", "format"),
        ("{{ ds[:7] }}", "bad-template", "expressions"),
        ("{{ ds + 1 }}", "bad-template", "expressions"),
        ("{{- ds -}}", "bad-template", "expressions"),
        ("{{ 'x' }}", "bad-template", "expressions"),
        ("{{ }}", "bad-template", "not understood"),
        ("{{ ds ds }}", "bad-template", "not understood"),
        ("{{{ ds }}}", "bad-template", "not understood"),
        ("{{ params.region.upper() }}", "bad-template", "not understood"),
        ("{{ params['region'] }}", "unknown-variable", "{{ params.name }}"),
        ("{{ params }}", "unknown-variable", "{{ params.name }}"),
        ("{{ macros.ds_add(ds, -1) }}", "unknown-variable", "{{ ds.offset(-1) }}"),
        ("{{ yesterday_ds }}", "unknown-variable", "{{ ds.offset(-1) }}"),
        ("{{ var.value.key }}", "bad-template", "{{ params.name }}"),
        ("{{ run_dat }}", "unknown-variable", "did you mean 'run_date'"),
        ("{{ xyz }}", "unknown-variable", "known: run_date"),
        ("{{ run_id.offset(-1) }}", "bad-template", "no time"),
        ("{{ params.x.format('%Y') }}", "bad-template", "no time"),
        ("{{ ds.offset(1.5) }}", "bad-template", "not understood"),
        ("{{ ds.offset(999999) }}", "bad-template", "number of periods"),
        ("{{ ds.format('%Q') }}", "bad-template", "%Q"),
        ("{{ ds.format('%B') }}", "bad-template", "%B"),
        ("{{ ds.format('x') }}", "bad-template", "codes"),
        ("{{ ds.format('%') }}", "bad-template", "codes"),
        ("{{ ds.format('%Y').format('%m') }}", "bad-template", "format already"),
        ("{% if ds %}x{% endif %}", "bad-template", "block"),
        ("{{ ds", "bad-template", "not closed"),
        ("s }}", "bad-template", "not closed"),
        ("x/{{ ds }}/{{ d", "bad-template", "not closed"),
        ("s3://x/{ ds }/y", "bad-template", "f-string"),
        ("{{1,2},{3,4}}", "bad-template", "not understood"),
        ({"{{ ds }}": 1}, "bad-template", "key"),
        ({run_date: 1}, "bad-template", "key"),
    ],
)
def test_what_is_no_template_of_ours_is_refused_with_what_to_write(written: Any, code: str, says: str) -> None:
    with pytest.raises(AiflowError) as caught:
        canonicalise(written)
    assert caught.value.code == code
    assert says in str(caught.value)


@pytest.mark.parametrize("cut", [slice(0, 4), slice(3, None), slice(-3, None), slice(0, -1)])
def test_a_slice_of_a_variables_text_is_refused(cut: slice) -> None:
    with pytest.raises(DefinitionError, match="not closed"):
        canonicalise("x" + str(run_date)[cut])


# --- no use while the pipeline is built

USES: list[Callable[[Any], Any]] = [
    lambda v: bool(v),
    lambda v: not v,
    lambda v: v or "x",
    lambda v: v == "2026-11-20",
    lambda v: v != "2026-11-20",
    lambda v: v < "2026",
    lambda v: v in ["2026-11-20"],  # noqa: FURB171
    lambda v: "2026" in v,
    lambda v: sorted([v, v]),
    lambda v: len(v),
    lambda v: list(v),
    lambda v: v[:4],
    lambda v: v[0],
    lambda v: int(v),
    lambda v: float(v),
    lambda v: range(v),
    lambda v: v - timedelta(days=1),
    lambda v: date(2026, 1, 1) - v,
    lambda v: v + 1,
    lambda v: 1 + v,
    lambda v: v * 2,
    lambda v: v % "x",
    lambda v: v.replace("-", ""),
    lambda v: v.strftime("%Y"),
    lambda v: v.year,
    lambda v: v(),
    lambda v: f"{v:>10}",
    lambda v: {**v},
    lambda v: v.format("%Y").encode(),
    lambda v: {v: 1}[variables["ds"]],
    lambda v: setattr(v, "x", 1),
]


@pytest.mark.parametrize("use", USES)
def test_a_variable_cannot_be_looked_at_while_the_pipeline_is_built(use: Callable[[Any], Any]) -> None:
    with pytest.raises((VariableUseError, TypeError)) as caught:
        use(run_date)
    if isinstance(caught.value, VariableUseError):
        assert caught.value.code == "variable-at-build-time"
        assert caught.value.hint
        assert caught.value.where
        assert str(caught.value.where.path).endswith("test_variables.py")
        assert caught.value.where.line == use.__code__.co_firstlineno


def test_most_uses_say_so_in_our_words() -> None:
    ours = 0
    for use in USES:
        try:
            use(run_date)
        except VariableUseError:
            ours += 1
        except TypeError:
            pass
    assert ours >= len(USES) - 1


def test_the_error_says_what_to_write() -> None:
    with pytest.raises(VariableUseError, match=r"write \.offset\(-1\)"):
        _ = run_date - timedelta(days=1)  # type: ignore[operator]  # the claim
    with pytest.raises(VariableUseError, match=r"was compared"):
        _ = run_date == "x"  # type: ignore[comparison-overlap]  # the claim


def test_what_cannot_say_it_in_our_words_still_fails() -> None:
    with pytest.raises(TypeError):
        "/".join([run_date])  # type: ignore[list-item]  # the claim
    with pytest.raises(TypeError):
        json.dumps(run_date)


def test_a_wrong_offset_or_format_names_the_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        run_date.format("%Q")
    assert str(caught.value.where).startswith("tests/unit/test_variables.py:")
    with pytest.raises(DefinitionError):
        run_date.offset(1.5)  # type: ignore[arg-type]  # the claim
    with pytest.raises(DefinitionError, match="no time"):
        variables["run_id"].offset(-1)


def test_a_variable_is_a_value() -> None:
    for same in (pickle.loads(pickle.dumps(run_date)), copy.deepcopy(run_date), copy.copy(run_date)):
        assert str(same) == str(run_date)
        assert hash(same) == hash(run_date)
    assert repr(run_date) == "<run variable {{ ds }}>"
    assert not hasattr(run_date, "_repr_html_")
    assert not hasattr(run_date, "__array__")
    assert not hasattr(run_date, "something")


def test_names_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'run_date'") as caught:
        variables["run_dat"]
    assert caught.value.code == "unknown-variable"
    assert str(caught.value.where).startswith("tests/unit/test_variables.py:")
    with pytest.raises(AttributeError, match=r'p\.vars\["run_date"\]'):
        _ = variables.run_date
    for name in ("params", "params.", "params.a b", "ds }}", "", 5):
        with pytest.raises(UnknownNameError):
            variables[name]  # type: ignore[index]  # 5 is no name


def test_params_are_checked_where_they_are_known() -> None:
    known = Variables({"region": "eu"})
    assert str(known["params.region"]) == "{{ params.region }}"
    with pytest.raises(UnknownNameError, match="did you mean 'region'") as caught:
        known["params.regoin"]
    assert caught.value.code == "unknown-param"
    assert list(known) == [*NAMES, "params.region"]
    assert len(known) == len(NAMES) + 1
    assert "params.region" in known
    assert "params.x" not in known
    assert str(variables["params.anything"]) == "{{ params.anything }}"


# --- secrets


@pytest.mark.parametrize("text", ["secret://token", "secret://db/prod.password-2"])
def test_a_secret_is_a_whole_text(text: str) -> None:
    assert has_secret(text)
    assert secret_name(text) == text.removeprefix("secret://")
    assert canonicalise({"x": [text]}) == {"x": [text]}
    assert secrets_in({"x": [text]}) == {text.removeprefix("secret://")}


@pytest.mark.parametrize(
    "text",
    [
        "secret://",
        "secret://a b",
        "secret://a/",
        "secret://../x",
        "pg://me:secret://x@h",
        " secret://x",
        "secret://{{ ds }}",
    ],
)
def test_a_secret_within_other_text_or_of_no_name_is_refused(text: str) -> None:
    assert not has_secret(text)
    with pytest.raises(DefinitionError) as caught:
        canonicalise([text])
    assert caught.value.code == "bad-secret"


def test_other_text_is_no_secret() -> None:
    assert secret_name("secret") is None
    assert secrets_in(["x", 1]) == set()


# --- rendering


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("{{ ds }}", "2026-11-20"),
        ("{{ ds_nodash }}", "20261120"),
        ("{{ run_date.offset(-1) }}", "2026-11-19"),
        ("{{ ds.offset(-20).format('%Y/%m/%d') }}", "2026/10/31"),
        ("{{ ts }}", "2026-11-20T00:00:00+01:00"),
        ("{{ data_interval_end }}", "2026-11-21T00:00:00+01:00"),
        ("{{ data_interval_end.offset(1).format('%d.%m. %H:%M') }}", "22.11. 00:00"),
        ("{{ run_id }}-{{ pipeline_id }}", "r-1-orders"),
        ("{{ params.region }}", "eu"),
        ("{{ params.top }}", 3),
        ("{{ params.deep }}", {"x": [1, None]}),
        ("{{ params.deep.x }}", [1, None]),
        ("top {{ params.top }}", "top 3"),
        ("{{ params.deep }}!", '{"x": [1, null]}!'),
        ("{{ params.deep.x }} {{ params.top }}", "[1, null] 3"),
        ("select * from {orders} where dt = '{{ ds }}'", "select * from {orders} where dt = '2026-11-20'"),
        ("plain", "plain"),
    ],
)
def test_templates_become_the_runs_facts(written: str, rendered: str) -> None:
    assert render(written, FACTS) == rendered
    assert render({"x": [written]}, FACTS) == {"x": [rendered]}


def test_a_param_is_not_rendered_again() -> None:
    facts = run_facts(DAY, run_id="r", pipeline_id="p", params={"x": "{{ ds }}"})
    assert render("{{ params.x }}", facts) == "{{ ds }}"


def test_other_values_stay_as_they_are() -> None:
    assert render({"n": 1, "f": 1.5, "b": True, "none": None}, FACTS) == {"n": 1, "f": 1.5, "b": True, "none": None}
    assert render(FrozenMap({"a": ("{{ ds }}",)}), FACTS) == {"a": ["2026-11-20"]}


def test_frozen_params_are_written_as_json() -> None:
    facts = run_facts(
        None, run_id="r", pipeline_id="p", params=FrozenMap({"deep": {"x": [1]}, "day": date(2026, 1, 2)})
    )
    assert render("{{ params.deep }} {{ params.day }}", facts) == '{"x": [1]} 2026-01-02'


@pytest.mark.parametrize("name", ["ds", "ds_nodash", "ts", "data_interval_end", "ds.offset(-1)"])
def test_a_time_in_a_run_without_partition_is_an_error(name: str) -> None:
    facts = run_facts(None, run_id="r", pipeline_id="p", params={})
    with pytest.raises(DefinitionError, match='partition="day"') as caught:
        render(f"{{{{ {name} }}}}", facts)
    assert caught.value.code == "no-time-partition"
    assert render("{{ run_id }}", facts) == "r"


def test_an_unknown_param_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'region'") as caught:
        render("{{ params.regio }}", FACTS)
    assert caught.value.code == "unknown-param"
    with pytest.raises(UnknownNameError):
        render("{{ params.region.x }}", FACTS)


def test_facts_follow_from_the_partition() -> None:
    hour = Partition("2026-11-01T01-05:00", "hour", "America/New_York")
    facts = run_facts(hour, run_id="r", pipeline_id="p", params={})
    assert facts["ds"] == facts["run_date"] == "2026-11-01"
    assert facts["ds_nodash"] == "20261101"
    assert facts["ts"] == "2026-11-01T01:00:00-05:00"
    assert facts["data_interval_start"] == facts["logical_date"] == hour.start
    assert (facts["data_interval_end"] - facts["data_interval_start"]) == timedelta(hours=1)
    assert render("{{ ts.offset(-1) }}", facts) == "2026-11-01T01:00:00-04:00"
    assert facts["data_interval_start"].astimezone(UTC).hour == 6


# --- in general

names = st.sampled_from([*NAMES, "params.region", "params.top"])
times = st.sampled_from([name for name in NAMES if not name.endswith("_id")])
spaces = st.text(" \t\n", max_size=2)
plain = st.text(st.characters(exclude_characters="{}%"), max_size=8).filter(lambda text: "secret://" not in text)


@st.composite
def templates(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        inside = draw(names)
    else:
        offset = draw(st.integers(-50, 50))
        inside = draw(times)
        inside += draw(st.sampled_from(["", f".offset({offset})", f" . offset( {offset} )"]))
        if not inside.startswith("ds_nodash"):
            inside += draw(st.sampled_from(["", ".format('%Y%m%d')", '.format( "%Y-%m-%d" )', ".format('%H %%')"]))
    return "{{" + draw(spaces) + inside + draw(spaces) + "}}"


texts = st.lists(plain | templates(), max_size=5).map("".join)
values = st.recursive(
    texts | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=8,
)
partitions = st.builds(
    lambda moment, grain: Partition.containing(moment.replace(tzinfo=UTC), grain, "America/New_York"),
    st.datetimes().filter(lambda moment: 1905 < moment.year < 2090),
    st.sampled_from(GRAINS),
)


@given(values)
def test_canonical_values_stay_as_they_are(value: Any) -> None:
    once = canonicalise(value)
    assert canonicalise(once) == once
    assert json.loads(json.dumps(once)) == once
    assert names_in(once) == names_in(value)


@given(values, partitions)
def test_rendering_leaves_no_braces_and_does_not_depend_on_the_spelling(value: Any, partition: Partition) -> None:
    facts = run_facts(partition, run_id="r", pipeline_id="p", params={"region": "eu", "top": 3})
    rendered = render(value, facts)
    assert rendered == render(canonicalise(value), facts)
    assert not names_in(rendered)

    def check(part: Any) -> None:
        if isinstance(part, str):
            assert "{" not in part
            assert "}" not in part
        elif isinstance(part, dict):
            for item in part.values():
                check(item)
        elif isinstance(part, list):
            for item in part:
                check(item)

    check(rendered)


@given(st.text("{}ds .'|()%-1\n", max_size=20))
def test_any_text_is_understood_or_refused_by_an_error_of_ours(text: str) -> None:
    try:
        once = canonicalise(text)
    except AiflowError:
        return
    assert canonicalise(once) == once
    render(once, FACTS)
