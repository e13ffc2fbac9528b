"""The IR: frozen all the way down, one text for one meaning, and read back whoever wrote it."""

import json
import pickle
import subprocess
import sys
from datetime import date
from pathlib import Path, PurePosixPath

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from aiflow_sdk.errors import DefinitionError, DocumentError, UnknownNameError
from aiflow_sdk.ir import (
    DatasetCondition,
    FrozenMap,
    NodeIR,
    PipelineIR,
    canonical_json,
    dataset,
    fingerprint,
    freeze,
    pipeline_schema,
    read_pipeline,
    thaw,
)

SOURCE = NodeIR.make(id="orders", type="source", params={"kind": "onelake", "table": "raw.orders"})
TRANSFORM = NodeIR.make(id="sums", type="transform", engine="python", entrypoint="etl.sums:main", input_ids=("orders",))
SINK = NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.sums"}, input_ids=("sums",))
PIPELINE = PipelineIR.make(id="sums", schedule="0 3 * * *", owner="team", nodes=(SINK, TRANSFORM, SOURCE))

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda text: text not in {"inputs", "params", "context", "spark", "env"}
)


@st.composite
def pipelines(draw):
    names = draw(st.lists(ids, min_size=2, max_size=6, unique=True))
    nodes = [NodeIR.make(id=names[0], type="source", params={"kind": "files", "path": draw(st.text(max_size=5))})]
    for position, name in enumerate(names[1:], 1):
        inputs = draw(st.lists(st.sampled_from(names[:position]), min_size=1, max_size=3, unique=True))
        nodes.append(
            NodeIR.make(
                id=name,
                type="transform",
                engine=draw(st.sampled_from(["python", "spark"])),
                entrypoint="etl.m:f",
                params=draw(st.dictionaries(st.text(max_size=4), plain, max_size=3)),
                input_ids=tuple(inputs),
                retries=draw(st.none() | st.integers(0, 3)),
            )
        )
    return PipelineIR.make(
        id="p",
        extra=draw(st.dictionaries(st.text(max_size=4), plain, max_size=3)),
        tags=tuple(draw(st.lists(st.text(max_size=4), max_size=3))),
        nodes=tuple(draw(st.permutations(nodes))),
    )


@given(pipelines())
def test_a_pipeline_read_back_is_the_same_pipeline(ir):
    again = read_pipeline(ir.to_json())
    assert again == ir
    assert again.to_json() == ir.to_json()
    assert again.fingerprint == ir.fingerprint
    assert hash(again) == hash(ir)
    assert pickle.loads(pickle.dumps(ir)) == ir


def test_every_document_obeys_the_published_schema():
    schema = pipeline_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    validator = kind(schema)

    @given(pipelines())
    def obeys(ir):
        validator.validate(json.loads(ir.to_json()))

    obeys()


@given(pipelines())
def test_each_node_comes_after_its_inputs(ir):
    seen = set()
    for node in ir.nodes.values():
        assert set(node.input_ids) <= seen
        seen.add(node.id)


@given(plain)
def test_frozen_data_thaws_to_what_it_was(value):
    assert thaw(freeze(value)) == value
    hash(freeze(value))


def test_nothing_inside_can_be_changed():
    with pytest.raises(TypeError):
        SOURCE.params["table"] = "other"
    with pytest.raises(ValueError, match="frozen"):
        SOURCE.id = "other"
    nested = NodeIR.make(id="n", type="source", params={"kind": "x", "deep": {"list": [1, {"a": 2}]}})
    assert nested.params["deep"]["list"] == (1, FrozenMap({"a": 2}))
    hash(nested)


