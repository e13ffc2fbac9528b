"""Two versions of a pipeline differ as they mean, nothing is lost on the way, and one rule says whether rows change."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import load_project
from aiflow_sdk.difference import ABSENT, Difference, compare_pipelines, effect_of
from aiflow_sdk.difference.nodes import NODE_EFFECTS
from aiflow_sdk.difference.pipelines import PIPELINE_EFFECTS
from aiflow_sdk.frames.query import replace_names
from aiflow_sdk.ir import NodeIR, PipelineIR, dataset, thaw
from aiflow_sdk.plan import Plan, meaning_of, read_plan
from aiflow_sdk.plan.making import Making, why_run
from aiflow_sdk.plugins import installed_registry

ORDERS: dict[str, Any] = {"id": "orders", "type": "source", "params": {"kind": "onelake", "table": "raw.orders"}}
USERS: dict[str, Any] = {
    "id": "users",
    "type": "source",
    "params": {"kind": "files", "path": "data/users.csv", "format": "csv"},
}
CLEAN: dict[str, Any] = {
    "id": "clean",
    "type": "transform",
    "engine": "python",
    "entrypoint": "etl:main",
    "input_ids": ("orders",),
}
SUMS: dict[str, Any] = {
    "id": "sums",
    "type": "transform",
    "engine": "python",
    "sql": "select user_id, sum(amount) as amount from {clean} join {users} using (user_id) group by 1",
    "input_ids": ("clean", "users"),
}
OUT: dict[str, Any] = {
    "id": "out",
    "type": "sink",
    "params": {"kind": "onelake", "table": "mart.sums"},
    "input_ids": ("sums",),
}
NODES = (ORDERS, USERS, CLEAN, SUMS, OUT)


def a_pipeline(*nodes: dict[str, Any], **fields: Any) -> PipelineIR:
    made = [NodeIR.make(**node) for node in nodes or NODES]
    return PipelineIR.make(**{"id": "p", "schedule": "@daily", "owner": "ana", **fields, "nodes": tuple(made)})


def edited(node_id: str, **fields: Any) -> PipelineIR:
    return a_pipeline(*({**node, **fields} if node["id"] == node_id else node for node in NODES))


def told(before: PipelineIR, after: PipelineIR, plans: tuple[Plan, Plan] | None = None) -> list[tuple]:
    return [(one.kind, one.node, ".".join(one.path), one.effect) for one in compare_pipelines(before, after, plans)]


def applied(before: PipelineIR, differences: tuple[Difference, ...]) -> PipelineIR:
    """Return what the older version becomes when every difference is done to it: none may be missing."""
    fields = dict(before)
    renamed = {str(one.before): str(one.node) for one in differences if one.kind == "node-renamed"}
    nodes: dict[str, dict[str, Any]] = {}
    for node in before.node_list:
        content = {**dict(node), "id": renamed.get(node.id, node.id)}
        content["input_ids"] = tuple(renamed.get(one, one) for one in node.input_ids)
        if node.sql:
            content["sql"] = replace_names(node.sql, lambda name: f"{{{renamed.get(name, name)}}}")
        nodes[content["id"]] = content
    for one in differences:
        match one.kind:
            case "node-removed":
                del nodes[str(one.node)]
            case "node-added" | "node-renamed":
                continue
            case _ if one.node is not None:
                path = ("params", *one.path[1:]) if one.path[0] == "options" else one.path
                put(nodes[one.node], ("params", "kind") if path == ("kind",) else path, one.after)
            case _:
                put(fields, one.path, one.after)
    for one in differences:
        if one.kind == "node-added":
            nodes[one.node] = thaw(one.after)
    fields.pop("node_list")
    return PipelineIR.make(**fields, nodes=tuple(NodeIR.make(**node) for node in nodes.values()))


def put(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *way, last = path
    for key in way:
        target[key] = dict(target[key])
        target = target[key]
    if value is ABSENT:
        del target[last]
    else:
        target[last] = thaw(value)


NAMES = ["n1", "n2", "n3", "n4", "n5"]
scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.5, -0.0]) | st.text(max_size=3)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "$window"]), inner),
    max_leaves=5,
)
maps = st.dictionaries(st.sampled_from(["a", "b", "c", "kind"]), plain, max_size=3)


@st.composite
def pipelines(draw: Any) -> PipelineIR:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    nodes: list[dict[str, Any]] = []
    for name in names:
        readable = [node["id"] for node in nodes if node["type"] != "sink"]
        kind = draw(st.sampled_from(["source", "transform", "sink"])) if readable else "source"
        node: dict[str, Any] = {"id": name, "type": kind, "bounded": draw(st.booleans())}
        node |= {"retries": draw(st.none() | st.integers(0, 1)), "timeout_minutes": draw(st.none() | st.just(1.0))}
        if kind == "transform":
            node["engine"] = draw(st.sampled_from(["python", "spark"]))
            node["input_ids"] = tuple(draw(st.lists(st.sampled_from(readable), min_size=1, max_size=2)))
            node["resources"] = draw(st.dictionaries(st.sampled_from(["cluster", "memory"]), scalars, max_size=2))
            node["output_schema"] = draw(st.none() | st.dictionaries(st.sampled_from("xy"), st.sampled_from("ab")))
            node["params"] = draw(maps)
            if draw(st.booleans()):
                node["sql"] = draw(st.sampled_from(["select 1", f"select * from {{{node['input_ids'][0]}}}"]))
            else:
                node["entrypoint"] = draw(st.sampled_from(["etl:main", "etl:other"]))
        else:
            node["params"] = {**draw(maps), "kind": draw(st.sampled_from(["files", "onelake"]))}
            if kind == "sink":
                node["input_ids"] = (draw(st.sampled_from(readable)),)
        nodes.append(node)
    return a_pipeline(
        *nodes,
        schedule=draw(st.sampled_from(["@daily", None, dataset("a.b"), dataset("a.b") & dataset("c.d")])),
        owner=draw(st.sampled_from(["", "ana"])),
        sla_minutes=draw(st.none() | st.sampled_from([1.0, 60.0])),
        tags=tuple(draw(st.lists(st.sampled_from("ab")))),
        extra=draw(maps),
        params=draw(maps),
        timezone=draw(st.sampled_from(["UTC", "Asia/Shanghai"])),
        partition=draw(st.sampled_from([None, "day"])),
        concurrency=draw(st.none() | st.integers(1, 2)),
    )


@given(pipelines())
def test_a_version_differs_from_itself_in_nothing(ir):
    assert compare_pipelines(ir, ir) == ()


@settings(max_examples=30)
@given(pipelines(), pipelines())
def test_nothing_differs_exactly_where_the_fingerprints_are_one(one, other):
    assert (compare_pipelines(one, other) == ()) == (one.fingerprint == other.fingerprint)


@settings(max_examples=30)
@given(pipelines(), pipelines())
def test_the_differences_done_to_the_older_version_make_the_newer_one(one, other):
    made = applied(one, compare_pipelines(one, other))
    assert made.fingerprint == other.fingerprint


@settings(max_examples=30)
@given(pipelines(), pipelines())
def test_the_other_way_round_everything_is_undone(one, other):
    mirror = {"node-added": "node-removed", "node-removed": "node-added"}
    there, back = compare_pipelines(one, other), compare_pipelines(other, one)
    names = {str(one.node): str(one.before) for one in there if one.kind == "node-renamed"}
    assert sorted(
        (
            mirror.get(d.kind, d.kind),
            names.get(str(d.node), str(d.node)),
            d.path,
            d.effect,
            repr(d.after),
            repr(d.before),
        )
        for d in there
    ) == sorted((d.kind, str(d.node), d.path, d.effect, repr(d.before), repr(d.after)) for d in back)


@settings(max_examples=30)
@given(pipelines(), pipelines())
def test_a_difference_is_frozen_says_a_sentence_and_survives_json(one, other):
    for difference in compare_pipelines(one, other):
        assert Difference.from_dict(json.loads(json.dumps(difference.to_dict()))) == difference
        assert difference.text
        assert difference.text.isprintable()
        hash(difference)
        with pytest.raises(FrozenInstanceError):
            difference.node = "x"


EDITS: list[tuple[PipelineIR, list[tuple[Any, ...]]]] = [
    (
        edited("orders", params={**ORDERS["params"], "table": "raw.o2"}),
        [("node-changed", "orders", "options.table", "data")],
    ),
    (
        edited("orders", params={**ORDERS["params"], "wait_minutes": 5}),
        [("node-changed", "orders", "options.wait_minutes", "operation")],
    ),
    (
        edited("users", params={**USERS["params"], "columns": ["a"]}),
        [("schema-changed", "users", "options.columns", "data")],
    ),
    (edited("clean", entrypoint="etl:other"), [("node-changed", "clean", "entrypoint", "data")]),
    (edited("clean", engine="spark"), [("node-moved", "clean", "engine", "data")]),
    (edited("clean", resources={"cluster": "emr"}), [("node-moved", "clean", "resources.cluster", "operation")]),
    (
        edited("clean", retries=3, fuse=False),
        [("node-changed", "clean", "retries", "operation"), ("node-changed", "clean", "fuse", "operation")],
    ),
    (edited("clean", params={"threshold": 0.5}), [("node-changed", "clean", "params.threshold", "data")]),
    (edited("clean", output_schema={"user_id": "int64"}), [("schema-changed", "clean", "output_schema", "data")]),
    (edited("sums", sql="select 1 as n from {clean}, {users}"), [("node-changed", "sums", "sql", "data")]),
    (edited("clean", input_ids=("users",)), [("node-rewired", "clean", "input_ids", "data")]),
    (a_pipeline(owner="bo"), [("pipeline-changed", None, "owner", "description")]),
    (
        a_pipeline(schedule="@hourly", partition="hour"),
        [("pipeline-changed", None, "schedule", "operation"), ("pipeline-changed", None, "partition", "data")],
    ),
    (
        a_pipeline(extra={"team": "x", "project": "y"}),
        [("pipeline-changed", None, "extra.project", "data"), ("pipeline-changed", None, "extra.team", "description")],
    ),
    (a_pipeline(params={"n": 1}), [("pipeline-changed", None, "params.n", "data")]),
    (
        a_pipeline(tags=("a",), description="d"),
        [("pipeline-changed", None, "tags", "description"), ("pipeline-changed", None, "description", "description")],
    ),
]


@pytest.mark.parametrize(("after", "expected"), EDITS)
def test_an_edit_is_found_as_what_it_is(after, expected):
    assert told(a_pipeline(), after) == expected


MUTATIONS: dict[str, dict[str, Any]] = {
    "retries": {"retries": 7},
    "timeout_minutes": {"timeout_minutes": 7.0},
    "fuse": {"fuse": False},
    "external": {"external": True},
    "resources.new": {"resources": {"new": 1}},
    "output_schema": {"output_schema": {"new": "int64"}},
    "params.new": {"params": {"new": [1, {"a": None}]}},
    "engine": {"engine": "flink"},
    "input_ids": {"input_ids": ("n0",)},
}


@settings(max_examples=30)
@given(pipelines(), st.data())
def test_a_random_edit_of_a_random_pipeline_is_found_as_what_it_is(ir, data):
    root = NodeIR.make(id="n0", type="source", params={"kind": "files"})
    step = NodeIR.make(
        id="n9", type="transform", engine="python", entrypoint="m:f", input_ids=(ir.order[0],), output_schema=None
    )
    before = ir.with_nodes([*(node for node in ir.node_list if node.type != "sink"), root, step])
    path = data.draw(st.sampled_from(sorted(MUTATIONS)))
    made = NodeIR.make(**{**dict(step), **MUTATIONS[path]})
    after = before.with_nodes(made if node.id == "n9" else node for node in before.node_list)
    (found,) = compare_pipelines(before, after)
    assert (found.node, ".".join(found.path)) == ("n9", path)
    assert found.effect == NODE_EFFECTS[found.path[0]]
    gone = before.with_nodes(node for node in before.node_list if node.id != "n9")
    assert [(one.kind, one.node) for one in compare_pipelines(before, gone)] == [("node-removed", "n9")]
    assert [(one.kind, one.node) for one in compare_pipelines(gone, before)] == [("node-added", "n9")]
    other = before.with_nodes(
        NodeIR.make(**{**dict(node), "id": "n8"}) if node.id == "n9" else node for node in before.node_list
    )
    assert [(one.kind, one.before, one.after) for one in compare_pipelines(before, other)] == [
        ("node-renamed", "n9", "n8")
    ]


def test_a_node_between_two_others_is_new_and_its_reader_rewired():
    extra = {**CLEAN, "id": "cleaner", "entrypoint": "etl:cleaner", "input_ids": ("clean",)}
    sums = {**SUMS, "input_ids": ("cleaner", "users"), "sql": SUMS["sql"].replace("{clean}", "{cleaner}")}
    after = a_pipeline(ORDERS, USERS, CLEAN, extra, sums, OUT)
    assert told(a_pipeline(), after) == [
        ("node-added", "cleaner", "", "data"),
        ("node-rewired", "sums", "input_ids", "data"),
        ("node-changed", "sums", "sql", "data"),
    ]
    assert told(after, a_pipeline())[0] == ("node-removed", "cleaner", "", "data")


def test_a_renamed_node_is_one_difference_whoever_reads_it():
    clean = {**CLEAN, "id": "tidy"}
    sums = {**SUMS, "input_ids": ("tidy", "users"), "sql": SUMS["sql"].replace("{clean}", "{tidy}")}
    (renamed,) = compare_pipelines(a_pipeline(), a_pipeline(ORDERS, USERS, clean, sums, OUT))
    assert (renamed.kind, renamed.node, renamed.before, renamed.after) == ("node-renamed", "tidy", "clean", "tidy")
    assert renamed.text == "transform 'clean' is now called 'tidy'"


def test_a_chain_of_renamed_nodes_is_followed():
    orders, clean = {**ORDERS, "id": "raw"}, {**CLEAN, "id": "tidy", "input_ids": ("raw",)}
    sums = {**SUMS, "input_ids": ("tidy", "users"), "sql": SUMS["sql"].replace("{clean}", "{tidy}")}
    found = compare_pipelines(a_pipeline(), a_pipeline(orders, USERS, clean, sums, OUT))
    assert [(one.kind, one.before, one.node) for one in found] == [
        ("node-renamed", "orders", "raw"),
        ("node-renamed", "clean", "tidy"),
    ]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            edited("orders", params={**ORDERS["params"], "table": "raw.o2"}),
            "option 'table' of source 'orders': 'raw.orders' → 'raw.o2'",
        ),
        (edited("clean", retries=3), "retries of transform 'clean': none → 3"),
        (edited("clean", input_ids=("orders", "users")), "transform 'clean' reads 'users'"),
        (
            edited("sums", input_ids=("users", "clean")),
            "transform 'sums' reads its inputs in another order: users, clean",
        ),
        (edited("sums", sql=SUMS["sql"] + "\nlimit 3"), "query of transform 'sums': 0 lines out, 1 line in"),
        (a_pipeline(schedule=None), "schedule: '@daily' → none"),
        (a_pipeline(timezone="Asia/Shanghai"), "time zone: 'UTC' → 'Asia/Shanghai'"),
    ],
)
def test_a_sentence_says_what_changed(after, said):
    assert [one.text for one in compare_pipelines(a_pipeline(), after)] == [said]


def test_a_secret_stays_a_reference():
    before = edited("users", params={**USERS["params"], "password": "secret://old"})
    after = edited("users", params={**USERS["params"], "password": "secret://new"})
    (found,) = compare_pipelines(before, after)
    assert (found.before, found.after) == ("secret://old", "secret://new")


def test_every_field_is_compared_and_says_what_hangs_on_it():
    assert {*NODE_EFFECTS, "id", "type"} == set(NodeIR.LIMITS)
    assert {*PIPELINE_EFFECTS, "node_list"} == set(PipelineIR.LIMITS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "etl.py").write_text("def main(orders): return orders\n\n\ndef other(orders): return orders\n")
    (folder / "aiflow.toml").write_text(
        '[environments.dev]\nlake = "lake"\n[environments.prod]\nlake = "elsewhere"\n[environments.prod.clusters.emr]\n'
        'kind = "local"\n'
    )
    return folder


def compiled(ir: PipelineIR, root: Path, environment: str = "dev") -> Plan:
    project = load_project(root)
    return compile_pipeline(
        ir, project=project, environment=project.environment(environment), registry=installed_registry()
    )


def is_made_again(before: Plan, after: Plan) -> bool:
    """Say what the SDK's own rule says of a partition that the older version made."""

    def making(plan: Plan) -> Making:
        code = {node.id: node.code for node in plan.node_list if node.code}
        return Making(plan.definition, meaning=meaning_of(plan), lock=plan.lock, code=code, params=dict(plan.params))

    return why_run(making(before), making(after)) is not None


