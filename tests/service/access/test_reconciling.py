"""Runs in an Airflow of which an administrator, who sees all teams, tells the service."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aiflow_sdk.bundles.airflow import run_id_in_airflow
from aiflow_sdk.config import Environment
from aiflow_sdk.events import job_run_id
from aiflow_sdk.orchestrator import reconcile_runs
from aiflow_sdk.orchestrator.airflow import Airflow
from aiflow_sdk.service import Service
from service_trial import facet, unique

BEGAN, ENDED = "2026-11-20T10:01:00+00:00", "2026-11-20T10:09:00+00:00"
AFTER = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def company(_companies):
    return _companies("sqlite")


@contextmanager
def airflow_with(answers: dict[str, Any]) -> Iterator[str]:
    """Run a server that answers these paths below ``/api/v2/`` as an Airflow does, and no others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = answers.get(self.path.partition("?")[0].removeprefix("/api/v2/"))
            body = json.dumps(told).encode()
            self.send_response(404 if told is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_airflow_says_outdoes_who_ended_a_run_by_hand(company):
    project, environment = unique("shop"), unique("prod")
    dag_id, team = f"{project}.orders", company.team("ours")
    operator = company.person(team, "operator")
    about = {"project": project, "pipeline": "orders", "environment": environment, "version": "ab12", "tasks": {}}
    found: dict[str, Any] = {"dag_id": dag_id, "state": "running", "run_type": "manual", "run_after": AFTER.isoformat()}
    found |= {"start_date": BEGAN, "dag_run_id": "it"}
    run_id = run_id_in_airflow(dag_id, "it", AFTER)
    attempt_id = job_run_id(run_id, 1, "make", 1)
    told = {"pipeline_id": "orders", "project": project, "environment": environment, "execution": 1}
    of_run = {"namespace": f"aiflow/{environment}", "job": f"{project}/orders"}
    whole = {"run": {"runId": run_id}, "job": {"namespace": of_run["namespace"], "name": of_run["job"]}}
    facets = {"aiflow_run": facet("run", "1-0-0", **told)}
    of_attempt = {"aiflow_run": facet("run", "1-0-0", **told, task_id="make", attempt=1)}
    of_attempt["parent"] = facet("ParentRunFacet", "1-1-0", **whole)
    for one, some in ((run_id, facets), (attempt_id, of_attempt)):
        job = of_run | ({"job": f"{project}/orders/make"} if one == attempt_id else {})
        assert operator.send(event_type="START", run_id=one, at=BEGAN, run_facets=some, **job).status == 201
    operator.do("POST", f"/api/v1/runs/{run_id}/end")
    assert operator.get(f"/api/v1/runs/{run_id}")["state"] == "failed"
    task = {"task_id": "make", "try_number": 1, "state": "success", "start_date": BEGAN, "end_date": ENDED}
    answers: dict[str, Any] = {
        "version": {"version": "3.3.2"},
        f"dags/{dag_id}/details": {"default_args": {"aiflow": {**about, "partition": None, "timezone": "UTC"}}},
        "dags/~/dagRuns": {"dag_runs": [found], "total_entries": 1},
        f"dags/{dag_id}/dagRuns/it/taskInstances": {"task_instances": [task], "total_entries": 1},
    }
    answers[f"dags/{dag_id}/details"]["dag_id"] = dag_id
    with airflow_with(answers) as address:
        settings = Environment(name=environment, airflow=address, service=company.service.address)
        airflow, service = Airflow.open(settings), Service(settings, token=operator.secret)
        assert reconcile_runs(airflow, service, AFTER).runs == []  # it goes on there, which ends nothing
        found |= {"state": "success", "end_date": ENDED}
        assert reconcile_runs(airflow, service, AFTER).runs == [run_id]
        assert reconcile_runs(airflow, service, AFTER).runs == []
    story = operator.get(f"/api/v1/runs/{run_id}")
    assert (story["state"], story["is_reconciled"], story["error"]) == ("succeeded", True, None)
    assert [one["state"] for one in story["tasks"]] == ["succeeded"]


def test_a_strangers_run_of_the_same_id_neither_stops_it_nor_stands_for_the_projects_own(company):
    project, environment = unique("shop"), unique("prod")
    ours, theirs = company.team("ours"), company.team("theirs")
    company.admin.do("POST", "/api/v1/claims", {"kind": "project", "name": project, "team": ours})
    dag_id, of_run = f"{project}.orders", {"namespace": f"aiflow/{environment}", "job": f"{project}/orders"}
    about = {"project": project, "pipeline": "orders", "environment": environment, "version": "ab12", "tasks": {}}
    found = {"dag_id": dag_id, "state": "success", "run_type": "manual", "run_after": AFTER.isoformat()}
    times = {"start_date": BEGAN, "end_date": ENDED}
    dag_runs = [{**found, **times, "dag_run_id": name} for name in ("began", "unheard")]
    began, unheard = (run_id_in_airflow(dag_id, one["dag_run_id"], AFTER) for one in dag_runs)
    told = {"pipeline_id": "orders", "project": project, "environment": environment, "execution": 1}
    facets = {"aiflow_run": facet("run", "1-0-0", **told)}
    for team, kind, run_id in ((ours, "START", began), (theirs, "FAIL", began), (theirs, "START", unheard)):
        sent = company.person(team, "operator").send(
            event_type=kind, run_id=run_id, at="2026-11-20T10:02:00Z", run_facets=facets, **of_run
        )
        assert sent.status == 201
    details = {"dag_id": dag_id, "default_args": {"aiflow": {**about, "partition": None, "timezone": "UTC"}}}
    answers: dict[str, Any] = {
        "version": {"version": "3.3.2"},
        f"dags/{dag_id}/details": details,
        "dags/~/dagRuns": {"dag_runs": dag_runs, "total_entries": 2},
    }
    for one in dag_runs:
        none = {"task_instances": [], "total_entries": 0}
        answers[f"dags/{dag_id}/dagRuns/{one['dag_run_id']}/taskInstances"] = none
    with airflow_with(answers) as address:
        settings = Environment(name=environment, airflow=address, service=company.service.address)
        airflow, service = Airflow.open(settings), Service(settings, token=company.admin.secret)
        assert sorted(reconcile_runs(airflow, service, AFTER).runs) == sorted([began, unheard])
        assert reconcile_runs(airflow, service, AFTER).runs == []
        answers["dags/~/dagRuns"] = {"dag_runs": [], "total_entries": 0}
        answers[f"dags/{dag_id}/dagRuns"] = {"dag_runs": dag_runs, "total_entries": 2}
        assert reconcile_runs(airflow, service, AFTER).runs == []  # theirs runs on, and is not ours to tell of
    states = {
        (team, run_id): company.admin.get(f"/api/v1/runs/{run_id}", team=team)["state"]
        for team in (ours, theirs)
        for run_id in (began, unheard)
    }
    assert states == {
        (ours, began): "succeeded",
        (ours, unheard): "succeeded",
        (theirs, began): "failed",
        (theirs, unheard): "running",
    }
