"""The compiler: every problem at once, nodes into tasks, and a plan that holds every value."""

import json
import sys
import time

import jsonschema
import pytest

from aiflow_sdk.code import enter_project
from aiflow_sdk.compiler import compile_pipeline, compile_pipeline_to_airflow_dag
from aiflow_sdk.config import load_project
from aiflow_sdk.errors import DocumentError, MissingExtraError, ProblemsError
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.plan import plan_schema, read_plan
from aiflow_sdk.plugins import installed_registry

REGISTRY = installed_registry()


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """Modules of one test's project are none of the next one's."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in {"ours", "flowing"} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "etl.py").write_text(
        "def one(a): return a\n"
        "def two(inputs): return inputs\n"
        "def wrong(inputs, nobody_has_this): return inputs\n"
        "def spark_main(spark, inputs, params): return inputs\n"
    )
    return load_project(tmp_path)


def src(node_id, **options):
    return NodeIR.make(id=node_id, type="source", params={"kind": "onelake", "table": f"raw.{node_id}", **options})


def fn(node_id, *inputs, entrypoint="etl:one", engine="python", **fields):
    return NodeIR.make(id=node_id, type="transform", engine=engine, entrypoint=entrypoint, input_ids=inputs, **fields)


def out(node_id, input_id, **options):
    options = {"kind": "onelake", "table": f"mart.{node_id}", **options}
    return NodeIR.make(id=node_id, type="sink", params=options, input_ids=(input_id,))


def plan_of(project, *nodes, environment=None, registry=REGISTRY, **fields):
    enter_project(project.root)
    ir = PipelineIR.make(**{"id": "p", "schedule": "0 3 * * *", "partition": "day", "nodes": nodes, **fields})
    return compile_pipeline(ir, project=project, environment=project.environment(environment), registry=registry)


def codes(project, *nodes, **fields):
    with pytest.raises(ProblemsError) as caught:
        plan_of(project, *nodes, **fields)
    return [problem.code for problem in caught.value.problems]


def groups(plan):
    return [task.node_ids for task in plan.tasks]


def test_neighbours_on_one_engine_are_one_task(project):
    plan = plan_of(project, src("a"), fn("b", "a"), fn("c", "b"), out("d", "c"))
    assert groups(plan) == [("a", "b", "c", "d")]
    assert plan.tasks[0].id == "c"
    assert plan.tasks[0].stages == ()


def test_another_engine_begins_another_task_and_the_frame_between_is_staged(project):
    plan = plan_of(
        project, src("a"), fn("b", "a", engine="spark", entrypoint="etl:spark_main"), fn("c", "b"), out("d", "c")
    )
    first, second = plan.tasks
    assert (first.id, first.engine, first.stages) == ("b", "spark", ("b",))
    assert (second.id, second.engine, second.staged_inputs, second.upstream) == ("c", "python", ("b",), ("b",))


@pytest.mark.parametrize(
    "fields",
    [
        {"fuse": False},
        {"retries": 2},
        {"retry_backoff": 2},
        {"timeout_minutes": 5.0},
        {"resources": {"engine": "python", "request_cpu": "2"}},
    ],
)
def test_what_ends_a_fusion(project, fields):
    plan = plan_of(project, src("a"), fn("b", "a"), fn("c", "b", **fields), fn("d", "c"), out("e", "d"))
    assert groups(plan) == [("a", "b"), ("c",), ("d", "e")]


def test_a_node_that_two_transforms_read_ends_a_fusion(project):
    plan = plan_of(project, src("a"), fn("b", "a"), fn("c", "b"), fn("d", "b"), out("x", "c"), out("y", "d"))
    assert groups(plan) == [("a", "b"), ("c", "x"), ("d", "y")]
    assert plan.task("b").stages == ("b",)


def test_a_join_fuses_with_its_inputs(project):
    plan = plan_of(
        project, src("a"), src("b"), fn("c", "a"), fn("d", "b"), fn("e", "c", "d", entrypoint="etl:two"), out("f", "e")
    )
    assert len(plan.tasks) == 1


def test_a_fusion_never_makes_two_tasks_wait_for_each_other(project):
    # one → (spark) two → three, and one → three: fusing one with three would need two to be both before and after.
    plan = plan_of(
        project,
        src("a"),
        fn("one", "a"),
        fn("two", "one", engine="spark", entrypoint="etl:spark_main"),
        fn("three", "one", "two", entrypoint="etl:two"),
        out("z", "three"),
    )
    assert [task.id for task in plan.tasks] == ["one", "two", "three"]


def test_a_bare_copy_is_a_task_of_its_own(project):
    plan = plan_of(project, src("a"), out("b", "a"))
    assert groups(plan) == [("a", "b")]
    assert plan.tasks[0].id == "b"


def test_a_source_stands_in_every_task_that_reads_it(project):
    plan = plan_of(project, src("a"), fn("b", "a", fuse=False), fn("c", "a", fuse=False), out("x", "b"), out("y", "c"))
    assert groups(plan) == [("a", "b", "x"), ("a", "c", "y")]


def test_every_value_is_spelled_out(project):
    plan = plan_of(project, src("a"), fn("b", "a"), out("c", "b"))
    assert plan.nodes["c"].options["mode"] == "overwrite"
    assert plan.nodes["a"].options["restated"] == "stale"
    assert (plan.tasks[0].retry_delay_seconds, plan.tasks[0].retry_backoff) == (300, 1)
    jsonschema.validate(json.loads(plan.to_json()), plan_schema())
    assert read_plan(plan.to_json()) == plan


def test_the_column_that_the_source_fixes_is_filled_and_holds_the_time(project):
    plan = plan_of(
        project, src("a", partitions={"dt": "{{ ds }}"}), fn("b", "a"), out("c", "b", partition_by=["dt", "region"])
    )
    assert plan.nodes["c"].fill == {"dt": "{{ ds }}"}
    assert plan.nodes["c"].time == "dt"


def test_a_column_that_one_source_does_not_fix_is_not_filled(project):
    plan = plan_of(
        project,
        src("a", partitions={"dt": "{{ ds }}"}),
        src("b"),
        fn("c", "a", "b", entrypoint="etl:two"),
        out("d", "c", partition_by=["dt"]),
    )
    assert plan.nodes["d"].fill == {}
    assert plan.nodes["d"].time == "dt"


def test_two_possible_time_columns_are_a_question(project):
    assert codes(project, src("a"), fn("b", "a"), out("c", "b", partition_by=["x", "y"])) == ["no-time-column"]
    plan = plan_of(project, src("a"), fn("b", "a"), out("c", "b", partition_by=["x", "y"], time="y"))
    assert plan.nodes["c"].time == "y"
    assert codes(project, src("a"), fn("b", "a"), out("c", "b", partition_by=["x"], time="z")) == ["no-time-column"]


def test_what_follows_an_unbounded_source_has_no_end(project):
    endless = NodeIR.make(id="a", type="source", params={"kind": "onelake", "table": "raw.a"}, bounded=False)
    (project.root / "flowing.py").write_text(
        "from contextlib import contextmanager\nfrom aiflow_sdk.plugins import Engine\n"
        "class Flowing(Engine):\n    continuous = True\n"
        "    @contextmanager\n    def open(self, task, run):\n        yield None\n"
    )
    registry = installed_registry()
    registry.engines.add("flowing", "flowing:Flowing", "this project")
    nodes = (endless, src("s"), fn("b", "a", engine="flowing"), out("c", "b"), fn("t", "s"), out("u", "t"))
    plan = plan_of(project, *nodes, registry=registry)
    assert {task.id: task.bounded for task in plan.tasks} == {"b": False, "t": True}
    assert not plan.nodes["c"].bounded


def test_every_problem_is_reported_at_once(project):
    nodes = [
        NodeIR.make(id="a", type="source", params={"kind": "onelak", "table": "raw.a"}),
        fn("b", "a", engine="sprk"),
        fn("c", "b", entrypoint="etl:on"),
        fn("d", "c", entrypoint="elt:one"),
        fn("e", "d", entrypoint="etl:wrong"),
        out("f", "e", mod="overwrite"),
        out("g", "e", mode="upsert"),
    ]
    assert codes(project, *nodes) == [
        "unknown-source",
        "unknown-engine",
        "unknown-function",
        "unknown-function",
        "wrong-signature",
        "unknown-option",
        "missing-option",
    ]


def test_a_near_miss_is_suggested(project):
    with pytest.raises(ProblemsError, match="did you mean 'onelake'"):
        plan_of(project, NodeIR.make(id="a", type="source", params={"kind": "onelak"}), out("b", "a"))


def test_a_template_without_a_time_partition_is_refused(project):
    nodes = (src("a", partitions={"dt": "{{ ds }}"}), fn("b", "a"), out("c", "b"))
    assert codes(project, *nodes, schedule=None, partition=None) == ["no-time-partition"]


def test_an_unknown_param_is_refused(project):
    assert codes(
        project, src("a"), fn("b", "a", params={"x": "{{ params.regin }}"}), out("c", "b"), params={"region": "us"}
    ) == ["unknown-param"]


def test_clusters_are_local_in_development_and_known_elsewhere(tmp_path):
    (tmp_path / "etl.py").write_text("def main(spark, inputs, params): return inputs\n")
    (tmp_path / "aiflow.toml").write_text(
        '[environments.prod]\nlake = "lake"\n[environments.prod.clusters.emr-big]\nkind = "local"\n'
    )
    project = load_project(tmp_path)

    def spark(cluster):
        resources = {"engine": "spark", "cluster": cluster}
        return src("a"), fn("b", "a", engine="spark", entrypoint="etl:main", resources=resources), out("c", "b")

    assert plan_of(project, *spark("emr-bog")).tasks[0].cluster == "local"
    assert plan_of(project, *spark("emr-big"), environment="prod").tasks[0].cluster == "emr-big"
    assert codes(project, *spark("emr-bog"), environment="prod") == ["unknown-cluster"]


def test_resources_of_another_engine_are_refused(project):
    assert codes(project, src("a"), fn("b", "a", resources={"engine": "spark", "cluster": "x"}), out("c", "b")) == [
        "wrong-resources"
    ]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("select * from {nowhere}", "unknown-input"),
        ("selec * from {a}", "bad-sql"),
        ("select * from {a}; drop table x", "bad-sql"),
        ("delete from {a}", "bad-sql"),
    ],
)
def test_sql_is_checked_by_parsing(project, sql, code):
    node = NodeIR.make(id="b", type="transform", engine="python", sql=sql, input_ids=("a",))
    assert codes(project, src("a"), node, out("c", "b")) == [code]


def test_editing_one_function_file_changes_that_node_and_the_version(tmp_path):
    (tmp_path / "one.py").write_text("def main(a): return a\n")
    (tmp_path / "two.py").write_text("def main(b): return b\n")
    nodes = (src("a"), fn("b", "a", entrypoint="one:main"), fn("c", "b", entrypoint="two:main"), out("d", "c"))
    before = plan_of(load_project(tmp_path), *nodes)
    (tmp_path / "two.py").write_text("def main(b): return b.head()\n")
    after = plan_of(load_project(tmp_path), *nodes)
    assert before.nodes["b"].code == after.nodes["b"].code
    assert before.nodes["c"].code != after.nodes["c"].code
    assert before.definition == after.definition
    assert before.version != after.version


def test_a_plan_of_a_newer_aiflow_is_refused(project):
    document = json.loads(plan_of(project, src("a"), out("b", "a")).to_json())
    with pytest.raises(DocumentError) as caught:
        read_plan({**document, "plan_version": 2})
    assert caught.value.code == "newer-document"


def test_without_the_airflow_package_the_way_there_is_named(project):
    with pytest.raises(MissingExtraError, match="aiflow-airflow"):
        compile_pipeline_to_airflow_dag(PipelineIR.make(id="p"))


OWN = """
from aiflow_sdk.plugins import DatasetName, Sink, Source, Written

