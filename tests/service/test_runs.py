"""Runs: one story, whatever order its events come in."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import load_project
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.lineage import Lineage
from aiflow_sdk.plan import NodeFacts, TaskResult, make_run
from aiflow_sdk.plugins import installed_registry
from aiflow_service.access import Scope
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import column_edges, columns, dataset_names, edges, runs
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.openlineage import read_event
from aiflow_service.runs import RunFilter, RunFold, list_runs
from service_trial import Service, dataset, facet, run_event, unique


def story(tmp_path, *, fails: bool = False) -> Iterator[dict]:
    """The events of a run of a pipeline of two nodes, with a first attempt that fails."""
    out = {"kind": "onelake", "table": "mart.orders"}
    nodes = (
        NodeIR.make(id="orders", type="source", params={"kind": "onelake", "table": "raw.orders"}),
        NodeIR.make(id="out", type="sink", params=out, input_ids=("orders",)),
    )
    project = load_project(tmp_path)
    pipeline = PipelineIR.make(id="orders", owner="ana", nodes=nodes)
    plan = compile_pipeline(pipeline, project=project, environment=project.environment(), registry=installed_registry())
    run = make_run(plan)
    told = Lineage(plan, run)
    (task,) = plan.tasks
    facts = (
        NodeFacts(node_id="orders", rows=10, bytes=100, seconds=0.5),
        NodeFacts(node_id="out", rows=9, bytes=90, seconds=0.25, columns=(("id", "int64"),), table_version=3),
    )
    error = {
        "code": "worker-died",
        "message": "gone",
        "retryable": True,
        "hint": "look",
        "where": None,
        "type": "RunError",
    }
    yield told.run_event("START")
    yield told.task_event("START", task, 1)
    yield told.task_event("FAIL", task, 1, error=error)
    yield told.task_event("START", task, 2)
    if fails:
        yield told.task_event("FAIL", task, 2, error=error)
        yield told.run_event("FAIL", error=error)
        return
    result = TaskResult(task_id=task.id, seconds=1.0, nodes=facts)
    yield told.task_event("COMPLETE", task, 2, result=result)
    yield told.run_event("COMPLETE", results=[result])


def test_a_run_of_ours_is_one_story_down_to_the_node(service: Service, tmp_path) -> None:
    events = list(story(tmp_path))
    for event in reversed(events):
        assert service.send(event).status == 201, event
    run = service.get(f"/api/v1/runs/{events[0]['run']['runId']}")
    assert (run["state"], run["pipeline"], run["project"], run["environment"]) == (
        "succeeded",
        "orders",
        "default",
        "dev",
    )
    assert (run["cause"], run["execution"], run["error"]) == ("manual", 1, None)
    assert len(run["trace_id"]) == 32
    (task,) = run["tasks"]
    assert [(one["attempt"], one["state"]) for one in task["attempts"]] == [(1, "failed"), (2, "succeeded")]
    assert task["attempts"][0]["error"]["code"] == "worker-died"
    assert task["attempts"][0]["error"]["message"] == "gone"
    assert task["attempts"][1]["nodes"] == [
        {"node_id": "orders", "rows": 10, "bytes": 100, "seconds": 0.5},
        {"node_id": "out", "rows": 9, "bytes": 90, "seconds": 0.25},
    ]
    written = [one for one in run["datasets"] if one["is_output"]]
    assert [(one["name"], one["rows"], one["version"]) for one in written] == [("mart.orders", 9, "3")]


def test_the_task_is_no_node_of_the_lineage_beside_its_pipeline(service: Service, tmp_path) -> None:
    for event in story(tmp_path):
        assert service.send(event).status == 201
    graph = service.get("/api/v1/lineage/tables", dataset="mart.orders", direction="up")
    assert [one["name"] for one in graph["jobs"]] == ["default/orders"]


def test_a_run_that_fails_says_why(service: Service, tmp_path) -> None:
    events = list(story(tmp_path, fails=True))
    assert service.send_batch(events).json()["status"] == "success"
    run = service.get(f"/api/v1/runs/{events[0]['run']['runId']}")
    assert (run["state"], run["error"]["code"], run["error"]["hint"]) == ("failed", "worker-died", "look")


def parent_of(run_id: str, name: str, root: tuple[str, str] | None = None) -> dict:
    told = {"run": {"runId": run_id}, "job": {"namespace": "airflow", "name": name}}
    above = {}
    if root:
        above = {"root": {"run": {"runId": root[0]}, "job": {"namespace": "airflow", "name": root[1]}}}
    return {"parent": facet("ParentRunFacet", "1-2-0", **told, **above)}


def test_a_foreign_run_has_its_parts_even_if_nobody_tells_of_it(service: Service) -> None:
    dag, task, spark = (str(uuid.uuid4()) for _ in range(3))
    name = unique("dag")
    above = parent_of(dag, name)
    service.send(run_event("START", namespace="airflow", run_id=task, job=f"{name}.load", run_facets=above))
    above = parent_of(task, f"{name}.load", (dag, name))
    service.send(run_event(run_id=spark, job="spark_app", namespace="spark", run_facets=above))
    found = service.get("/api/v1/runs", pipeline=name)["items"]
    assert [(one["run_id"], one["state"]) for one in found] == [(dag, "running")]
    whole = service.get(f"/api/v1/runs/{dag}")
    assert [one["run_id"] for one in whole["parts"]] == [task, spark]


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([("START", 1), ("COMPLETE", 2)], "succeeded"),
        ([("COMPLETE", 2), ("START", 1)], "succeeded"),
        ([("COMPLETE", 2)], "succeeded"),
        ([("START", 1)], "running"),
        ([("COMPLETE", 2), ("RUNNING", 3)], "succeeded"),
        ([("FAIL", 2), ("START", 3)], "running"),
        ([("FAIL", 2), ("START", 3), ("COMPLETE", 4)], "succeeded"),
        ([("START", 1), ("COMPLETE", 1)], "succeeded"),
        ([("ABORT", 5)], "cancelled"),
    ],
)
def test_the_state_follows_from_what_happened_and_not_from_its_arrival(events, state) -> None:
    run_id = str(uuid.uuid4())
    told = [
        RunFold.of_event(read(run_event(kind, run_id=run_id, at=f"2026-11-20T10:00:0{at}Z"))) for kind, at in events
    ]
    fold = told[0]
    for one in told[1:]:
        fold = fold.merge(one)
    assert fold.state == state


def read(event: dict):
    return read_event(json.dumps(event).encode())


RUN, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


@st.composite
def histories(draw) -> list[dict]:
    """Events of a run and of its part, with times that may be equal, of several executions, on few datasets."""
    events = []
    for _ in range(draw(st.integers(1, 8))):
        is_part = draw(st.booleans())
        kind = draw(st.sampled_from(["START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER"]))
        second = draw(st.integers(0, 5))
        ours = {"execution": draw(st.integers(1, 2)), "pipeline_id": "orders", "attempt": draw(st.integers(1, 2))}
        facets = {"aiflow_run": {"_producer": "urn:test", "_schemaURL": "urn:x", **ours}}
        if is_part:
            facets |= parent_of(RUN, "orders")
        if draw(st.booleans()):
            facets["aiflow_reconciled"] = {"_producer": "urn:test", "_schemaURL": "urn:x", "from": "airflow"}
        measured = {"outputFacets": {"outputStatistics": facet("OutputStatisticsOutputDatasetFacet", rowCount=second)}}
        outputs = [
            {**dataset(name), **(measured if draw(st.booleans()) else {})}
            for name in draw(st.sets(st.sampled_from("abc")))
        ]
        minute = draw(st.integers(0, 20))
        at = f"2026-11-20T10:{minute:02}:{second:02}Z"
        run_id = OTHER if is_part else RUN
        events.append(run_event(kind, run_id=run_id, at=at, run_facets=facets, outputs=outputs, inputs=["z"]))
    return events


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A database file without a row, to be copied."""
    path = tmp_path_factory.mktemp("template") / "service.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    return path


