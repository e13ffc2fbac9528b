"""What a pipeline cannot mean: each with a code, the author's line, and what to write instead; all of them at once."""

import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk import factories, pipeline, resources, window
from aiflow_sdk.errors import AiflowError, DefinitionError, ProblemsError, VariableUseError

source: Any = factories.source
sink: Any = factories.sink


def problems_of(function, **settings) -> list[AiflowError]:
    definition = pipeline(**{"id": "p", "schedule": "@daily", **settings})(function)
    with pytest.raises(AiflowError) as caught:
        definition()
    error = caught.value
    return list(error.problems) if isinstance(error, ProblemsError) else [error]


def codes(function, **settings) -> list[str]:
    return [problem.code for problem in problems_of(function, **settings)]


def orders(p: Any, id: Any = "orders", **options: Any) -> Any:
    return p.read(source.onelake(id=id, table=f"raw.{id}", **options))


def keep(p: Any, dataset: Any, id: Any = "out", **options: Any) -> None:
    p.write(dataset, sink.onelake(id=id, table=f"mart.{id}", **options))


class Anything:
    """A value that nobody can write down."""


def airflow_object() -> Any:
    module = ModuleType("airflow.operators.bash")
    return type("BashOperator", (), {"__module__": module.__name__})()


FOREIGN: list[Any] = []


@pipeline(id="other")
def other(p):
    FOREIGN.append(orders(p))
    keep(p, FOREIGN[0])


other()

WRONG = {
    "duplicate-node-id": lambda p: keep(p, orders(p), "orders"),
    "foreign-dataset": lambda p: keep(p, FOREIGN[0]),
    "unused-node": lambda p: orders(p).transform(id="x", fn="a:b"),
    "reserved-node-id": lambda p: keep(p, orders(p, "inputs")),
    "bad-id": lambda p: keep(p, orders(p, "two words")),
    "missing-id": lambda p: keep(p, p.read(source.onelake(table="a.b"))),
    "not-a-source": lambda p: keep(p, p.read("raw.orders")),
    "not-a-sink": lambda p: p.write(orders(p), "mart.orders"),
    "not-a-dataset": lambda p: p.write(sink.onelake("s", "a.b"), orders(p)),
    "no-function": lambda p: keep(p, orders(p).transform(id="x")),
    "two-functions": lambda p: keep(p, orders(p).transform(id="x", fn="a:b", entrypoint="a:b")),
    "bad-entrypoint": lambda p: keep(p, orders(p).transform(id="x", fn="not a name")),
    "duplicate-param": lambda p: keep(p, orders(p).transform(id="x", fn="a:b", params={"n": 1}, n=2)),
    "dataset-as-param": lambda p: keep(p, orders(p).transform(id="x", fn="a:b", users=orders(p, "users"))),
    "duplicate-input": lambda p: keep(p, p.transform(*[orders(p)] * 2, id="x", fn="a:b")),
    "bad-output": lambda p: orders(p).transform(id="x", fn="a:b", output_format="csv"),
    "not-plain-data": lambda p: keep(p, orders(p, option=Anything())),
    "unordered-value": lambda p: keep(p, orders(p, option=[{"a", "b"}])),
    "airflow-object": lambda p: keep(p, orders(p, option={"x": [airflow_object()]})),
    "misplaced-declaration": lambda p: keep(p, orders(p, option=sink.onelake("s", "a.b"))),
    "literal-secret": lambda p: keep(p, orders(p, password="hunter2")),
    "bad-template": lambda p: keep(p, orders(p, option="{{ ds | upper }}")),
    "unknown-variable": lambda p: keep(p, orders(p, option="{{ dss }}")),
    "sink-read-back": lambda p: p.write(orders(p), sink.onelake("s", "raw.orders")),
    "bad-arguments": lambda p: keep(p, p.read(source.onelake("a", "t", "delta", {}, 5))),
    "bad-value": lambda p: keep(p, orders(p).transform(id="x", fn="a:b", retries="3")),
    "no-query": lambda p: keep(p, p.sql("", orders(p))),
    "no-inputs-in-sql": lambda p: keep(p, orders(p).sql("select 1")),
    "unknown-input": lambda p: keep(p, p.sql("select * from {order}, {b}", orders(p), orders(p, "b"))),
    "unused-input": lambda p: keep(p, p.sql("select * from {orders}", orders(p), orders(p, "b"))),
    "not-for-sql": lambda p: keep(p, orders(p).sql("select * from {orders}", params=orders(p, "b"))),
    "variable-at-build-time": lambda p: keep(p, orders(p)) if p.vars["run_date"] else None,
    "dataset-at-build-time": lambda p: list(orders(p)),
}


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_pipeline_is_told_by_code_line_and_remedy(code):
    function = WRONG[code]
    problems = problems_of(function)
    assert [problem.code for problem in problems if problem.code != "unused-node" or code == "unused-node"] == [code]
    for problem in problems:
        assert problem.where is not None
        assert problem.where.path is not None
        assert problem.where.path.endswith("test_builder_problems.py")
        assert problem.where.about is not None
        assert problem.where.about.startswith("pipeline 'p'")
        assert problem.hint


