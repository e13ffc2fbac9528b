"""The runtime: one task of a plan, here or in another process on another machine, with real engines and a real lake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from aiflow_sdk.code import enter_project
from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import Environment, load_project
from aiflow_sdk.errors import (
    AiflowError,
    ConfigurationError,
    DataError,
    DataNotReadyError,
    DefinitionError,
    UserCodeError,
    Where,
)
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.lineage import Lineage
from aiflow_sdk.plan import Run, make_run, read_plan
from aiflow_sdk.plugins import Write, installed_registry
from aiflow_sdk.runtime import (
    StoreStaging,
    bound_environment,
    execute_task,
    sink_identities,
    source_identities,
    sweep_staging,
)

ZONE = "America/New_York"

CODE = """
import polars as pl

def double(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.with_columns(amount=pl.col("amount") * 2).drop("dt")

def keep(double: pl.DataFrame, least: float, context) -> pl.DataFrame:
    kept = double.filter(pl.col("amount") >= least)
    context.count("bad_rows", len(double) - len(kept))
    context.logger.info("kept %d", len(kept))
    return kept

def nothing(double: pl.DataFrame):
    pass

def broken(double: pl.DataFrame):
    return double.select("no_such_column")

def hours(clicks: pl.LazyFrame, ds: str) -> pl.LazyFrame:
    return clicks.group_by("page").agg(pl.len().alias("hours"), pl.lit(ds).first().alias("dt"))
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "etl.py").write_text(CODE)
    orders = pl.DataFrame(
        {"id": [1, 2, 3, 4], "amount": [1.0, 5.0, 7.0, 9.0], "dt": ["2026-11-20"] * 2 + ["2026-11-21"] * 2}
    )
    orders.write_delta(_made(tmp_path / ".aiflow/lake/raw/orders"), delta_write_options={"partition_by": ["dt"]})
    return load_project(tmp_path)


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def pipeline(second="etl:keep", *, fuse=False, **fields):
    return PipelineIR.make(
        **{
            "id": "p",
            "schedule": "0 3 * * *",
            "partition": "day",
            "nodes": (
                NodeIR.make(
                    id="orders",
                    type="source",
                    params={"kind": "onelake", "table": "raw.orders", "partitions": {"dt": "{{ ds }}"}},
                ),
                NodeIR.make(
                    id="double",
                    type="transform",
                    engine="python",
                    entrypoint="etl:double",
                    input_ids=("orders",),
                    fuse=fuse,
                ),
                NodeIR.make(
                    id="second",
                    type="transform",
                    engine="python",
                    entrypoint=second,
                    input_ids=("double",),
                    params={"least": 3.0} if second == "etl:keep" else {},
                ),
                NodeIR.make(
                    id="out",
                    type="sink",
                    params={"kind": "onelake", "table": "mart.out", "partition_by": ["dt"]},
                    input_ids=("second",),
                ),
            ),
            **fields,
        }
    )


def compiled(project, ir):
    return compile_pipeline(ir, project=project, environment=project.environment(), registry=installed_registry())


def run_all(project, plan, run):
    return {task.id: execute_task(plan, task.id, run, root=project.root) for task in plan.tasks}


def table(project, name):
    return pl.read_delta(str(project.root / ".aiflow/lake" / name)).sort("id")


def test_a_day_passes_through_staged_tasks_into_the_lake(project):
    plan = compiled(project, pipeline())
    assert [task.id for task in plan.tasks] == ["double", "second"]
    results = run_all(project, plan, make_run(plan, partition="2026-11-20"))
    assert table(project, "mart/out").to_dicts() == [{"id": 2, "amount": 10.0, "dt": "2026-11-20"}]
    assert results["double"].node("orders").rows == 2
    assert results["second"].node("second").counts == {"bad_rows": 1}
    out = results["second"].node("out")
    assert (out.rows, out.table_version, out.partitions) == (1, 0, ("dt=2026-11-20",))


def test_fused_and_staged_give_the_same_table(project):
    for fuse in (True, False):
        plan = compiled(project, pipeline(fuse=fuse))
        run_all(project, plan, make_run(plan, partition="2026-11-21", generation=1 + fuse))
        rows = table(project, "mart/out").to_dicts()
        assert rows == [{"id": 3, "amount": 14.0, "dt": "2026-11-21"}, {"id": 4, "amount": 18.0, "dt": "2026-11-21"}]
        shutil.rmtree(project.root / ".aiflow/lake/mart")