class Feed(Source):
    version: int = 0
    def dataset(self): return DatasetName("feed", "x")
    def scan(self, request): yield from ()

class Endless(Feed):
    bounded = False

class Broken(Feed):
    def dataset(self):
        return {}["gone"]

class Keeper(Sink):
    partition_by: tuple[str, ...] = ()
    def dataset(self): return DatasetName("feed", "y")
    def write(self, batches, request): return Written()
    def partition_columns(self): return self.partition_by

class Adder(Keeper):
    def replaces(self): return "nothing"
"""


def with_own(project, text=OWN):
    """Return a registry that knows the project's own plugins, as discovery would have found them."""
    (project.root / "ours.py").write_text(text)
    sys.modules.pop("ours", None)
    registry = installed_registry()
    for kind in ("feed", "endless", "broken"):
        registry.sources.add(kind, f"ours:{kind.title()}", "this project")
    for kind in ("keeper", "adder"):
        registry.sinks.add(kind, f"ours:{kind.title()}", "this project")
    return registry


def own(node_id, kind, *inputs, **options):
    node_type = "sink" if inputs else "source"
    return NodeIR.make(id=node_id, type=node_type, params={"kind": kind, **options}, input_ids=inputs)


def test_editing_a_plugin_of_the_project_makes_a_new_version(project):
    nodes = (own("a", "feed"), fn("b", "a"), out("c", "b"))
    before = plan_of(project, *nodes, registry=with_own(project))
    after = plan_of(project, *nodes, registry=with_own(project, OWN + "# scan reads more\n"))
    assert before.nodes["a"].code != after.nodes["a"].code
    assert before.nodes["c"].code is None
    assert before.version != after.version
    assert before.definition == after.definition