def test_all_problems_are_told_at_once():
    def body(p):
        a = p.read(source.onelake("a b", "raw.a"))
        b = p.read(source.onelake("env", "raw.b"))
        c = a.transform(id="c", fn="no such thing")
        p.write(c, sink.onelake(300 * "x", "mart.x"))
        p.write(b, None)

    found = problems_of(body, tags="x", schedule="every day")
    start = body.__code__.co_firstlineno
    assert [(problem.code, problem.where and (problem.where.line or 0) - start) for problem in found] == [
        ("bad-schedule", 0),
        ("bad-value", 0),
        ("bad-id", 1),
        ("reserved-node-id", 2),
        ("bad-entrypoint", 3),
        ("bad-id", 4),
        ("not-a-sink", 5),
    ]


def test_a_wrong_setting_is_told_beside_a_wrong_node():
    assert codes(lambda p: orders(p, "a b"), id="a b") == ["bad-id", "bad-id"]


def test_an_error_inside_the_function_is_told_after_what_was_found_before():
    def body(p):
        orders(p, "a b")
        if p.vars["run_date"] == "2026-01-01":
            orders(p, "c")

    found = problems_of(body)
    assert [problem.code for problem in found] == ["bad-id", "variable-at-build-time"]
    assert isinstance(found[1], VariableUseError)
    assert found[1].where is not None
    assert found[1].where.line == body.__code__.co_firstlineno + 2


def test_the_authors_own_exception_goes_through_with_what_was_found_before():
    def body(p):
        orders(p, "a b")
        return p.vars.nothing["at all"]

    with pytest.raises(AttributeError) as caught:
        pipeline(id="p")(body)()
    assert "before that: 'a b' is not a node id" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"id": 3}, "bad-value"),
        ({"id": ""}, "bad-id"),
        ({"id": "../x"}, "bad-id"),
        ({"id": 300 * "x"}, "bad-id"),
        ({"schedule": 5}, "bad-schedule"),
        ({"schedule": "@dayly"}, "bad-schedule"),
        ({"schedule": airflow_object()}, "airflow-object"),
        ({"owner": None}, "bad-value"),
        ({"sla_minutes": "60"}, "bad-value"),
        ({"sla_minutes": True}, "bad-value"),
        ({"tags": "a,b"}, "bad-value"),
        ({"tags": {"a", "b"}}, "unordered-value"),
        ({"tags": [1]}, "bad-value"),
        ({"notify": 3}, "bad-value"),
        ({"start_date": "tomorrow"}, "bad-value"),
        ({"timezone": "Europe/Berlinn"}, "unknown-timezone"),
        ({"catchup": "yes"}, "bad-value"),
        ({"retries": 1.5}, "bad-value"),
        ({"retries": -1}, "bad-value"),
        ({"retry_backoff": 0.5}, "bad-value"),
        ({"retry_backoff": None}, "bad-value"),
        ({"retry_delay_minutes": None}, "bad-value"),
        ({"timeout_minutes": 0}, "bad-value"),
        ({"max_active_runs": 0}, "bad-value"),
        ({"concurrency": 0}, "bad-value"),
        ({"params": ["a"]}, "bad-value"),
        ({"params": {"a b": 1}}, "bad-param-name"),
        ({"params": {"token": "abc"}}, "literal-secret"),
        ({"partition": "minute"}, "bad-value"),
        ({"schedule": None, "ranges": True}, "ranges-without-partition"),
        ({"retrys": 3}, "unknown-setting"),
        ({"schedule_interval": "@daily"}, "unknown-setting"),
        ({"partitions": "day"}, "unknown-setting"),
        ({"team": Anything()}, "not-plain-data"),
    ],
)
def test_a_wrong_setting_is_told(settings, code):
    assert codes(lambda p: keep(p, orders(p)), **settings) == [code]


@pytest.mark.parametrize(
    "label", ["team", "project", "env", "cost_center", "tier", "domain", "region", "stage", "slack"]
)
def test_labels_are_free(label):
    labels: Any = {label: "x"}
    assert pipeline(id="p", **labels)(lambda p: keep(p, orders(p)))().extra == labels