def test_a_repeated_attempt_changes_nothing_and_an_older_generation_is_superseded(project):
    plan = compiled(project, pipeline(fuse=True))
    run = make_run(plan, partition="2026-11-20", generation=5)
    run_all(project, plan, run)
    run_all(project, plan, run)
    assert len(table(project, "mart/out")) == 1
    before = table(project, "mart/out")
    (old,) = run_all(project, plan, make_run(plan, partition="2026-11-20", generation=4)).values()
    assert old.node("out").superseded
    assert table(project, "mart/out").equals(before)


def test_any_task_runs_alone_in_another_process_and_another_folder(project, tmp_path_factory):
    plan = compiled(project, pipeline())
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(project.root, elsewhere)
    (elsewhere / "plan.json").write_text(plan.to_json())
    shutil.rmtree(project.root)
    flags = ["--run-id", "0193c0de-0000-7000-8000-000000000000", "--date", "2026-11-20", "--generation", "1"]
    for task in plan.tasks:
        command = [sys.executable, "-m", "aiflow_sdk.runtime", "--plan", "plan.json", "--task", task.id, *flags]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["task_id"] == task.id
    assert pl.read_delta(str(elsewhere / ".aiflow/lake/mart/out")).height == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--task", "secnd", "--generation", "1"], 2, "did you mean 'second'"),
        (["--task", "second", "--generation", "1", "--date", "20261120x"], 2, "bad-date"),
        (["--task", "second", "--generation", "1"], 1, "staged-frame-gone"),
    ],
)
def test_wrong_use_of_the_runtime_is_explained(project, arguments, code, text):
    (project.root / "plan.json").write_text(compiled(project, pipeline()).to_json())
    command = [sys.executable, "-m", "aiflow_sdk.runtime", "--plan", "plan.json", *arguments]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_frame_that_is_gone_names_the_task_to_run_again(project):
    plan = compiled(project, pipeline())
    with pytest.raises(DataError, match="double") as caught:
        execute_task(plan, "second", make_run(plan, partition="2026-11-20"), root=project.root)
    assert caught.value.code == "staged-frame-gone"


def test_an_absent_partition_is_no_empty_one(project):
    plan = compiled(project, pipeline(fuse=True))
    with pytest.raises(DataNotReadyError, match="2026-11-25") as caught:
        run_all(project, plan, make_run(plan, partition="2026-11-25"))
    assert caught.value.code == "input-absent"
    assert caught.value.retryable


def _of_literals(project, values, **options):
    """Return the plan of a pipeline that names partitions of orders by itself, and what its run makes."""
    keys = pl.DataFrame({"id": [1, 2], "n": [7, None], "flag": [True, None]})
    where = str(project.root / ".aiflow/lake/raw/literal")
    keys.write_delta(where, mode="overwrite", delta_write_options={"partition_by": ["n", "flag"]})
    params = {"kind": "onelake", "table": "raw.literal", "partitions": values, **options}
    out = {"kind": "onelake", "table": "mart.out"}
    nodes = (
        NodeIR.make(id="literal", type="source", params=params),
        NodeIR.make(id="out", type="sink", params=out, input_ids=("literal",)),
    )
    plan = compiled(project, PipelineIR.make(id="p", nodes=nodes))
    return run_all(project, plan, make_run(plan))


@pytest.mark.parametrize(
    ("values", "code"),
    [({"n": [8, 9]}, "input-absent"), ({"n": 8}, "input-absent"), ({"flag": False}, "input-absent")],
)
def test_values_that_a_pipeline_names_and_of_which_none_is_there_are_no_empty_input(project, values, code):
    with pytest.raises(DataNotReadyError) as caught:
        _of_literals(project, values)
    assert caught.value.code == code
    _of_literals(project, values, complete=0)
    assert table(project, "mart/out").height == 0