COMPILED = [
    (after, expected)
    for after, expected in EDITS
    # Another project has another ledger, and what is left out here is no option of that source, or no cluster.
    if not any(path in ("options.columns", "resources.cluster", "extra.project") for _, _, path, _ in expected)
]


@pytest.mark.parametrize(("after", "expected"), COMPILED)
def test_rows_can_change_exactly_where_the_rule_of_skipping_says_so(root, after, expected):
    before = a_pipeline()
    plans = compiled(before, root), compiled(after, root)
    found = compare_pipelines(before, after, plans)
    assert (effect_of(found) == "data") == is_made_again(*plans)
    assert [one for one in told(before, after, plans) if one in expected] == expected


def test_a_default_that_is_spelled_out_changes_no_rows(root):
    before, after = a_pipeline(), edited("out", params={**OUT["params"], "mode": "overwrite"})
    plans = compiled(before, root), compiled(after, root)
    assert told(before, after) == [("node-changed", "out", "options.mode", "data")]
    assert told(before, after, plans) == [("node-changed", "out", "options.mode", "description")]
    assert not is_made_again(*plans)


def test_code_that_changed_behind_the_same_entrypoint_is_found(root):
    ir = a_pipeline()
    before = compiled(ir, root)
    (root / "etl.py").write_text("def main(orders): return orders.head(1)\n\n\ndef other(orders): return orders\n")
    after = compiled(ir, root)
    assert told(ir, ir, (before, after)) == [("code-changed", "clean", "code", "data")]
    assert is_made_again(before, after)
    other = edited("clean", entrypoint="etl:other")
    assert told(ir, other, (before, compiled(other, root))) == [("node-changed", "clean", "entrypoint", "data")]