@pytest.mark.parametrize(
    "options",
    [
        {"password": "hunter2"},
        {"db_password": "x"},
        {"api_key": "x"},
        {"auth": {"client_secret": "x"}},
        {"headers": [{"access_token": "x"}]},
        {"url": "postgresql://me:hunter2@host/db"},
        {"dsn": "Server=x;User=y;Password=hunter2;"},
        {"connection": "DefaultEndpointsProtocol=https;AccountKey=abc=="},
        {"key_id": "AKIA" + 16 * "A"},
        {"text": "-----BEGIN RSA PRIVATE KEY-----\nx"},
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_repeated(options):
    (problem,) = problems_of(lambda p: keep(p, orders(p, **options)))
    assert problem.code == "literal-secret"
    assert "hunter2" not in str(problem)
    assert "secret://" in (problem.hint or "")


@pytest.mark.parametrize(
    "options",
    [
        {"password": "secret://warehouse/password"},
        {"password": "{{ params.password }}"},
        {"password": None},
        {"password": ""},
        {"url": "postgresql://host/db"},
        {"url": "https://me@host/db"},
        {"url": "postgresql://me:{{ params.pw }}@host/db"},
        {"primary_key": "id"},
        {"keys": ["id"]},
        {"token_column": "t"},
    ],
)
def test_what_is_no_secret_passes(options):
    pipeline(id="p", params={"password": None, "pw": None})(lambda p: keep(p, orders(p, **options)))()


@pytest.mark.parametrize(
    "options",
    [
        {"partitions": {"dt": window.offset(-1)}},
        {"partitions": {"dt": window.last(7)}},
        {"partitions": {"dt": window.latest()}},
        {"partitions": {"dt": "{{ ds.offset(-1) }}"}},
        {"partitions": {"dt": "2020-01-01"}},
        {"partitions": {"dt": "{{ ds }}", "region": "us"}},
        {"version": 3},
    ],
)
def test_an_earlier_partition_of_ones_own_output_may_be_read(options):
    pipeline(id="p", schedule="@daily")(lambda p: p.write(orders(p, **options), sink.onelake("s", "raw.orders")))()


@pytest.mark.parametrize("options", [{}, {"partitions": {"dt": "{{ ds }}"}}, {"partitions": {"dt": window.same()}}])
def test_what_the_same_run_writes_may_not_be_read(options):
    assert codes(lambda p: p.write(orders(p, **options), sink.onelake("s", "raw.orders"))) == ["sink-read-back"]


def test_files_of_the_project_are_not_those_of_the_lake():
    def body(p, **options):
        p.write(p.read(source.files("a", "x.csv", **options)), sink.files("b", "x.csv"))

    pipeline(id="p")(body)()
    assert codes(lambda p: body(p, root="lake")) == ["sink-read-back"]


def test_a_dataset_of_an_earlier_building_is_foreign():
    kept = []

    def body(p):
        kept.append(orders(p))
        keep(p, kept[0])

    definition = pipeline(id="p")(body)
    definition()
    with pytest.raises(DefinitionError) as caught:
        definition()
    assert caught.value.code == "foreign-dataset"
    assert "earlier building" in str(caught.value)


def test_airflow_objects_are_refused_wherever_they_are_given():
    operator = airflow_object()
    for function in (
        lambda p: p.read(operator),
        lambda p: p.write(orders(p), operator),
        lambda p: p.write(operator, sink.onelake("s", "a.b")),
        lambda p: keep(p, orders(p).transform(id="x", fn=operator)),
        lambda p: keep(p, orders(p).transform(id="x", fn="a:b", resources=operator)),
        lambda p: keep(p, orders(p).transform(id="x", fn="a:b", task=operator)),
    ):
        assert codes(function) == ["airflow-object"]
    assert "airflow" not in sys.modules


def test_a_function_that_declares_nothing_when_called_is_refused():
    async def later(p):
        keep(p, orders(p))

    def yielding(p):
        yield orders(p)

    for function in (later, yielding, lambda: None):
        assert codes(function) == ["bad-pipeline-function"]


@pytest.mark.parametrize("value", ["a b", "", 3.5, None, True, "../x", 100 * "x", "a.b"])
def test_a_branch_stands_for_a_short_plain_value(value):
    assert "bad-value" in codes(lambda p: keep(p.branch("x", value), orders(p)))


def test_resources_that_are_no_plain_data_are_refused_where_they_stand():
    with pytest.raises(DefinitionError) as caught:
        resources.spark(cluster=Anything())  # type: ignore[arg-type]  # what is tried
    assert caught.value.where is not None
    assert (caught.value.where.path or "").endswith("test_builder_problems.py")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(Anything()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_values)
def test_whatever_is_given_as_an_option_ends_in_an_ir_or_an_error_of_ours(value):
    def body(p):
        raw = p.read(source.anything(id="a", option=value))
        keep(p, raw.transform(id="b", fn="a:b", params=value, resources=value, retries=value))
        keep(p, raw, value)

    with suppress(AiflowError):
        pipeline(id="p")(body)()