@pytest.mark.parametrize(
    ("given", "field", "taken"),
    [
        ({"sla_minutes": 30}, "sla_minutes", 30.0),
        ({"sla_minutes": "30"}, "sla_minutes", 30.0),
        ({"retries": "2"}, "retries", 2),
        ({"catchup": "yes"}, "catchup", True),
        ({"notify": ["a", "b"]}, "notify", ("a", "b")),
        ({"extra": None}, "extra", FrozenMap()),
        ({"extra": [("team", "x")]}, "extra", FrozenMap({"team": "x"})),
        ({"nodes": [dict(SOURCE)]}, "node_list", (SOURCE,)),
        ({"node_list": [SOURCE], "retries": "2"}, "node_list", (SOURCE,)),
        ({"schedule": {"op": "dataset", "name": "a.b"}}, "schedule", dataset("a.b")),
        ({"schedule": dataset("a.b") & dataset("c.d"), "retries": "2"}, "schedule", dataset("c.d") & dataset("a.b")),
    ],
)
def test_what_is_given_in_another_form_is_taken_as_pydantic_takes_it(given, field, taken):
    value = getattr(PipelineIR.make(id="p", **given), field)
    assert (value, type(value)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"retries": -1}, "retries"),
        ({"timeout_minutes": 0}, "timeout_minutes"),
        ({"timezone": 1}, "timezone"),
        ({"partition": "year"}, "partition"),
        ({"notify": "a"}, "notify"),
        ({"nodes": [{"id": "a", "type": "other"}]}, "nodes.0.type"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_what_a_field_does_not_take_is_told_with_its_name(given, named):
    with pytest.raises(ValueError, match=named):
        PipelineIR.make(id="p", **given)
    with pytest.raises(DocumentError, match=named):
        read_pipeline({"ir_version": 1, "id": "p", **given})


def test_a_value_is_a_field_of_a_pydantic_model():
    adapter = TypeAdapter(NodeIR)
    assert adapter.validate_python(SOURCE) is SOURCE
    assert adapter.validate_python(SOURCE.to_dict()) == SOURCE
    assert adapter.dump_python(SOURCE) == SOURCE.to_full_dict()
    assert pickle.loads(pickle.dumps(SOURCE)) == SOURCE


def test_defaults_spelled_out_and_key_order_change_no_fingerprint():
    spelled = PipelineIR.make(
        owner="team",
        schedule="0 3 * * *",
        id="sums",
        retries=0,
        catchup=False,
        timezone="UTC",
        nodes=(SOURCE, TRANSFORM, SINK),
    )
    assert spelled.fingerprint == PIPELINE.fingerprint


def test_a_default_is_no_other_value_for_being_given():
    given = {name: value for name, value in SOURCE if value == getattr(NodeIR, name, ...)}
    spelled = NodeIR.make(**{**dict(SOURCE), **{name: freeze(thaw(value)) for name, value in given.items()}})
    assert len(given) > 10
    for one in (spelled, pickle.loads(pickle.dumps(spelled)), pickle.loads(pickle.dumps(SOURCE))):
        assert (one, hash(one), repr(one), dict(one)) == (SOURCE, hash(SOURCE), repr(SOURCE), dict(SOURCE))
        assert (one.to_dict(), one.to_full_dict()) == (SOURCE.to_dict(), SOURCE.to_full_dict())


def test_other_nodes_leave_the_settings_as_they_are():
    settings = {"tags": ("b", "a"), "extra": {"project": "shop"}, "retries": 2}
    whole = PipelineIR.make(id="sums", nodes=(SINK, TRANSFORM, SOURCE), **settings)
    assert whole.order == ("orders", "sums", "out")
    again = PipelineIR.make(id="sums", **settings).found_in("/somewhere").with_nodes(reversed(whole.node_list))
    assert (again, again.to_json(), again.order, again.origin) == (whole, whole.to_json(), whole.order, None)
    assert whole.with_nodes((SOURCE,)).order == ("orders",)
    with pytest.raises(UnknownNameError):
        whole.with_nodes((SINK,))


def test_true_is_not_one():
    one = NodeIR.make(id="t", type="transform", engine="python", entrypoint="m:f", params={"x": 1})
    true = NodeIR.make(id="t", type="transform", engine="python", entrypoint="m:f", params={"x": True})
    assert canonical_json(one.to_dict()) != canonical_json(true.to_dict())


def test_the_fingerprint_of_today_stays_the_fingerprint_of_tomorrow():
    # A later optional field, default or not, must not change it: this text was written with version 1 of the rule.
    assert PIPELINE.fingerprint == fingerprint(
        {
            "id": "sums",
            "schedule": "0 3 * * *",
            "owner": "team",
            "nodes": [
                {"id": "orders", "type": "source", "params": {"kind": "onelake", "table": "raw.orders"}},
                {
                    "id": "out",
                    "type": "sink",
                    "params": {"kind": "onelake", "table": "mart.sums"},
                    "input_ids": ["sums"],
                },
                {
                    "id": "sums",
                    "type": "transform",
                    "engine": "python",
                    "entrypoint": "etl.sums:main",
                    "input_ids": ["orders"],
                },
            ],
        }
    )
    assert PIPELINE.fingerprint == "v1:f709d3071864779fc64d16a84295e1aac03ad8c0e4c411b026f3374b788900bb"


def test_other_processes_and_hash_seeds_give_the_same_text():
    code = (
        "from aiflow_sdk.ir import NodeIR, PipelineIR\n"
        "n = NodeIR.make(id='a', type='source', params={'kind': 'files', 'z': {'q': 1, 'b': [1, 2]}, 'y': 2})\n"
        "print(PipelineIR.make(id='p', tags=('x', 'b', 'a'), extra={'team': 't', 'env': 'e'}, nodes=(n,)).fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path("."))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "42")
    }
    assert len(found) == 1


def test_the_published_schema_is_the_one_of_the_code():
    published = Path(__file__).parents[2] / "docs" / "schemas" / "pipeline-ir-v1.json"
    assert json.loads(published.read_text()) == pipeline_schema()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"id": "two words"}, "bad-id"),
        ({"id": "x" * 300}, "bad-id"),
        ({"id": ""}, "bad-id"),
        ({"id": "../up"}, "bad-id"),
        ({"id": "inputs"}, "reserved-node-id"),
        ({"id": "context.us"}, "reserved-node-id"),
        ({"params": {"kind": "x", "v": {1, 2}}}, "unordered-value"),
        ({"params": {"kind": "x", "v": float("nan")}}, "not-plain-data"),
        ({"params": {"kind": "x", "v": object()}}, "not-plain-data"),
        ({"params": {"kind": "x", 3: "v"}}, "not-plain-data"),
        ({"params": {}}, "incomplete-node"),
        ({"engine": "python"}, "incomplete-node"),
    ],
)
def test_a_node_that_is_not_whole_is_refused(fields, code):
    with pytest.raises(DefinitionError) as caught:
        NodeIR.make(**{"id": "n", "type": "source", "params": {"kind": "x"}, **fields})
    assert caught.value.code == code