def test_plans_tell_of_packages_environments_and_tasks(root):
    ir = a_pipeline()
    one, prod = compiled(ir, root), compiled(ir, root, "prod")
    packages = read_plan(json.dumps({**json.loads(one.to_json()), "lock": "v1:other"}))
    assert told(ir, ir, (one, packages)) == [("packages-changed", None, "lock", "data")]
    moved = told(ir, ir, (one, prod))
    assert ("environment-changed", None, "environment.lake", "data") in moved
    assert {kind for kind, *_ in moved} == {"environment-changed"}
    alone = edited("clean", fuse=False)
    assert told(ir, alone, (one, compiled(alone, root))) == [
        ("node-changed", "clean", "fuse", "operation"),
        ("tasks-changed", None, "tasks", "operation"),
    ]


def test_an_option_called_like_a_field_of_a_node_is_part_of_what_rows_depend_on(root):
    plan = compiled(a_pipeline(), root)
    document = json.loads(plan.to_json())
    document["nodes"][0]["options"] = {**document["nodes"][0]["options"], "dataset": "a"}
    assert meaning_of(read_plan(json.dumps(document))) != meaning_of(plan)


def test_the_gravest_effect_counts():
    found = compare_pipelines(a_pipeline(), a_pipeline(owner="bo"))
    assert effect_of(()) is None
    assert effect_of(found) == "description"
    assert effect_of([*found, replace(found[0], effect="operation")]) == "operation"
