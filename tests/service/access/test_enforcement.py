"""What a team may not read or write is refused: by tasks as they start, by deployments, before a run is started."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import deploy_project, open_bundles, record_releases, refuse_ungranted
from aiflow_sdk.errors import AccessError, Where
from aiflow_sdk.plan import make_run, read_plan
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.runtime import bound_environment, execute_task
from aiflow_sdk.runtime.grants import FRESH_SECONDS, Gate
from aiflow_sdk.service import Service, Touch
from receiver import running
from service_trial import unique

PIPELINE = """
from pathlib import Path
from aiflow_sdk import pipeline, sink, source

def note(numbers):
    Path("called").touch()
    return numbers

@pipeline(id="p", owner="ana", params={{"table": "{other}.params"}})
def flow(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    p.write(numbers.transform(id="note", fn=note), sink.onelake(id="out", table="{table}"))

@pipeline(id="late", owner="ana", params={{"table": "{other}.orders"}})
def late(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    p.write(numbers, sink.onelake(id="out", table="{{{{ params.table }}}}"))
"""


@pytest.fixture
def company(_companies):
    """The company on SQLite: what the service says is tried on both, what follows from it is the SDK's."""
    return _companies("sqlite")


class Scene:
    """A project of our team that writes into a table of theirs."""

    def __init__(self, company, root: Path) -> None:
        self.company, self.root = company, root
        self.ours, self.theirs = company.team("ours"), company.team("theirs")
        self.other = unique("theirs")
        self.table = f"{self.other}.orders"
        company.person(self.theirs).send(outputs=[self.table])
        (root / "pipelines").mkdir(parents=True)
        self.settle_on(company.service.address)
        (root / "pipelines" / "p.py").write_text(PIPELINE.format(table=self.table, other=self.other))
        (root / "numbers.csv").write_text("n\n1\n2\n")
        (root / "requirements.lock").write_text("polars==2.1.0\naiflow-sdk==0.1.0\n")
        self.token = company.person(self.ours).secret

    def settle_on(self, address: str, more: str = "") -> None:
        (self.root / "aiflow.toml").write_text(
            f'lock = "requirements.lock"\n[environments.dev]\nservice = "{address}"\n'
            f'service_token = "secret://service"\n{more}'
        )

    def grant(self) -> int:
        wanted = {"from_team": self.theirs, "to_team": self.ours, "dataset": self.table, "access": "write"}
        return self.company.person(self.theirs, "owner").do("POST", "/api/v1/grants", wanted)["id"]

    def revoke(self, number: int) -> None:
        self.company.person(self.theirs, "owner").do("DELETE", f"/api/v1/grants/{number}")

    def plan(self, pipeline: str = "p"):
        assert main(["-C", str(self.root), "compile", "--json"]) == 0
        return read_plan((self.root / f".aiflow/compiled/dev/default/{pipeline}/plan.json").read_bytes())

    def do(self, pipeline: str = "p", **params: str):
        """Do the pipeline's one task in this process."""
        plan = self.plan(pipeline)
        (task,) = plan.tasks
        return execute_task(plan, task.id, make_run(plan, params=params), root=self.root)

    @property
    def copy(self) -> Path:
        return self.root / ".aiflow/grants/dev/default/p.json"

    def age(self, seconds: float, *, asked_too: bool = True) -> None:
        """Make the copy on this machine older."""
        told = json.loads(self.copy.read_text())
        self.copy.write_text(json.dumps({**told, "made_at": told["made_at"] - seconds}))
        if asked_too:
            os.utime(self.copy, (time.time() - seconds,) * 2)


@pytest.fixture
def scene(company, tmp_path, monkeypatch):
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    found = Scene(company, tmp_path / "project")
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", found.token)
    return found


def refused(scene, **more) -> AccessError:
    with pytest.raises(AccessError) as caught:
        scene.do(**more)
    return caught.value


def test_a_run_is_refused_before_its_code_and_done_once_the_grant_is_there(scene, capsys):
    assert main(["-C", str(scene.root), "run", "p", "--json"]) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (error,) = told[-1]["errors"]
    assert (error["code"], error["retryable"]) == ("no-grant", False)
    assert f"aiflow grant add {scene.table} --to {scene.ours} --access write" in error["hint"]
    assert error["where"]["path"] == "pipelines/p.py"
    assert scene.theirs.removesuffix("x") not in json.dumps(error).replace(scene.other, "")
    assert not (scene.root / "called").exists()
    assert not (scene.root / ".aiflow/lake" / scene.other).exists()
    scene.grant()
    assert main(["-C", str(scene.root), "run", "p", "--json"]) == 0


DATED = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="known", owner="ana", partition="day")
def known(p):
    p.write(p.read(source.files(id="numbers", path="numbers.csv")),
            sink.files(id="out", path="{other}/orders/dt={{{{ ds }}}}", format="csv"))

@pipeline(id="told", owner="ana", partition="day", params={{"name": "orders"}})
def told(p):
    p.write(p.read(source.files(id="numbers", path="numbers.csv")),
            sink.files(id="out", path="{other}/{{{{ params.name }}}}/dt={{{{ ds }}}}", format="csv"))
"""


@pytest.mark.parametrize("pipeline", ["known", "told"])
def test_files_by_days_are_whose_their_dataset_is(scene, pipeline):
    (scene.root / "pipelines" / "p.py").write_text(DATED.format(other=scene.other))

    def do(day: str) -> str:
        plan = scene.plan(pipeline)
        (task,) = plan.tasks
        result = execute_task(plan, task.id, make_run(plan, partition=day), root=scene.root)
        return result.node("out").dataset[1]

    with pytest.raises(AccessError) as caught:
        do("2026-11-20")
    assert f"aiflow grant add {scene.table} --to" in caught.value.hint
    grant = scene.grant()
    assert {do("2026-11-20"), do("2026-11-21")} == {scene.table}
    scene.revoke(grant)


def test_a_fresh_copy_is_all_that_is_looked_at_and_a_revocation_counts_once_it_is_not(scene):
    grant = scene.grant()
    scene.do()
    scene.revoke(grant)
    scene.do()
    scene.age(FRESH_SECONDS + 1)
    assert refused(scene).code == "no-grant"
    scene.grant()
    scene.do()


def test_a_silent_service_is_stood_for_by_a_copy_until_that_is_too_old(scene):
    scene.grant()
    scene.do()
    service = scene.company.service.address
    said = scene.copy.read_text()
    gone = "http://127.0.0.1:9"
    scene.settle_on(gone, "grants_keep_hours = 2\n")
    staged = scene.root / ".aiflow/lake/_staging/grants/default/p.json"
    for copy in (scene.copy, staged):
        copy.write_text(said.replace(service, gone))
    scene.age(3600)
    scene.do()
    assert time.time() - scene.copy.stat().st_mtime > FRESH_SECONDS - 60  # it is asked again soon, and not at once
    shutil.rmtree(scene.root / ".aiflow/grants")
    scene.do()  # a new worker finds the staging's
    staged.unlink()
    error = refused(scene)
    assert (error.code, error.retryable) == ("grants-unknown", True)
    scene.copy.parent.mkdir(parents=True)
    scene.copy.write_text(said.replace(service, gone))
    scene.age(2 * 3600 + 60)
    assert "older than 2 hours" in refused(scene).message
    scene.age(-5 * 3600)  # of the future
    assert refused(scene).code == "grants-unknown"


def test_a_grant_that_ends_is_not_gone_by_although_the_copy_is_fresh(scene):
    scene.grant()
    scene.do()
    told = json.loads(scene.copy.read_text())
    told["datasets"] = [[*one[:4], time.time() - 1] for one in told["datasets"]]
    scene.settle_on("http://127.0.0.1:9")
    scene.copy.write_text(json.dumps({**told, "service": "http://127.0.0.1:9"}))
    shutil.rmtree(scene.root / ".aiflow/lake/_staging/grants")
    assert refused(scene).code == "no-grant"


@pytest.mark.parametrize("text", ["", "{}", "[", '{"service": 1}', "null", '{"datasets": [[1]]}', "\x00"])
def test_a_damaged_copy_is_asked_for_again(scene, text):
    scene.grant()
    scene.copy.parent.mkdir(parents=True)
    scene.copy.write_text(text)
    scene.do()
    assert json.loads(scene.copy.read_text())["team"] == scene.ours


def test_a_name_that_the_run_decides_is_asked_for_too(scene):
    assert refused(scene, pipeline="late").code == "no-grant"
    scene.do("late", table=f"{unique('mine')}.orders")


def test_a_token_that_is_revoked_or_may_not_run_things_tells_nothing(scene, monkeypatch):
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", scene.company.person(scene.ours, "viewer").secret)
    assert "this takes the role operator" in refused(scene).message
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", "aiflow_unknown")
    assert refused(scene).code == "grants-unknown"
    monkeypatch.delenv("AIFLOW_SECRET_SERVICE")
    assert "AIFLOW_SECRET_SERVICE" in refused(scene).notes[0]


def test_without_a_service_or_a_token_nobody_is_asked(scene):
    (scene.root / "aiflow.toml").write_text("[environments.dev]\n")
    scene.do()
    (scene.root / "aiflow.toml").write_text('[environments.dev]\nservice = "http://127.0.0.1:9"\n')
    scene.do()
    assert not scene.copy.exists()


def test_a_service_that_keeps_no_grants_is_asked_once_and_lets_all_pass(scene):
    with running() as receiver:
        scene.settle_on(receiver.url)
        scene.do()
        asked = [path for path, _, _ in receiver.requests if "grants" in path]
        scene.do()
    assert len(asked) == 1
    assert [path for path, _, _ in receiver.requests if "grants" in path] == asked
    scene.do()


@pytest.mark.parametrize(
    "told", [{}, {"team": "ours"}, {"team": "ours", "datasets": [1]}], ids=["", "team", "no-dataset"]
)
def test_an_answer_that_is_none_is_no_leave(scene, told):
    with running() as receiver:
        scene.settle_on(receiver.url)
        receiver.answers = [(200, {}, told)] * 9
        assert refused(scene).code == "grants-unknown"


def test_a_deployment_is_refused_with_every_dataset_and_nothing_is_published(scene):
    project = load_project(scene.root)
    environment = project.environment()
    report = deploy_project(project, environment, installed_registry())
    assert report.publication is None
    (problem,) = report.problems
    assert (problem.code, problem.where.path) == ("no-grant", "pipelines/p.py")
    assert not open_bundles(environment).releases()
    away = replace(environment, service="http://127.0.0.1:9")
    report = deploy_project(project, away, installed_registry())
    assert report.publication is not None
    assert any("asked as tasks start" in note for note in report.notes)


def test_a_run_in_airflow_is_not_started_that_its_tasks_would_refuse(scene):
    project = load_project(scene.root)
    environment = project.environment()
    grant = scene.grant()
    assert deploy_project(project, environment, installed_registry()).problems == ()
    assert record_releases(Service(environment), open_bundles(environment), project.name).problems == []
    version = scene.plan().version.rpartition(":")[2][:12]
    assert refuse_ungranted(environment, "default", "p", version) is None
    scene.revoke(grant)
    with pytest.raises(AccessError, match="may not write"):
        refuse_ungranted(environment, "default", "p", version)
    assert refuse_ungranted(environment, "default", "unheard-of", version) is None
    assert "asked as tasks start" in (
        refuse_ungranted(replace(environment, service="http://127.0.0.1:9"), "default", "p", version) or ""
    )


def test_the_check_of_a_fresh_copy_takes_a_moment(scene):
    scene.grant()
    scene.do()
    plan = scene.plan()
    gate = Gate.of(plan, bound_environment(plan, scene.root), scene.root)
    assert gate is not None
    touches = {Touch("onelake", scene.table, "write"): Where()}
    began = time.process_time()
    for _ in range(200):
        gate.check(touches)
    assert (time.process_time() - began) / 200 < 0.05