def test_of_values_that_a_pipeline_names_any_suffices_unless_it_asks_for_more(project):
    for values, ids in (({"n": [8, 7]}, [1]), ({"flag": True}, [1]), ({"n": None}, [2]), ({"n": [9, None]}, [2])):
        _of_literals(project, values)
        assert table(project, "mart/out")["id"].to_list() == ids
    with pytest.raises(DataNotReadyError) as caught:
        _of_literals(project, {"n": [8, 7]}, complete="all")
    assert caught.value.code == "input-incomplete"


@pytest.mark.parametrize(
    ("function", "code"), [("etl:nothing", "returned-nothing"), ("etl:broken", "user-code-failed")]
)
def test_user_code_that_fails_shows_its_own_lines_first(project, function, code):
    plan = compiled(project, pipeline(function, fuse=True))
    with pytest.raises(UserCodeError) as caught:
        run_all(project, plan, make_run(plan, partition="2026-11-20"))
    assert caught.value.code == code
    if code == "user-code-failed":
        assert "etl.py" in caught.value.notes[0] + caught.value.notes[1]


@pytest.mark.parametrize("engine", ["python", "spark"])
@pytest.mark.parametrize(
    ("query", "columns", "kind", "fuse"),
    [
        ("select cast('x' || id as int) as id, dt from {orders}", ["dt"], "onelake", True),
        ("select cast('x' || id as int) as id, dt from {orders}", ["dt"], "files", True),
        ("select cast('x' || id as int) as id, dt from {orders}", ["dt"], "onelake", False),
        ("select id, dt from {orders}", ["dt", "region"], "onelake", True),
    ],
)
def test_a_first_run_that_fails_leaves_no_folder(project, engine, query, columns, kind, fuse):
    place = {"table": "mart.made"} if kind == "onelake" else {"path": "exports/made"}
    params = {"kind": "onelake", "table": "raw.orders", "partitions": {"dt": "{{ ds }}"}}
    nodes = [
        NodeIR.make(id="orders", type="source", params=params),
        NodeIR.make(id="made", type="transform", engine=engine, sql=query, input_ids=("orders",), fuse=fuse),
        NodeIR.make(
            id="out", type="sink", params={"kind": kind, "partition_by": columns, **place}, input_ids=("made",)
        ),
    ]
    if not fuse:
        again = NodeIR.make(
            id="kept", type="transform", engine=engine, sql="select * from {made}", input_ids=("made",), fuse=False
        )
        nodes[2:] = [again, NodeIR.make(**{**dict(nodes[2]), "input_ids": ("kept",)})]
    plan = compiled(project, PipelineIR.make(id="p", schedule="0 3 * * *", partition="day", nodes=tuple(nodes)))
    lake = project.root / ".aiflow/lake"
    before = sorted(lake.rglob("*"))
    with pytest.raises(AiflowError):
        run_all(project, plan, make_run(plan, partition="2026-11-20"))
    assert [path for path in sorted(lake.rglob("*")) if path.name != "_staging"] == before


def test_a_run_without_rows_empties_its_partition(project):
    ir = pipeline(fuse=True)
    plan = compiled(project, ir)
    run_all(project, plan, make_run(plan, partition="2026-11-20"))
    nodes = [
        node if node.id != "second" else NodeIR.make(**{**dict(node), "params": {"least": 1000.0}})
        for node in ir.node_list
    ]
    stricter = compiled(project, PipelineIR.make(id="p", schedule="0 3 * * *", partition="day", nodes=tuple(nodes)))
    run_all(project, stricter, make_run(stricter, partition="2026-11-20", generation=2))
    assert table(project, "mart/out").height == 0


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-06-01", 24)])
def test_a_day_of_23_24_or_25_hours_reads_just_its_hours(project, day, hours):
    from aiflow_sdk.partitions import Partition, Window

    wanted = Window("covering").partitions(Partition.parse(day, "day", ZONE), "hour", ZONE)
    assert wanted is not None
    around = [wanted[0].previous(), *wanted, wanted[-1].next()]
    pl.DataFrame({"hour": [one.key for one in around], "page": "a"}).write_delta(
        _made(project.root / ".aiflow/lake/web/clicks"), delta_write_options={"partition_by": ["hour"]}
    )
    nodes = (
        NodeIR.make(
            id="clicks",
            type="source",
            params={"kind": "onelake", "table": "web.clicks", "partitions": {"hour": {"$window": "covering"}}},
        ),
        NodeIR.make(
            id="hours",
            type="transform",
            engine="python",
            entrypoint="etl:hours",
            params={"ds": "{{ ds }}"},
            input_ids=("clicks",),
        ),
        NodeIR.make(
            id="out",
            type="sink",
            params={"kind": "onelake", "table": "web.days", "partition_by": ["dt"]},
            input_ids=("hours",),
        ),
    )
    plan = compiled(project, PipelineIR.make(id="p", schedule="0 1 * * *", partition="day", timezone=ZONE, nodes=nodes))
    run_all(project, plan, make_run(plan, partition=day))
    assert pl.read_delta(str(project.root / ".aiflow/lake/web/days"))["hours"].to_list() == [hours]
    late = DeltaTable(str(project.root / ".aiflow/lake/web/clicks"))
    late.delete(f"hour = '{wanted[3].key}'")
    with pytest.raises(DataNotReadyError, match=f"{hours - 1} of the {hours}") as caught:
        run_all(project, plan, make_run(plan, partition=day, generation=2))
    assert caught.value.code == "input-incomplete"