def test_a_cycle_names_its_nodes():
    one = NodeIR.make(id="one", type="transform", engine="python", entrypoint="m:f", input_ids=("two",))
    two = NodeIR.make(id="two", type="transform", engine="python", entrypoint="m:f", input_ids=("one",))
    with pytest.raises(DefinitionError, match="one, two") as caught:
        PipelineIR.make(id="p", nodes=(one, two))
    assert caught.value.code == "cycle"


def test_an_unknown_input_suggests_the_near_one():
    with pytest.raises(UnknownNameError, match="did you mean 'orders'"):
        PipelineIR.make(
            id="p",
            nodes=(SOURCE, NodeIR.make(id="t", type="transform", engine="python", sql="x", input_ids=("ordres",))),
        )


def test_two_nodes_of_one_id_are_refused():
    with pytest.raises(DefinitionError) as caught:
        PipelineIR.make(id="p", nodes=(SOURCE, SOURCE))
    assert caught.value.code == "duplicate-node-id"


def test_dataset_conditions_have_one_form():
    a, b, c = dataset("x.a"), dataset("x.b"), dataset("x.c")
    assert (a & b) & c == c & (b & a)
    assert a | a == a
    assert (a & (b | c)).names() == ("x.a", "x.b", "x.c")
    with pytest.raises(DefinitionError):
        bool(a)
    ir = PipelineIR.make(id="p", schedule=a & (b | c), nodes=(SOURCE,))
    assert read_pipeline(ir.to_json()) == ir


def test_dates_become_text():
    assert freeze({"d": date(2026, 11, 20)}) == {"d": "2026-11-20"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{", "bad-document"),
        ("[]", "bad-document"),
        ('{"id": "p"}', "bad-document"),
        ('{"ir_version": 99, "id": "p"}', "newer-document"),
        ('{"ir_version": "1", "id": "p"}', "newer-document"),
        ('{"ir_version": 1, "id": "p", "colour": "red"}', "bad-document"),
        ('{"ir_version": 1, "id": 3}', "bad-document"),
        ('{"ir_version": 1, "id": "a b"}', "bad-id"),
    ],
)
def test_what_is_no_document_is_refused_with_a_code(document, code):
    with pytest.raises((DocumentError, DefinitionError)) as caught:
        read_pipeline(document)
    assert caught.value.code == code


def test_a_condition_of_datasets_has_one_form_however_it_was_made():
    one, other = DatasetCondition(op="dataset", name="a.b"), DatasetCondition(op="dataset", name="c.d")
    assert DatasetCondition(op="all", items=(other, one, one)) == DatasetCondition(op="all", items=(one, other))
    joined = {"op": "all", "items": [{"op": "dataset", "name": "c.d"}, {"op": "dataset", "name": "a.b"}]}
    document = {"ir_version": 1, "id": "p", "schedule": joined}
    meant = PipelineIR.make(id="p", schedule=dataset("a.b") & dataset("c.d"))
    assert read_pipeline(document).fingerprint == meant.fingerprint


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "dataset"},
        {"op": "dataset", "name": "no table"},
        {"op": "all", "items": ()},
        {"op": "any", "items": ({"op": "dataset", "name": "a.b"},)},
        {"op": "any", "name": "a.b"},
    ],
)
def test_a_condition_of_datasets_that_is_not_whole_is_refused(fields):
    with pytest.raises(DefinitionError) as caught:
        DatasetCondition.make(**fields)
    assert caught.value.code == "bad-schedule"


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, ["x\udc80"], PurePosixPath("a\udc80")])
def test_half_a_character_is_refused(value):
    with pytest.raises(DefinitionError) as caught:
        freeze(value)
    assert caught.value.code == "not-plain-data"


@pytest.mark.parametrize("project", ["../x", "a/b", "", "a b"])
def test_a_project_is_named_like_a_pipeline(project):
    with pytest.raises(DefinitionError) as caught:
        PipelineIR.make(id="p", extra={"project": project})
    assert caught.value.code == "bad-id"


def test_long_chains_are_put_in_order_and_a_cycle_is_named():
    nodes = [NodeIR.make(id="n0", type="source", params={"kind": "x"})]
    nodes += [
        NodeIR.make(id=f"n{i}", type="transform", engine="python", entrypoint="a:b", input_ids=(f"n{i - 1}",))
        for i in range(1, 300)
    ]
    assert PipelineIR.make(id="p", nodes=tuple(nodes)).order == tuple(f"n{number}" for number in range(300))
