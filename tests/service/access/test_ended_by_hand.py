"""A run of which nobody is left to tell the end is ended by an operator's word, and by its own word after all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.events import job_run_id
from service_trial import facet, unique, wait_until

SLEEPS = """
import time
from pathlib import Path

import polars as pl
from aiflow_sdk import pipeline, sink, source

def main(numbers: pl.DataFrame) -> pl.DataFrame:
    Path("sleeping").touch()
    time.sleep(600)

@pipeline(id="p", schedule=None, owner="o")
def p(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    p.write(numbers.transform(id="main", fn="pipelines.p:main"), sink.onelake(id="out", table="a.b"))
"""


class Typed:
    """What somebody types in an empty project of an environment, and what comes of it."""

    def __init__(self, root, address: str, environment: str, capsys) -> None:
        self.root, self.environment, self._capsys = root, environment, capsys
        root.mkdir()
        (root / "aiflow.toml").write_text(
            f'[environments.{environment}]\nservice = "{address}"\nservice_token = "secret://it"\n'
        )

    def sync(self, *words: str, code: int = 0):
        self._capsys.readouterr()
        command = ["-C", str(self.root), "--env", self.environment, "sync", *words, "--json"]
        assert main(command) == code, self._capsys.readouterr()
        told = json.loads(self._capsys.readouterr().out)
        return told["error"] if code else told


class Run:
    """A run with one attempt of a task, both begun."""

    def __init__(self, person, environment: str) -> None:
        self.person, self.environment = person, environment
        self.uid, self.job = str(uuid.uuid4()), unique("shop/p")
        self.attempt = job_run_id(self.uid, 1, "main", 1)
        self.tell("START")
        self.tell("START", attempt=1)

    def tell(self, kind: str, *, attempt: int | None = None, execution: int = 1, at: str = "2026-11-20T10:00:00Z"):
        ours: dict[str, Any] = {
            "pipeline_id": "p",
            "project": "shop",
            "environment": self.environment,
            "execution": execution,
        }
        of = {"namespace": f"aiflow/{self.environment}", "job": self.job}
        facets: dict[str, Any] = {}
        run_id = self.uid
        if attempt:
            ours |= {"task_id": "main", "attempt": attempt}
            whole: dict[str, Any] = {
                "run": {"runId": self.uid},
                "job": {"namespace": of["namespace"], "name": self.job},
            }
            facets["parent"] = facet("ParentRunFacet", "1-1-0", **whole)
            run_id, of["job"] = self.attempt, f"{self.job}/main"
        facets["aiflow_run"] = facet("run", run_id=self.uid, **ours)
        answer = self.person.send(event_type=kind, run_id=run_id, at=at, run_facets=facets, **of)
        assert answer.status == 201, answer

    def told(self):
        return self.person.get(f"/api/v1/runs/{self.uid}")


@pytest.fixture
def typed(company, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Typed(tmp_path / "elsewhere", company.service.address, unique("dev"), capsys)


def test_an_operator_ends_a_run_and_its_attempts_and_the_audit_says_who(company, typed, monkeypatch):
    team = company.team()
    operator = company.person(team, "operator")
    monkeypatch.setenv("AIFLOW_SECRET_IT", operator.secret)
    run, other = Run(operator, typed.environment), Run(operator, typed.environment)
    told = typed.sync("--end", run.uid[-12:])
    assert told == {"run_id": run.uid, "team": team, "state": "failed", "parts": 1}
    story = run.told()
    assert (story["state"], story["is_reconciled"], story["error"]["code"]) == ("failed", True, "ended-by-hand")
    ((attempt,),) = [task["attempts"] for task in story["tasks"]]
    assert (attempt["state"], attempt["is_reconciled"], attempt["parent_run_id"]) == ("failed", True, run.uid)
    assert (story["execution"], story["pipeline"], attempt["attempt"]) == (1, "p", 1)
    assert other.told()["state"] == "running"
    (row,) = company.admin.get("/api/v1/audit", action="run.ended", object_name=run.uid)["items"]
    assert (row["team"], row["environment"], row["result"]) == (team, typed.environment, "done")
    assert "operator-robot" in row["actor"]
    assert (row["details"]["pipeline"], row["details"]["parts"]) == ("p", 1)
    # What has ended is not ended again, and its end stands.
    error = typed.sync("--end", run.uid, code=1)
    assert (error["code"], "has failed at" in error["message"]) == ("run-ended", True)
    assert operator.ask("POST", f"/api/v1/runs/{run.uid}/end").json()["code"] == "run-ended"
    assert run.told()["ended_at"] == story["ended_at"]


def test_what_the_run_tells_of_itself_after_all_outdoes_it(company, typed, monkeypatch):
    operator = company.person(company.team(), "operator")
    monkeypatch.setenv("AIFLOW_SECRET_IT", operator.secret)
    run = Run(operator, typed.environment)
    typed.sync("--end", run.uid)
    run.tell("COMPLETE", attempt=1, at="2026-11-20T10:05:00Z")
    run.tell("COMPLETE", at="2026-11-20T10:05:00Z")  # long before it was ended here, and true
    story = run.told()
    assert (story["state"], story["is_reconciled"], story["error"]) == ("succeeded", False, None)
    assert [task["state"] for task in story["tasks"]] == ["succeeded"]
    # And one that is gone on with runs again.
    again = Run(operator, typed.environment)
    typed.sync("--end", again.uid)
    again.tell("START", execution=2, at="2026-11-20T10:06:00Z")
    assert again.told()["state"] == "running"
    typed.sync("--end", again.uid)
    assert (again.told()["state"], again.told()["execution"]) == ("failed", 2)


def test_what_is_not_there_or_elsewhere_or_several_is_told(company, typed, monkeypatch):
    operator = company.person(company.team(), "operator")
    monkeypatch.setenv("AIFLOW_SECRET_IT", operator.secret)
    error = typed.sync("--end", "feed", code=2)
    assert (error["code"], error["hint"]) == ("unknown-run", "it knows of none that is running there")
    run = Run(operator, typed.environment)
    for nothing in ("nothing", "", "a/../b", "ünï", str(uuid.uuid4())):
        error = typed.sync("--end", nothing, code=2)
        assert (error["code"], run.uid in error["hint"]) == ("unknown-run", True), nothing
    far = Run(operator, unique("prod"))
    error = typed.sync("--end", far.uid, code=2)
    assert (error["code"], far.environment in error["message"]) == ("unknown-run", True)
    while (twin := Run(operator, typed.environment)).uid[-1] != run.uid[-1]:
        pass
    error = typed.sync("--end", run.uid[-1], code=2)
    assert (error["code"], any(twin.uid in note for note in error["notes"])) == ("ambiguous-run", True)
    error = typed.sync("--end", run.uid, "--all", code=2)
    assert "--end" in error["message"]
    assert run.told()["state"] == "running"


def test_it_takes_the_role_operator_in_the_runs_team_and_environment(company, typed, monkeypatch):
    team = company.team()
    run = Run(company.person(team, "operator"), typed.environment)
    for role, environment in (("viewer", None), ("operator", unique("other"))):
        limited = {"environment": environment, "account": unique("robot")} if environment else {}
        person = company.person(team, role, **limited)
        monkeypatch.setenv("AIFLOW_SECRET_IT", person.secret)
        error = typed.sync("--end", run.uid, code=1)
        assert (error["code"], "answered 403" in error["message"]) == ("service-answer", True)
    stranger = company.person(company.team(), "owner")
    answer = stranger.ask("POST", f"/api/v1/runs/{run.uid}/end")
    assert (answer.status, answer.json()["code"]) == (404, "not-found")
    assert company.person(team, "viewer").get(f"/api/v1/runs/{run.uid}")["state"] == "running"
    denied = company.admin.get("/api/v1/audit", action="request.denied", team=team)["items"]
    assert any(one["object_name"] == "POST /api/v1/runs/{run_id}/end" for one in denied)
    assert company.admin.get("/api/v1/audit", action="run.ended", object_name=run.uid)["items"] == []


def test_a_run_that_a_process_of_this_machine_does_goes_on_wherever_its_folder_was(company, typed, monkeypatch):
    operator = company.person(company.team(), "operator")
    monkeypatch.setenv("AIFLOW_SECRET_IT", operator.secret)
    project = typed.root.parent / "project"
    (project / "pipelines").mkdir(parents=True)
    (project / "pipelines" / "p.py").write_text(SLEEPS)
    (project / "numbers.csv").write_text("n\n1\n")
    shutil.copy(typed.root / "aiflow.toml", project)
    command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(project), "--env", typed.environment, "run", "p"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)

    def running():
        return operator.get("/api/v1/runs", environment=typed.environment, state="running")["items"]

    try:
        wait_until(lambda: (project / "sleeping").exists() and running())
        (run,) = running()
        os.rename(project, project.with_name("removed"))
        error = typed.sync("--end", run["run_id"], code=1)
        assert (error["code"], "process of this machine" in error["message"]) == ("run-in-progress", True)
        shutil.rmtree(project.with_name("removed"))
        assert typed.sync("--end", run["run_id"], code=1)["code"] == "run-in-progress"
        assert running()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def is_ended() -> bool:
        # Its worker is a session of its own, which ends once it finds itself alone; until then the run goes on.
        code = subprocess.run(
            [*command[:3], "-C", str(typed.root), "--env", typed.environment, "sync", "--end", run["run_id"]],
            check=False,
            capture_output=True,
        ).returncode
        return code == 0

    wait_until(is_ended)
    assert running() == []