def test_identities_change_with_the_data_and_only_then(project):
    plan = compiled(project, pipeline(fuse=True))
    run = make_run(plan, partition="2026-11-20")
    first = source_identities(plan, run, root=project.root)
    assert sink_identities(plan, run, root=project.root) == {"out": None}
    (result,) = run_all(project, plan, run).values()
    assert source_identities(plan, run, root=project.root) == first == {"orders": result.node("orders").identity}
    assert sink_identities(plan, run, root=project.root) == {"out": result.node("out").identity}
    pl.DataFrame({"id": [9], "amount": [9.0], "dt": ["2026-11-20"]}).write_delta(
        str(project.root / ".aiflow/lake/raw/orders"), mode="append"
    )
    assert source_identities(plan, run, root=project.root) != first
    other = make_run(plan, partition="2026-11-21")
    assert source_identities(plan, other, root=project.root)["orders"] is not None


def test_a_staged_frame_without_rows_keeps_its_columns(project):
    plan = compiled(project, pipeline())
    empty = pl.DataFrame(schema={"id": pl.Int64, "amount": pl.Float64, "dt": pl.String})
    empty.write_delta(str(project.root / ".aiflow/lake/raw/orders"), mode="overwrite")
    nodes = tuple(
        NodeIR.make(**{**dict(node), "params": {**node.params, "complete": 0}}) if node.type == "source" else node
        for node in pipeline().node_list
    )
    plan = compiled(project, PipelineIR.make(id="p", schedule="0 3 * * *", partition="day", nodes=nodes))
    run_all(project, plan, make_run(plan, partition="2026-11-20"))
    assert table(project, "mart/out").schema.names() == ["id", "amount", "dt"]


def test_old_staged_frames_are_swept(project):
    plan = compiled(project, pipeline())
    run = make_run(plan, partition="2026-11-20")
    run_all(project, plan, run)
    folder = project.root / ".aiflow/lake/_staging"
    now = (folder / run.run_id).stat().st_mtime
    (folder / "somebody-elses" / "a").mkdir(parents=True)
    sweep_staging(bound_environment(plan, project.root), now + 6 * 86_400)
    assert (folder / run.run_id).exists()
    sweep_staging(bound_environment(plan, project.root), now + 8 * 86_400)
    assert not (folder / run.run_id).exists()
    assert (folder / "somebody-elses" / "a").exists()


def test_a_retry_replaces_what_the_attempt_before_it_staged(project, tmp_path):
    plan = compiled(project, pipeline())
    run = make_run(plan, partition="2026-11-20")
    staging = StoreStaging(Environment(staging=str(tmp_path / "staged")))
    for attempt in (1, 2):
        execute_task(plan, "double", Run.make(**{**dict(run), "attempt": attempt}), root=project.root, staging=staging)
    files = staging.source(plan, "double", run).parquet_files()
    assert files is not None
    assert all("/000002-" in path for path in files.paths)


def test_an_older_attempt_that_ends_late_replaces_no_newer_ones_frame(project, tmp_path):
    plan = compiled(project, pipeline())
    run = make_run(plan, partition="2026-11-20")
    staging = StoreStaging(Environment(staging=str(tmp_path / "staged")))
    for attempt in (2, 1):
        execute_task(plan, "double", Run.make(**{**dict(run), "attempt": attempt}), root=project.root, staging=staging)
    assert all("/000002-" in path for path in staging.source(plan, "double", run).parquet_files().paths)