def test_editing_an_engine_of_the_project_makes_a_new_version(project):
    text = (
        "from contextlib import contextmanager\nfrom aiflow_sdk.plugins import Engine\nclass Flowing(Engine):\n"
        "    @contextmanager\n    def open(self, task, run):\n        yield None\n"
    )
    versions = set()
    for version in (text, text + "# differs\n"):
        (project.root / "flowing.py").write_text(version)
        registry = installed_registry()
        registry.engines.add("flowing", "flowing:Flowing", "this project")
        plan = plan_of(project, src("a"), fn("b", "a", engine="flowing"), out("c", "b"), registry=registry)
        versions |= {plan.version, plan.tasks[0].code}
    assert len(versions) == 4


def test_an_unbounded_source_on_an_engine_that_runs_only_what_ends_is_a_problem(project):
    registry = with_own(project)
    assert codes(project, own("a", "endless"), fn("b", "a"), fn("c", "b"), out("d", "c"), registry=registry) == [
        "no-continuous-tasks"
    ]
    assert codes(project, own("a", "endless"), out("d", "a"), registry=registry) == ["no-continuous-tasks"]


def configured(tmp_path, text):
    (tmp_path / "aiflow.toml").write_text(text)
    (tmp_path / "etl.py").write_text("def one(a): return a\n")
    return load_project(tmp_path)