def rows_of(file: Path, batches: list[list[dict]]) -> list:
    """What is derived of events, written in these groups; without numbers that are given in order of arrival."""
    database = open_database(f"sqlite:///{file}")
    writer = GroupWriter(database)
    for batch in batches:
        writer.write([Submission(event, 1, 0) for event in map(read, batch)])
    hidden = {"id", "changed", "job_id", "project_id", "dataset_id", "namespace_id", "target_id", "source_id"}
    with database.reading() as connection:
        told = []
        for table in (runs, edges, dataset_names, columns, column_edges):
            shown = [column for column in table.c if column.name not in hidden]
            told.append(sorted(map(repr, connection.execute(sa.select(*shown)))))
    database.close()
    return told


@settings(max_examples=100)
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_with_repeats_folds_to_the_same_run(events, random) -> None:
    folds = [RunFold.of_event(read(event)) for event in events if event["run"]["runId"] == RUN]
    folds += [RunFold.of_part(e, e.parent) for e in map(read, events) if e.parent]
    if not folds:
        return

    def together(order):
        fold = order[0]
        for one in order[1:]:
            fold = RunFold.from_bytes(fold.to_bytes()).merge(one)
        return fold

    shuffled = folds + random.choices(folds, k=len(folds))
    random.shuffle(shuffled)
    middle = len(shuffled) // 2
    halves = together(shuffled[: middle + 1]).merge(together(shuffled[middle:]))
    assert together(folds).to_bytes() == together(shuffled).to_bytes() == halves.to_bytes()


@settings(max_examples=8)
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_with_repeats_gives_the_same_rows(template, events, random) -> None:
    shuffled = events + random.choices(events, k=2)
    random.shuffle(shuffled)
    cut = random.randrange(len(shuffled))
    one = rows_of(copy(template, template.with_name("one.db")), [events])
    other = rows_of(copy(template, template.with_name("other.db")), [shuffled[:cut], shuffled[cut:]])
    assert one == other