@pytest.mark.parametrize("second", ["etl:broken", "etl:nothing"])
def test_an_error_names_the_node_and_where_it_was_written(project, second):
    plan = compiled(project, pipeline(second, fuse=True))
    run, (task,) = make_run(plan, partition="2026-11-20"), plan.tasks
    places = {"second": Where("pipelines/p.py", 3)}
    with pytest.raises(UserCodeError) as caught:
        execute_task(plan, task.id, run, root=project.root, places=places)
    # The fault is in the function; the node is named beside it.
    assert caught.value.where.path.endswith("etl.py")
    assert caught.value.where.about == "pipeline 'p', node 'second' of pipelines/p.py:3"
    (project.root / "etl.py").unlink()
    sys.modules.pop("etl")
    with pytest.raises(UserCodeError, match="No module named 'etl'") as caught:
        execute_task(plan, task.id, run, root=project.root, places={"double": Where("pipelines/p.py", 2)})
    assert caught.value.where == Where("pipelines/p.py", 2, about="pipeline 'p', node 'double'")


def test_a_staged_frame_that_is_gone_names_the_node_that_made_it(project):
    plan = compiled(project, pipeline())
    with pytest.raises(DataError) as caught:
        execute_task(
            plan,
            "second",
            make_run(plan, partition="2026-11-20"),
            root=project.root,
            places={"double": Where("p.py", 4)},
        )
    assert caught.value.where == Where("p.py", 4, about="pipeline 'p', node 'double'")


def test_a_live_twin_of_an_attempt_keeps_its_files(project, tmp_path):
    plan = compiled(project, pipeline())
    run = make_run(plan, partition="2026-11-20")
    staging = StoreStaging(Environment(staging=str(tmp_path / "staged")))
    request = Write("double", run)
    one, other = (staging.sink("double", "double", run).destination(request).folder for _ in range(2))
    assert one != other
    assert Path(one).is_dir()


def test_staging_on_an_address_that_is_no_folder_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match="gs://") as caught:
        StoreStaging(Environment(staging="gs://bucket/staging"))
    assert caught.value.code == "unsupported-store"


def test_a_plan_keeps_addresses_as_they_are_stated_until_they_are_asked_for(project):
    plan = compiled(project, pipeline())
    for stated, meant in (
        ("s3://bucket/lake", "s3://bucket/lake"),
        ("~/lake", f"{Path.home()}/lake"),
        ("file:///srv/lake", "/srv/lake"),
        ("lake", f"{project.root}/lake"),
    ):
        environment = plan.environment.model_copy(update={"lake": stated, "staging": f"{stated}/_staging"})
        bound = bound_environment(plan.model_copy(update={"environment": environment}), project.root)
        assert (bound.lake_address, bound.staging_address) == (meant, f"{meant}/_staging")


def sql_pipeline(sql, **params):
    return pipeline(
        params=params,
        nodes=(
            NodeIR.make(id="orders", type="source", params={"kind": "onelake", "table": "raw.orders"}),
            NodeIR.make(id="q", type="transform", engine="python", sql=sql, input_ids=("orders",)),
            NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.out"}, input_ids=("q",)),
        ),
    )


@pytest.mark.parametrize("value", ["o'neil", "x' or 'a'='a", "\\' or 1=1 --", "*/ or /*", "{orders}", "{{ ds }}", '"'])
@pytest.mark.parametrize("written", ["'{{ params.x }}'", "{{ params.x }}"])
def test_a_param_in_sql_is_a_value_and_never_a_piece_of_the_query(project, value, written):
    plan = compiled(project, sql_pipeline(f"select 1 as id, {written} as x from {{orders}} limit 1", x="plain"))
    run_all(project, plan, make_run(plan, partition="2026-11-20", params={"x": value}))
    assert table(project, "mart/out")["x"].to_list() == [value]
    plan = compiled(project, sql_pipeline(f"select id, dt from {{orders}} where dt = {written} -- {{{{ ds }}}}", x="p"))
    run_all(project, plan, make_run(plan, partition="2026-11-21", params={"x": value}))
    assert len(table(project, "mart/out")) == 0