def test_a_plan_carries_the_metadata_service_as_a_listener_with_its_secret_unresolved(tmp_path):
    address = "[environments.dev]\nservice = 'https://x/y'\n"
    project = configured(tmp_path, address + "service_token = 'secret://service'\n")
    (listener,) = plan_of(project, src("a"), out("b", "a")).environment.listeners
    assert (listener.name, listener.kind) == ("service", "openlineage")
    assert dict(listener.options) == {"url": "https://x/y", "api_key": "secret://service"}
    without = plan_of(configured(tmp_path, address), src("a"), out("b", "a"))
    assert dict(without.environment.listeners[0].options) == {"url": "https://x/y"}
    assert plan_of(configured(tmp_path, ""), src("a"), out("b", "a")).environment.listeners == ()
    assert without.version == plan_of(configured(tmp_path, ""), src("a"), out("b", "a")).version


def test_clusters_that_tasks_name_and_listeners_are_checked_against_their_plugins(tmp_path):
    project = configured(
        tmp_path,
        "[environments.dev.clusters.big]\nkind = 'locl'\n"
        "[environments.dev.clusters.odd]\nkind = 'local'\nnonsense = 1\n"
        "[environments.dev.clusters.idle]\nkind = 'nobody'\n[environments.dev.listeners.ear]\nkind = 'nobody'\n",
    )
    nodes = [src("a")]
    for name in ("big", "odd"):
        nodes += [fn(f"b_{name}", "a", resources={"cluster": name}), fn(f"c_{name}", "a", resources={"cluster": name})]
        nodes += [out(f"x_{name}", f"b_{name}"), out(f"y_{name}", f"c_{name}")]
    assert codes(project, *nodes) == ["unknown-cluster", "unknown-option", "unknown-listener"]


