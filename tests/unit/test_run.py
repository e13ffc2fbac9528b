"""A run: its document, its ids, its params, and the two ends of a range."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import load_project
from aiflow_sdk.errors import AiflowError, DocumentError
from aiflow_sdk.events import Spool
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.plan import Plan, Run, make_run, read_run
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.runtime.context import Context
from aiflow_sdk.variables import render

RUN_ID = "0193c0de-0000-7000-8000-000000000000"
PARAMS = {"days": [1, 2], "limits": {"eu": 1.5}, "top": 3, "rate": 0.5, "name": "x", "nothing": None}


def plan_of(root: Path, function: str = "etl:rows", **fields: Any) -> Plan:
    (root / "etl.py").write_text(
        "import polars as pl\n"
        "def rows(orders: pl.DataFrame, secret='') -> pl.DataFrame:\n"
        "    print('the value is', secret)\n"
        "    return orders\n"
        "def fails(orders: pl.DataFrame, secret='') -> pl.DataFrame:\n"
        "    raise ValueError('cannot log in with ' + secret)\n"
    )
    (root / "in.csv").write_text("a\n1\n")
    ir = PipelineIR.make(
        id="orders",
        nodes=(
            NodeIR.make(id="orders", type="source", params={"kind": "files", "path": "in.csv", "format": "csv"}),
            NodeIR.make(
                id="keep",
                type="transform",
                engine="python",
                entrypoint=function,
                input_ids=("orders",),
                params={"secret": "secret://db"},
            ),
            NodeIR.make(id="out", type="sink", input_ids=("keep",), params={"kind": "onelake", "table": "mart.out"}),
        ),
        params=PARAMS,
        partition="day",
        **fields,
    )
    project = load_project(root)
    return compile_pipeline(ir, project=project, environment=project.environment("dev"), registry=installed_registry())


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("project"), ranges=True)


def run_of(**fields: Any) -> Run:
    known = {"run_id": RUN_ID, "environment": "dev", "project": "default", "pipeline_id": "orders"}
    return Run.make(**{**known, **fields})


def test_a_run_survives_its_document(plan: Plan) -> None:
    run = make_run(plan, partition="2026-11-20", params={"top": "5"}, external_id="manual__2026-11-20T00:00:00+00:00")
    assert read_run(run.to_json()) == run
    assert json.loads(run.to_json())["run_version"] == 1
    assert run.external_id not in run.write_key("out")


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "{}", '{"run_version": 1}', '{"run_version": 2}', "null"])
def test_what_is_no_run_is_no_crash(text: str) -> None:
    with pytest.raises(DocumentError):
        read_run(text)


@pytest.mark.parametrize("field", ["environment", "project", "pipeline_id"])
@pytest.mark.parametrize("value", ["..", ".", "", "a/b", "../x", ".hidden", "a b", "a\\b", "-x", "a\n"])
def test_an_id_that_would_be_a_path_is_refused(field: str, value: str) -> None:
    with pytest.raises(AiflowError) as caught:
        run_of(**{field: value})
    assert caught.value.code == "bad-id"
    with pytest.raises(AiflowError):
        read_run({**json.loads(run_of().to_json()), field: value})


@pytest.mark.parametrize("value", ["", "r1", "../x", "manual__2026-11-20", RUN_ID + "0"])
def test_a_run_id_is_a_uuid(plan: Plan, value: str) -> None:
    with pytest.raises(AiflowError) as caught:
        run_of(run_id=value)
    assert caught.value.code == "bad-run-id"
    if value:
        with pytest.raises(AiflowError):
            make_run(plan, partition="2026-11-20", run_id=value)


def test_lists_and_dicts_are_given_as_json(plan: Plan) -> None:
    run = make_run(plan, partition="2026-11-20", params={"days": "[3]", "limits": '{"us": 2}', "rate": "1e-3"})
    assert run.to_dict()["params"] == {**PARAMS, "days": [3], "limits": {"us": 2}, "rate": 0.001}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("days", "3"),
        ("days", "3,4"),
        ("days", '{"a": 1}'),
        ("days", "[NaN]"),
        ("limits", "[1]"),
        ("limits", ""),
        ("top", "3.5"),
        ("rate", "nan"),
        ("rate", "inf"),
    ],
)
def test_text_that_is_no_such_param_is_refused(plan: Plan, name: str, text: str) -> None:
    with pytest.raises(AiflowError) as caught:
        make_run(plan, partition="2026-11-20", params={name: text})
    assert caught.value.code == "bad-param"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "secret://db"),
        ("name", " secret://db"),
        ("days", ["secret://db"]),
        ("limits", {"eu": "secret://db"}),
        ("days", '["secret://db"]'),
    ],
)
def test_a_request_names_no_secret(plan: Plan, name: str, value: Any) -> None:
    with pytest.raises(AiflowError) as caught:
        make_run(plan, partition="2026-11-20", params={name: value})
    assert caught.value.code == "secret-in-param"


def test_the_end_of_a_range_alone_is_no_request(plan: Plan) -> None:
    with pytest.raises(AiflowError) as caught:
        make_run(plan, last_partition="2026-11-20")
    assert caught.value.code == "half-a-range"
    with pytest.raises(AiflowError) as caught:
        make_run(plan, partition="2026-11-21", last_partition="2026-11-20")
    assert caught.value.code == "reversed-range"


def test_a_template_and_the_context_agree_on_both_ends_of_a_range(plan: Plan) -> None:
    run = make_run(plan, partition="2026-11-20", last_partition="2026-11-22")
    context = Context(run, "keep", "keep")
    assert context.data_interval_start is not None
    assert context.data_interval_end is not None
    assert context.data_interval_start.isoformat() == "2026-11-20T00:00:00+00:00"
    assert context.data_interval_end.isoformat() == "2026-11-23T00:00:00+00:00"
    for name in ("ds", "data_interval_start", "data_interval_end"):
        shown = getattr(context, name)
        assert render(f"{{{{ {name} }}}}", run.facts()) == (shown if name == "ds" else shown.isoformat())
    assert render("{{ data_interval_end.offset(1) }}", run.facts()) == "2026-11-24T00:00:00+00:00"
    assert render("{{ data_interval_end.format('%d') }}", run.facts()) == "23"


# python -m aiflow_sdk.runtime

SECRET = "hunter2-in-the-clear"


def do(root: Path, *flags: str, stdin: str = "", secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aiflow_sdk.runtime", "--plan", "plan.json", "--task", "keep", *flags]
    environment = {"PATH": "/usr/bin:/bin", "AIFLOW_SECRET_DB": secret}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, input=stdin, env=environment, timeout=60)


def test_a_generation_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan_of(tmp_path).to_json())
    done = do(tmp_path, "--date", "2026-11-20")
    assert done.returncode == 2
    assert "--generation is required unless --run is given" in done.stderr


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"run_version": 1, "run_id": "x"}', "\x00"])
def test_a_run_that_cannot_be_read_is_wrong_use(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(plan_of(tmp_path).to_json())
    done = do(tmp_path, "--run", "-", stdin=text)
    assert done.returncode == 2, done.stderr
    assert "error[bad-" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_tells_its_events_and_hides_its_secrets(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ranges=True)
    (tmp_path / "plan.json").write_text(plan.to_json())
    run = make_run(plan, partition="2026-11-20", generation=3)
    done = do(tmp_path, "--run", "-", "--spool", "events.jsonl", stdin=run.to_json())
    assert done.returncode == 0, done.stderr
    assert "the value is ***" in done.stdout
    old = make_run(plan, partition="2026-11-20", generation=2)
    again = do(tmp_path, "--run", "-", "--spool", "events.jsonl", stdin=old.to_json())
    assert again.returncode == 0
    assert "superseded: 'out' changed nothing" in again.stderr
    (tmp_path / "plan.json").write_text(plan_of(tmp_path, "etl:fails").to_json())
    failed = do(tmp_path, "--run", "-", "--spool", "events.jsonl", stdin=run.to_json())
    assert failed.returncode == 1
    assert "cannot log in with ***" in failed.stderr
    told = list(Spool(tmp_path / "events.jsonl"))
    assert [event["eventType"] for event in told] == ["START", "COMPLETE", "START", "COMPLETE", "START", "FAIL"]
    everything = done.stdout + done.stderr + failed.stdout + failed.stderr + json.dumps(told)
    assert SECRET not in everything