def test_pages_of_runs_skip_and_repeat_nothing_while_runs_are_added(service: Service) -> None:
    name = unique("pages")
    expected = set()
    for number in range(40):
        event = run_event(job=name, at=f"2026-11-20T10:00:{number // 4:02}Z")  # several of one moment
        expected.add(event["run"]["runId"])
        service.send(event)
    seen = []
    for number, run in enumerate(service.pages("/api/v1/runs", pipeline=name, limit=7)):
        seen.append(run["run_id"])
        service.send(run_event(job=name, at=f"2026-11-20T11:00:{number:02}Z"))  # newer: before the first page
    assert len(seen) == len(set(seen))
    assert set(seen) == expected


def test_a_page_is_looked_up_by_its_runs_and_not_through_all_of_the_team(template) -> None:
    """Of all 200,000 runs of a team SQLite read the half for each page: 20 ms, whatever was asked."""
    database = open_database(f"sqlite:///{template}")
    said: list[tuple[str, Any]] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *told: said.append((told[2], told[3])))
    with database.reading() as connection:
        list_runs(connection, Scope(frozenset({2})), RunFilter(), before=None, limit=50)
        shown, given = next((text, given) for text, given in said if "JOIN jobs" in text)
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {shown}", given).all()
    database.close()
    assert [step.detail for step in plan if "SEARCH runs" in step.detail] == [
        "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)"
    ]


def test_runs_are_filtered(service: Service) -> None:
    name = unique("filtered")
    for kind, hour in (("COMPLETE", 8), ("FAIL", 9), ("START", 10)):
        service.send(run_event(kind, job=name, at=f"2026-11-20T{hour:02}:00:00Z"))

    def states(**query) -> list[str]:
        return [one["state"] for one in service.get("/api/v1/runs", pipeline=name, **query)["items"]]

    assert states() == ["running", "failed", "succeeded"]
    assert states(state="failed") == ["failed"]
    assert states(since="2026-11-20T09:00:00Z") == ["running", "failed"]
    assert states(until="2026-11-20T09:00:00+00:00") == ["succeeded"]
    assert states(environment="prod") == []


def test_an_etag_saves_the_second_answer(service: Service) -> None:
    event = run_event()
    service.send(event)
    path = f"/api/v1/runs/{event['run']['runId']}"
    tag = service.request("GET", path).headers["etag"]
    assert service.request("GET", path, headers={"If-None-Match": tag}).status == 304
    service.send({**event, "eventTime": "2026-11-20T10:00:01Z"})
    assert service.request("GET", path, headers={"If-None-Match": tag}).status == 200


def test_live_runs_go_on_where_a_listener_left_off(service: Service) -> None:
    import http.client

    def listen(last: str | None, count: int, act=lambda: None) -> list[tuple[str, dict]]:
        connection = http.client.HTTPConnection(service.host, service.port, timeout=20)
        connection.request("GET", "/api/v1/runs/live", headers={"Last-Event-ID": last} if last else {})
        response = connection.getresponse()
        assert response.getheader("content-type").startswith("text/event-stream")
        assert response.readline() == b"retry: 2000\n"
        act()
        found, number = [], ""
        while len(found) < count:
            line = response.readline().decode().strip()
            if line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
        connection.close()
        return found

    first = run_event("START", job=unique("live"))
    ((number, told),) = listen(None, 1, lambda: service.send(first))
    assert (told["run_id"], told["state"]) == (first["run"]["runId"], "running")
    service.send(run_event(run_id=first["run"]["runId"], job=first["job"]["name"], at="2026-11-20T10:00:05Z"))
    ((_, told),) = listen(number, 1)
    assert (told["run_id"], told["state"]) == (first["run"]["runId"], "succeeded")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/runs/nope", 404, "not-found"),
        ("/api/v1/runs/%00", 422, "parameter-invalid"),
        ("/api/v1/runs?limit=0", 422, "parameter-invalid"),
        ("/api/v1/runs?cursor=!!", 422, "cursor-invalid"),
        ("/api/v1/runs?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS4x", 422, "cursor-invalid"),
        ("/api/v1/runs?since=yesterday", 422, "parameter-invalid"),
        ("/api/v1/runs?since=2026-11-20", 422, "parameter-invalid"),
        ("/api/v1/runs?state=odd", 422, "parameter-invalid"),
        ("/api/v1/runs?pipeline=%00", 422, "parameter-invalid"),
        ("/api/v1/events?run=%00", 422, "parameter-invalid"),
        ("/api/v1/lineage/refused?code=%00", 422, "parameter-invalid"),
        ("/api/v1/jobs/99999999", 404, "not-found"),
        ("/api/v1/datasets/99999999999999999999", 422, "parameter-invalid"),
        ("/api/v1/nothing", 404, "not-found"),
    ],
)
def test_a_wrong_question_is_answered_with_a_problem(service: Service, path: str, status: int, code: str) -> None:
    answer = service.request("GET", path)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-trace-id"]