def test_a_plan_holds_the_clusters_that_its_tasks_name_alone(tmp_path):
    project = configured(
        tmp_path,
        "[environments.dev.clusters.big]\nkind = 'local'\n[environments.dev.clusters.idle]\nkind = 'local'\n",
    )
    plan = plan_of(project, src("a"), fn("b", "a", resources={"cluster": "big"}), out("c", "b"))
    assert dict(plan.environment.clusters) == {"big": {"kind": "local"}}


def test_a_template_where_a_number_is_wanted_compiles_and_its_dataset_is_told_by_the_run(project):
    plan = plan_of(
        project,
        src("a", version="{{ params.v }}"),
        fn("b", "a"),
        out("c", "b", partition_by=["dt"], table="mart.{{ params.v }}"),
        params={"v": 3},
    )
    assert plan.nodes["a"].dataset is None
    assert plan.nodes["c"].dataset is None
    assert plan.nodes["c"].time == "dt"


def files(node_id, path, *inputs, **options):
    params = {"kind": "files", "path": path, "format": "csv", **options}
    return NodeIR.make(id=node_id, type="sink" if inputs else "source", params=params, input_ids=inputs)


def test_files_that_follow_the_runs_time_are_one_dataset_that_the_plan_knows(project):
    plan = plan_of(
        project,
        files("a", "data/orders/dt={{ ds }}"),
        files("b", "data/{{ params.region }}/dt={{ ds }}"),
        NodeIR.make(id="c", type="transform", engine="python", entrypoint="etl:two", input_ids=("a", "b")),
        files("d", "exports/day/{{ ds }}", "c"),
        files("e", "exports/day-{{ ds }}.csv", "c"),
        params={"region": "eu"},
    )
    assert {node.id: node.dataset for node in plan.node_list} == {
        "a": ("file", "data/orders"),
        "b": None,
        "c": None,
        "d": ("onelake", "exports.day"),
        "e": ("onelake", "exports/day-{{ ds }}.csv"),
    }


def test_two_sinks_of_a_dataset_that_write_other_parts_of_it_are_not_in_each_others_way(project):
    read = files("a", "data/orders/dt={{ ds }}")
    assert plan_of(project, read, files("b", "out/a={{ ds }}", "a"), files("c", "out/b={{ ds }}", "a")).tasks
    same = (files("b", "out/dt={{ ds }}", "a"), files("c", "out/dt={{ run_date }}/", "a"))
    assert codes(project, read, *same) == ["shared-sink"]


