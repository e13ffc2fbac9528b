"""What is heard of an Airflow: its own provider's events, what was reconciled, its event log."""

import itertools
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from aiflow_sdk.bundles.airflow import run_id_in_airflow
from aiflow_service.openlineage import read_event
from aiflow_service.runs import RunFold
from service_trial import Service, facet, run_event, unique

AT = "2026-11-20T10:{:02}:00Z"


def own(**facts) -> dict:
    return {"_producer": "urn:x", "_schemaURL": "urn:x", **facts}


def provider_events(dag_id: str, dag_run_id: str, operator: str) -> list[dict]:
    """Events of a DAG run and its task, with the facets that apache-airflow-providers-openlineage 2.20.3 gave them."""
    dag, task = str(uuid.uuid4()), str(uuid.uuid4())
    dag_run = {"dag_id": dag_id, "run_id": dag_run_id, "run_after": "2026-11-20T09:59:00.886768+00:00", "conf": {}}
    tasks = {"twice": {"operator": operator, "ui_label": "twice", "downstream_task_ids": []}}
    of_dag = {"airflowDagRun": own(dag={"dag_id": dag_id}, dagRun=dag_run)}
    parent = {"run": {"runId": dag}, "job": {"namespace": "airflow", "name": dag_id}}
    of_task = {
        "airflow": own(
            dag={"dag_id": dag_id},
            dagRun=dag_run,
            task={"operator_class": operator.rpartition(".")[2], "task_id": "twice"},
            taskInstance={"try_number": 1},
            taskUuid=task,
        ),
        "parent": facet("ParentRunFacet", "1-2-0", **parent, root=parent),
    }
    about = {"airflow": own(tasks=tasks, taskGroups={}, taskTree={})}
    shared: dict[str, Any] = {"namespace": "airflow", "at": AT.format(1)}
    name = f"{dag_id}.twice"
    return [
        run_event("START", job=dag_id, run_id=dag, run_facets=of_dag, job_facets=about, **shared),
        run_event("START", job=name, run_id=task, run_facets=of_task, **shared),
        run_event("COMPLETE", job=name, run_id=task, run_facets=of_task, **{**shared, "at": AT.format(3)}),
        run_event("COMPLETE", job=dag_id, run_id=dag, run_facets=of_dag, **{**shared, "at": AT.format(4)}),
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_what_airflows_provider_tells_is_part_of_our_run(service: Service, backwards: bool) -> None:
    dag_id = f"shop.{unique('orders')}"
    told = provider_events(dag_id, "manual__1", "aiflow_airflow.operator.AiflowOperator")
    run_id = run_id_in_airflow(dag_id, "manual__1", datetime(2026, 11, 20, 9, 59, 0, 886768, UTC))
    ours = {"pipeline_id": dag_id.removeprefix("shop."), "project": "shop", "environment": "dev", "execution": 1}
    mine = run_event("START", job=f"shop/{ours['pipeline_id']}", run_id=run_id, run_facets={"aiflow_run": own(**ours)})
    for event in [*told, mine][:: -1 if backwards else 1]:
        assert service.send(event).status == 201
    assert service.get("/api/v1/runs", pipeline=dag_id)["items"] == []
    (run,) = service.get("/api/v1/runs", pipeline=ours["pipeline_id"])["items"]
    assert (run["run_id"], run["job"]["namespace"], run["environment"]) == (run_id, "aiflow/dev", "dev")
    parts = service.get(f"/api/v1/runs/{run_id}")["parts"]
    assert {(one["job"]["name"], one["state"]) for one in parts} == {
        (dag_id, "succeeded"),
        (f"{dag_id}.twice", "succeeded"),
    }


def test_a_run_that_only_airflows_provider_tells_of_is_there_and_other_dags_are_their_own(service: Service) -> None:
    ours, theirs = f"shop.{unique('quiet')}", unique("by_hand")
    for event in provider_events(ours, "manual__1", "aiflow_airflow.operator.AiflowOperator"):
        service.send(event)
    for event in provider_events(theirs, "manual__1", "airflow.providers.standard.operators.python.PythonOperator"):
        service.send(event)
    (run,) = service.get("/api/v1/runs", pipeline=ours)["items"]
    assert (run["state"], run["parent_run_id"], run["job"]["name"]) == ("running", None, ours)
    (run,) = service.get("/api/v1/runs", pipeline=theirs)["items"]
    assert run["state"] == "succeeded"


@pytest.mark.parametrize("told", [None, 7, "yesterday", "2026-11-20T09:59:00", {"a": 1}])
def test_facets_that_airflow_never_writes_lead_nowhere(service: Service, told) -> None:
    name = unique("odd")
    event = provider_events(name, "manual__1", "aiflow_airflow.operator.AiflowOperator")[0]
    event["run"]["facets"]["airflowDagRun"]["dagRun"]["run_after"] = told
    assert service.send(event).status == 201
    event["run"]["facets"]["airflowDagRun"]["dagRun"] = told
    assert service.send(event).status == 201
    (run,) = service.get("/api/v1/runs", pipeline=name)["items"]
    assert run["run_id"] == event["run"]["runId"]


RUN = str(uuid.UUID(int=1))


def fold(kind: str, minute: int, execution: int, *, reconciled: bool = False) -> RunFold:
    facets = {"aiflow_run": own(execution=execution)}
    if reconciled:
        facets["aiflow_reconciled"] = own(**{"from": "airflow"})
    event = run_event(kind, run_id=RUN, at=AT.format(minute), run_facets=facets)
    return RunFold.of_event(read_event(json.dumps(event).encode()))


@pytest.mark.parametrize(
    ("told", "state", "seconds", "reconciled"),
    [
        # Airflow alone: the state, and how long it took.
        ([("START", 1, 1, True), ("FAIL", 9, 1, True)], "failed", 480, True),
        # The run had begun; its end was never told.
        ([("START", 2, 1, False), ("START", 1, 1, True), ("FAIL", 9, 1, True)], "failed", 420, True),
        # Airflow had ended it before the run had said that it began.
        ([("START", 5, 1, False), ("START", 1, 1, True), ("FAIL", 4, 1, True)], "failed", 0, True),
        # The end was late: it is what counts, whatever was reconciled.
        (
            [("START", 2, 1, False), ("START", 1, 1, True), ("FAIL", 9, 1, True), ("COMPLETE", 8, 1, False)],
            "succeeded",
            360,
            False,
        ),
        # Cleared, and of the second execution nothing was told.
        ([("START", 2, 1, False), ("COMPLETE", 8, 1, False), ("START", 20, 2, True)], "running", None, False),
        (
            [("START", 2, 1, False), ("COMPLETE", 8, 1, False), ("START", 20, 2, True), ("FAIL", 21, 2, True)],
            "failed",
            60,
            True,
        ),
        # An end of the first execution that comes late does not undo the second's.
        ([("FAIL", 21, 2, True), ("START", 20, 2, True), ("COMPLETE", 30, 1, False)], "failed", 60, True),
    ],
)
def test_what_was_reconciled_loses_to_what_the_run_tells(told, state, seconds, reconciled) -> None:
    folds = [fold(kind, minute, execution, reconciled=is_reconciled) for kind, minute, execution, is_reconciled in told]
    for order in itertools.permutations(folds):
        whole = order[0]
        for one in order[1:]:
            whole = RunFold.from_bytes(whole.to_bytes()).merge(one)
        assert (whole.state, whole.seconds, whole.is_reconciled) == (state, seconds, reconciled)


def entry(number: int, **more) -> dict:
    return {"number": number, "at": AT.format(number), "event": "trigger_dag_run", "user": "ana", **more}


def test_an_airflows_event_log_is_taken_in_once_entry_by_entry(service: Service) -> None:
    source = f"http://{unique('airflow')}.example"

    def take(*entries: dict) -> int:
        body = json.dumps({"source": source, "entries": entries}).encode()
        answer = service.request("POST", "/api/v1/audit/airflow", body, {"Content-Type": "application/json"})
        assert answer.status == 200, answer
        return answer.json()["recorded"]

    assert service.get("/api/v1/audit/airflow", source=source)["last_at"] is None
    pipeline = unique("orders")
    ours = {"dag_id": f"shop.{pipeline}", "environment": "prod", "project": "shop", "pipeline": pipeline}
    extra = json.dumps({"partition_key": "2026-11-20", "password": "hunter2"})
    assert take(entry(2, **ours, extra=extra), entry(3, event="post_connection")) == 2
    # What became visible late is taken in then; what was taken in is left alone.
    assert take(entry(1, dag_id="by_hand"), entry(2, **ours, extra=extra), entry(3, event="post_connection")) == 1
    assert take(entry(2, **ours)) == 0
    assert service.get("/api/v1/audit/airflow", source=source)["last_at"] == "2026-11-20T10:03:00.000000Z"

    (row,) = service.get("/api/v1/audit", object_name=f"shop/{pipeline}")["items"]
    assert (row["actor"], row["action"], row["team"]) == ("airflow:ana", "airflow.trigger_dag_run", "default")
    assert (row["at"][:19], row["environment"], row["object_kind"]) == ("2026-11-20T10:02:00", "prod", "pipeline")
    assert row["details"]["taken_from"] == source
    assert row["details"]["extra"] == {"partition_key": "2026-11-20", "password": "***"}
    told = service.pages("/api/v1/audit", actor="airflow:ana")
    rows = [one for one in told if one["details"]["taken_from"] == source]
    assert [(one["object_kind"], one["team"], one["details"]["entry"]) for one in rows] == [
        ("dag", None, 1),
        ("airflow", None, 3),
        ("pipeline", "default", 2),
    ]
    assert service.get("/api/v1/audit/verify")["is_sound"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": "yesterday"},
        {"at": "9999-01-01T00:00:00Z"},
        {"at": "2026-11-20T10:00:00"},
        {"event": "a\nb"},
        {"event": ""},
        {"number": -1},
        {"user": "a\0b"},
        {"dag_id": 7},
        {"odd": 1},
        {"extra": "x" * 100_001},
    ],
)
def test_what_is_no_entry_of_a_log_is_refused_and_nothing_of_it_taken(service: Service, wrong: dict) -> None:
    source = unique("wrong")
    body = json.dumps({"source": source, "entries": [entry(1), {**entry(2), **wrong}]}).encode()
    answer = service.request("POST", "/api/v1/audit/airflow", body, {"Content-Type": "application/json"})
    assert answer.status == 422, answer
    assert service.get("/api/v1/audit/airflow", source=source)["last_at"] is None
