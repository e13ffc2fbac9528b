"""The decorated pipeline: it calls to its IR, runs, draws itself; and the public face loads late."""

import importlib
import json
import subprocess
import sys
from datetime import date, datetime, timedelta

import pytest

import aiflow_sdk
from aiflow_sdk import dataset, dsl, pipeline, register_engine, register_sink, register_source, sink, source, transform
from aiflow_sdk.dsl import PipelineDefinition
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import PipelineIR, read_pipeline
from aiflow_sdk.plugins import MARK

HEAVY = (
    "polars",
    "pyarrow",
    "deltalake",
    "pyspark",
    "pysail",
    "duckdb",
    "pandas",
    "sqlglot",
    "rich",
    "airflow",
    "click",
)


@pipeline(id="daily", schedule="@daily", owner="me")
def daily(p):
    """What the author says of it."""
    raw = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(raw, sink.onelake(id="out", table="mart.orders"))


def modules_after(program: str) -> set[str]:
    code = f"{program}\nimport sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


def test_called_without_arguments_it_returns_its_ir():
    assert isinstance(daily(), PipelineIR)
    assert daily() == daily.ir == daily.build().ir
    assert read_pipeline(daily().to_json()) == daily()


def test_it_keeps_the_name_and_the_words_of_its_function():
    assert isinstance(daily, PipelineDefinition)
    assert (daily.__name__, daily.__module__) == ("daily", __name__)
    assert daily.__doc__ == "What the author says of it."


def test_it_shows_itself_as_a_graph():
    assert str(daily) == repr(daily)
    assert "○ orders  onelake  raw.orders {dt={{ ds }}}" in str(daily)
    assert daily.to_mermaid().startswith("flowchart LR")
    assert daily.to_svg().startswith("<svg")
    bundle = daily._repr_mimebundle_()
    assert bundle["text/plain"] == str(daily)
    assert "<svg" in bundle["text/html"]


def test_a_wrong_pipeline_says_so_instead_of_its_graph():
    wrong = pipeline(id="wrong pipeline")(lambda p: None)
    assert repr(wrong).startswith("<pipeline 'wrong pipeline': 'wrong pipeline' is not a pipeline id")
    assert "text/html" not in wrong._repr_mimebundle_()
    with pytest.raises(DefinitionError):
        str(wrong)


@pytest.mark.parametrize(
    ("schedule", "expected", "partition"),
    [
        ("0 3 * * *", "0 3 * * *", "day"),
        ("@hourly", "0 * * * *", "hour"),
        (timedelta(days=7), "P1W", "week"),
        ("0 3 1 * *", "0 3 1 * *", "month"),
        ("*/5 * * * *", "*/5 * * * *", None),
        (None, None, None),
    ],
)
def test_the_partition_follows_from_the_schedule_where_that_is_plain(schedule, expected, partition):
    ir = pipeline(id="x", schedule=schedule)(lambda p: None)()
    assert (ir.schedule, ir.partition) == (expected, partition)


def test_the_partition_may_be_said():
    assert pipeline(id="x", schedule="@daily", partition=None)(lambda p: None)().partition is None
    assert pipeline(id="x", partition="week", ranges=True)(lambda p: None)().ranges


def test_a_pipeline_may_start_when_datasets_change():
    ir = pipeline(id="x", schedule=dataset("a.b") & dataset("c.d"), partition="day")(lambda p: None)()
    assert ir.schedule == dataset("c.d") & dataset("a.b")
    assert read_pipeline(ir.to_json()) == ir


def test_every_setting_reaches_the_ir():
    settings = {
        "description": "words", "timezone": "Europe/Berlin", "catchup": True, "retries": 3, "retry_delay_minutes": 1.5,
        "retry_backoff": 2.0, "timeout_minutes": 30, "max_active_runs": 2, "concurrency": 4, "params": {"n": 3},
        "sla_minutes": None,
    }  # fmt: skip
    ir = pipeline(id="x", start_date=date(2026, 1, 31), notify=["a@b"], team="t", **settings)(lambda p: None)()  # type: ignore[arg-type]  # of many types
    assert {name: getattr(ir, name) for name in settings} == settings
    assert (ir.start_date, ir.notify, dict(ir.extra)) == ("2026-01-31", ("a@b",), {"team": "t"})


def test_defaults_spelled_out_give_the_same_fingerprint():
    spelled = pipeline(
        "x", None, "", 60, [], description="", start_date=None, timezone="UTC", catchup=False, retries=0,
        retry_delay_minutes=5, retry_backoff=1, timeout_minutes=None, max_active_runs=16, concurrency=None, notify=[],
        params={}, partition=None, ranges=False,
    )(lambda p: None)()  # fmt: skip
    assert spelled.fingerprint == pipeline(id="x")(lambda p: None)().fingerprint
    assert json.loads(spelled.to_json()) == {"id": "x", "ir_version": 1}


def test_a_pipeline_without_id_is_called_like_its_function():
    @pipeline(schedule="@daily")
    def named(p): ...

    assert named._pipeline_id == named().id == "named"