def test_the_part_that_a_run_writes_is_not_read_by_it_and_another_is(project):
    written = files("w", "out/dt={{ ds }}", "a")
    nodes = (files("a", "data/orders/dt={{ ds }}"), written, fn("b", "r"), out("z", "b"))
    assert plan_of(project, files("r", "out/dt={{ ds.offset(-1) }}", root="lake"), *nodes).tasks
    assert plan_of(project, files("r", "out", root="lake"), *nodes).tasks
    assert codes(project, files("r", "out/dt={{ ds }}/", root="lake"), *nodes) == ["sink-read-back"]


def test_a_plugin_that_raises_is_told_with_its_file_and_line(project):
    with pytest.raises(ProblemsError) as caught:
        plan_of(project, own("a", "broken"), fn("b", "a"), out("c", "b"), registry=with_own(project))
    (problem,) = caught.value.problems
    assert problem.code == "broken-plugin"
    assert (problem.where.path, OWN.splitlines()[problem.where.line - 1].strip()) == ("ours.py", 'return {}["gone"]')


def test_a_strangers_sink_that_adds_needs_no_time_column(project):
    registry = with_own(project)
    columns = ["region", "kind_of_thing"]
    plan = plan_of(project, src("a"), fn("b", "a"), own("c", "adder", "b", partition_by=columns), registry=registry)
    assert plan.nodes["c"].time is None
    assert codes(project, src("a"), fn("b", "a"), own("c", "keeper", "b", partition_by=columns), registry=registry) == [
        "no-time-column"
    ]


def test_a_chain_four_times_as_long_takes_about_four_times_as_long(project):
    def seconds(length: int) -> float:
        nodes = [src("n0"), *(fn(f"n{i}", f"n{i - 1}", entrypoint="etl:two") for i in range(1, length))]
        began = time.process_time()
        plan = plan_of(project, *nodes, out("z", f"n{length - 1}"))
        assert len(plan.tasks) == 1
        return time.process_time() - began

    plan_of(project, src("a"), out("b", "a"))
    assert min(seconds(800) for _ in range(3)) < 10 * min(seconds(200) for _ in range(3))  # squared it were 16


def test_a_source_that_waits_is_a_task_of_its_own_before_its_readers(project):
    nodes = (src("a", wait_minutes=30, partitions={"dt": "{{ ds }}"}), fn("b", "a"), fn("c", "a"), out("d", "a"))
    plan = plan_of(project, *nodes, out("x", "b"), out("y", "c"))
    wait = plan.task("a")
    assert (wait.node_ids, wait.waits, wait.upstream, wait.stages) == (("a",), True, (), ())
    assert {task.id: task.upstream for task in plan.tasks if not task.waits} == {"b": ("a",), "c": ("a",), "d": ("a",)}
    assert plan.tasks[0] == wait
    assert plan.task_of("a").id == "b"


def test_what_a_sink_writes_is_not_read_in_the_same_run_however_it_is_called(project):
    read = NodeIR.make(id="r", type="source", params={"kind": "onelake", "path": "raw/o"})
    assert codes(project, src("a"), out("w", "a", table="raw.o"), read, fn("b", "r"), out("z", "b")) == [
        "sink-read-back"
    ]
    earlier = NodeIR.make(
        id="r",
        type="source",
        params={"kind": "onelake", "path": "raw/o", "partitions": {"dt": {"$window": "offset", "n": -1}}},
    )
    assert plan_of(project, src("a"), out("w", "a", table="raw.o"), earlier, fn("b", "r"), out("z", "b")).tasks


def test_a_template_is_no_part_of_a_name_in_sql(project):
    node = NodeIR.make(
        id="b", type="transform", engine="python", sql="select * from {a} where x_{{ ds }} = 1", input_ids=("a",)
    )
    assert codes(project, src("a"), node, out("c", "b")) == ["bad-sql"]
