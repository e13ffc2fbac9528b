"""What the command line reads of an Airflow is what Airflow's side of aiflow writes."""

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.dag import dag_of_plan, make_broken_dag
from aiflow_airflow.timetable import Partitions

from aiflow_sdk.bundles.airflow import BROKEN_TAG, REQUIRED
from aiflow_sdk.cli.airflow_doctor import ask_python
from aiflow_sdk.errors import AiflowError, DocumentError
from aiflow_sdk.orchestrator.airflow import bound_of
from aiflow_sdk.orchestrator.deployed import read_details, read_nodes
from aiflow_sdk.partitions import GRAINS, Partition, partitions_between
from aiflow_sdk.plan import Plan, read_plan

PLAN = Path(__file__).parents[1] / "golden" / "documents" / "0.1.0" / "plan.json"


@pytest.mark.parametrize("grain", [None, *GRAINS])
def test_a_deployed_pipeline_is_read_from_its_dag(grain):
    plan = read_plan(PLAN.read_bytes())
    described = "`a/b` in the environment `x`, version `1`, a run for one day (UTC).\n\nOn spark:"
    plan = Plan.model_validate(
        {**dict(plan), "partition": grain, "timezone": "America/New_York", "description": described}
    )
    dag = dag_of_plan(plan, "some.dag")
    default_args = json.loads(json.dumps(dag.default_args))
    details = {"dag_id": "some.dag", "default_args": default_args, "is_paused": True, "params": dag.params.dump()}
    found = read_details(details)
    named = (found.project, found.pipeline_id, found.environment)
    assert named == (plan.project, plan.pipeline_id, plan.environment.name)
    assert (found.grain, found.timezone) == (grain, plan.timezone if grain else "UTC")
    assert found.is_paused
    assert set(found.params) == set(plan.params)
    assert plan.version.rpartition(":")[2].startswith(found.version)
    for task in plan.tasks:
        nodes = read_nodes(details, {"task_id": dag.get_task(task.id).task_id})
        assert [node["id"] for node in nodes] == list(task.node_ids)
        assert {node["engine"] for node in nodes} == {task.engine}


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize("grain", GRAINS)
def test_a_backfill_is_of_the_partitions_that_were_typed(grain, timezone):
    first = Partition.containing(datetime(2026, 3, 7, 18, tzinfo=UTC), grain, timezone)
    last = first.offset(30 if grain in ("hour", "day") else 5)
    earliest, latest = (datetime.fromisoformat(bound_of(one)) for one in (first, last))
    assert list(Partitions(grain, timezone).between(earliest, latest)) == partitions_between(first, last)
    day = Partition.containing(datetime(2026, 3, 7, 18, tzinfo=UTC), "day", timezone)
    if grain == "hour":  # midnight alone is an hour too, and not its day
        midnight = Partition.containing(day.start, "hour", timezone)
        bound = datetime.fromisoformat(bound_of(midnight))
        assert list(Partitions(grain, timezone).between(bound, bound)) == [midnight]


def test_a_broken_dag_is_read_with_its_reason():
    dag = make_broken_dag("shop.orders", DocumentError("damaged-object", "the plan is cut in half"))
    with pytest.raises(DocumentError) as caught:
        read_details({"dag_id": dag.dag_id, "default_args": dag.default_args})
    assert dag.tags == {BROKEN_TAG}
    assert caught.value.code == "broken-dag"
    assert "cut in half" in caught.value.notes[0]


def test_what_is_required_is_accepted():
    assert all(one.accepts(one.value) for one in REQUIRED)


def test_airflows_interpreter_tells_the_settings_that_it_has(monkeypatch):
    for one in REQUIRED:
        monkeypatch.setenv(one.variable, one.value)
    monkeypatch.delenv("AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL")
    values = ask_python(sys.executable)
    wrong = [one.name for one in REQUIRED if not one.accepts(values[f"{one.section}.{one.name}"])]
    assert wrong == ["refresh_interval"]
    assert values["core.executor"]
    assert values["kubernetes"] in ("there", "missing")
    with pytest.raises(AiflowError) as caught:
        ask_python("/nowhere/python")
    assert caught.value.code == "airflow-python"


def test_no_group_is_called_like_a_task_or_another_group():
    plan = read_plan(PLAN.read_bytes())
    one = plan.tasks[0]
    names = ("us", "load.us", "us-branch", "load.us-branch", "us-branch-branch", "load.us-branch2", "load.eu")
    tasks = tuple(type(one).model_validate({**dict(one), "id": name, "upstream": ()}) for name in names)
    dags = [
        dag_of_plan(Plan.model_validate({**plan.to_full_dict(), "tasks": some}), "d") for some in (tasks, tasks[::-1])
    ]
    for dag in dags:
        groups = {name: str(dag.get_task(name).task_group.group_id) for name in names if "." in name}
        assert groups == {
            "load.us": "us-branch3",
            "load.us-branch": "us-branch-branch2",
            "load.us-branch2": "us-branch2",
            "load.eu": "eu",
        }