def test_a_decorator_without_its_arguments_is_refused():
    for decorate in (lambda: pipeline(lambda p: None), lambda: pipeline(id="x")(3), lambda: pipeline(id="y")(daily)):  # type: ignore[arg-type]  # what is tried
        with pytest.raises(DefinitionError) as caught:
            decorate()
        assert caught.value.code == "bad-pipeline-function"
        assert caught.value.where is not None
        assert (caught.value.where.path or "").endswith("test_dsl.py")


def test_transform_marks_a_function_and_leaves_it_what_it_is():
    def clean(orders):
        return orders

    assert transform(clean) is clean
    assert transform(engine="spark")(clean) is clean
    for wrong in (lambda: transform(engin="spark"), lambda: transform(3)):  # type: ignore[call-overload]  # what is tried
        with pytest.raises(DefinitionError) as caught:
            wrong()
        assert caught.value.code == "bad-transform-decorator"


def test_a_projects_own_plugins_are_only_marked():
    for register, family in ((register_source, "source"), (register_sink, "sink"), (register_engine, "engine")):
        marked = register("mine")(lambda: None)
        assert getattr(marked, MARK) == (family, "mine")


def test_both_faces_give_the_same_objects():
    for name in dsl.__all__:
        assert getattr(aiflow_sdk, name) is getattr(dsl, name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    for module in (aiflow_sdk, dsl):
        with pytest.raises(AttributeError, match="nothing_like_it"):
            _ = module.nothing_like_it
    assert set(aiflow_sdk.__all__) <= set(dir(aiflow_sdk))


def test_the_seeds_modules_can_be_imported():
    for name in ("dsl", "builder", "ir", "plugins", "compiler", "runtime", "discovery", "config"):
        importlib.import_module(f"aiflow_sdk.{name}")


def test_importing_what_authors_write_loads_no_driver_and_not_even_pydantic():
    loaded = modules_after("import aiflow_sdk")
    assert {name for name in loaded if name.startswith("aiflow_sdk")} == {"aiflow_sdk"}
    loaded = modules_after("from aiflow_sdk import pipeline, source, transform, sink, resources")
    assert not loaded & {*HEAVY, "pydantic"}


def test_building_a_pipeline_loads_no_driver_and_not_even_pydantic():
    loaded = modules_after(
        "from aiflow_sdk import pipeline, source, sink, window, dataset\n"
        "@pipeline(id='x', schedule='@daily')\n"
        "def x(p): p.write(p.read(source.onelake('a', 'r.a')), sink.onelake('b', 'm.b'))\n"
        "x(); str(x)"
    )
    assert "aiflow_sdk.builder" in loaded
    assert not loaded & {*HEAVY, "pydantic"}


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-31",
        "20260131",
        "2026-01-31T00:00",
        " 2026-01-31 ",
        date(2026, 1, 31),
        datetime.fromisoformat("2026-01-31"),
    ],
)
def test_a_start_date_has_one_form(written):
    assert pipeline(id="x", start_date=written)(lambda p: None)().start_date == "2026-01-31"


def test_a_start_with_an_hour_or_an_offset_keeps_it():
    def start(text):
        return pipeline(id="x", start_date=text)(lambda p: None)().start_date

    assert start("20260131T0630") == "2026-01-31T06:30:00"
    assert start("2026-01-31T00:00Z") == "2026-01-31T00:00:00+00:00"


@pytest.mark.parametrize("name", ["a.b.c d", "orders", "a.b.c", "a.b c", ".a", "a.", "a..b", "", 3, None])
def test_a_dataset_is_named_schema_table(name):
    with pytest.raises(DefinitionError, match="is not a dataset's name") as caught:
        dataset(name)
    assert caught.value.code == "bad-dataset-name"


PLACES = """
from aiflow_sdk import pipeline, sink, source
@pipeline(id="x", owner="me")
def x(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    {line}
"""


@pytest.mark.parametrize("line", ["bool(p.vars['run_date'])", "len(orders)", "p.read(3)", "p.vars['nonsense']"])
@pytest.mark.parametrize("folder", [".", "pipelines/deep", ".."])
def test_every_error_shows_the_file_as_seen_from_the_project(tmp_path, monkeypatch, line, folder):
    path = tmp_path / "pipelines" / "deep" / "vv.py"
    path.parent.mkdir(parents=True)
    (tmp_path / "aiflow.toml").touch()
    path.write_text(PLACES.format(line=line))
    monkeypatch.chdir(tmp_path / folder)
    module = {"__name__": "vv", "__file__": path}  # a path and no text, as some people set it
    exec(compile(path.read_text(), str(path), "exec"), module)
    with pytest.raises(Exception) as caught:  # noqa: PT011 each of another kind
        module["x"]()
    problems = getattr(caught.value, "problems", (caught.value,))
    assert {problem.where.path for problem in problems} == {"pipelines/deep/vv.py"}