def test_numbers_lists_and_dates_in_sql_are_literals(project):
    sql = "select id from {orders} where id -{{ params.n }} > 0 and id in {{ params.ids }} and dt = {{ ds }}"
    plan = compiled(project, sql_pipeline(sql, n=-1, ids=[1, 4]))
    run_all(project, plan, make_run(plan, partition="2026-11-21"))
    assert table(project, "mart/out")["id"].to_list() == [4]


def test_the_run_tells_the_dataset_that_a_template_names(project):
    ir = pipeline(
        params={"name": "orders"},
        nodes=(
            NodeIR.make(id="orders", type="source", params={"kind": "onelake", "table": "raw.{{ params.name }}"}),
            NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.out"}, input_ids=("orders",)),
        ),
    )
    plan = compiled(project, ir)
    assert plan.nodes["orders"].dataset is None
    run = make_run(plan, partition="2026-11-20")
    result = run_all(project, plan, run)["out"]
    assert result.node("orders").dataset == ("onelake", "raw.orders")
    event = Lineage(plan, run).task_event("COMPLETE", plan.tasks[0], 1, result=result)
    assert [one["name"] for one in event["inputs"]] == ["raw.orders"]
    assert event["job"]["name"] == "default/p/out"


def test_a_task_that_waits_waits_and_its_readers_do_not(project, monkeypatch):
    slept = []
    monkeypatch.setattr("aiflow_sdk.runtime.readiness.time.sleep", slept.append)
    waiting = NodeIR.make(
        id="orders",
        type="source",
        params={"kind": "onelake", "table": "raw.orders", "partitions": {"dt": "{{ ds }}"}, "wait_minutes": 0.0005},
    )
    sink = NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.out"}, input_ids=("orders",))
    plan = compiled(project, pipeline(nodes=(waiting, sink)))
    assert [task.id for task in plan.tasks] == ["orders", "out"]
    assert run_all(project, plan, make_run(plan, partition="2026-11-20"))["orders"].nodes == ()
    absent = make_run(plan, partition="2026-10-01")
    with pytest.raises(DataNotReadyError):
        execute_task(plan, "out", absent, root=project.root)
    assert not slept
    with pytest.raises(DataNotReadyError):
        execute_task(plan, "orders", absent, root=project.root)
    assert slept


FLOWING = """
from contextlib import contextmanager
from aiflow_sdk.plan import JobHandle
from aiflow_sdk.plugins import Engine, Session

class Flow(Session):
    def read(self, source, scan): return source
    def call(self, function, inputs): return inputs
    def sql(self, query, inputs): return None
    def write(self, writes): raise AssertionError("a task without an end is started, not written")
    def start(self, writes): return JobHandle(cluster="here", id="-".join(w.request.node_id for w in writes))

class Flowing(Engine):
    continuous = True
    @contextmanager
    def open(self, task, run):
        yield Flow()
"""


def test_a_task_without_an_end_is_started_and_its_job_handed_back(project):
    endless = NodeIR.make(id="a", type="source", params={"kind": "onelake", "table": "raw.orders"}, bounded=False)
    (project.root / "flowing_engine.py").write_text(FLOWING)
    (project.root / "etl.py").write_text(CODE + "\ndef flow(a): return a\n")
    enter_project(project.root)
    registry = installed_registry()
    registry.engines.add("flowing", "flowing_engine:Flowing", "this project")
    ir = pipeline(
        nodes=(
            endless,
            NodeIR.make(id="b", type="transform", engine="flowing", entrypoint="etl:flow", input_ids=("a",)),
            NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.o"}, input_ids=("b",)),
        )
    )
    plan = compile_pipeline(ir, project=project, environment=project.environment(), registry=registry)
    run = make_run(plan, partition="2026-11-20")
    assert execute_task(plan, "b", run, root=project.root, functions={"b": lambda a: a}).job.id == "out"
    document = {**plan.to_full_dict(), "plan_version": 1}
    document["tasks"][0] |= {"engine": "python", "engine_plugin": "aiflow_sdk.engines.python:PythonEngine"}
    with pytest.raises(DefinitionError, match="no end"):
        execute_task(read_plan(document), "b", run, root=project.root)
