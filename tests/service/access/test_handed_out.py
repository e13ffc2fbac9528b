"""Settings that the service hands out: asked for where something is compiled or run, kept, refused where wrong."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from access_trial import Person
from aiflow_sdk.cli import main
from aiflow_sdk.cli.command_line import Invocation
from aiflow_sdk.config import load_project
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.service import configure, configure_offline
from aiflow_sdk.service.logins import forget_login, keep_login, keep_signed_login, logins_file
from aiflow_sdk.service.provider import Provider, Tokens
from service_trial import unique, wait_until

GONE = "http://127.0.0.1:9"
SECRET = "hunter2-never-shown"
PIPELINE = """
from aiflow_sdk import pipeline, resources, sink, source

@pipeline(id="p", owner="ana")
def flow(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    on = resources.python(cluster="{cluster}")
    made = numbers.transform(id="made", fn="jobs:make", engine="python", resources=on)
    p.write(made, sink.onelake(id="out", table="raw.made"))
"""


@pytest.fixture
def company(_companies):
    return _companies("sqlite")


class Scene:
    """A project whose environment `prod` (read by `stage`) has its settings of the service."""

    def __init__(self, company, root: Path, capsys) -> None:
        self.company, self.root, self._capsys = company, root, capsys
        self.team = company.team()
        self.editor = company.person(self.team)
        self.address = company.service.address
        (root / "pipelines").mkdir(parents=True)
        (root / "numbers.csv").write_text("n\n1\n2\n")
        (root / "jobs.py").write_text("import polars as pl\n\ndef make(frame: pl.DataFrame):\n    return frame\n")
        (root / "requirements.lock").write_text("polars==2.1.0\naiflow-sdk==0.1.0\n")
        self.write("big")
        self.settle()

    def write(self, cluster: str) -> None:
        (self.root / "pipelines" / "p.py").write_text(PIPELINE.format(cluster=cluster))

    def settle(self, address: str | None = None, more: str = "", lake: str = "lake") -> None:
        shared = f'service = "{address or self.address}"\nconfiguration_from_service = true\n'
        (self.root / "aiflow.toml").write_text(
            f'project = "shop"\nlock = "requirements.lock"\ndefault_environment = "prod"\n'
            f'[environments.stage]\n{shared}lake = "stage"\nreads_from = "prod"\n'
            f'[environments.prod]\n{shared}lake = "{lake}"\n{more}'
        )

    def set(self, kind: str, name: str, value, environment: str = "prod", person=None) -> None:
        path = f"/api/v1/environments/{environment}/configuration/{kind}/{name}"
        (person or self.editor).do("PUT", path, {"value": value})

    def typed(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        ended = main(["-C", str(self.root), *words])
        told = self._capsys.readouterr()
        assert ended == code, told
        assert SECRET not in told.out + told.err
        return told.out + told.err

    def data(self, *words: str, code: int = 0):
        text = self.typed(*words, "--json", code=code)
        return json.loads("\n".join(line for line in text.splitlines() if not line.startswith("note: ")))

    def plan(self, environment: str = "prod") -> dict:
        self.typed("compile", "--env", environment)
        file = self.root / f".aiflow/compiled/{environment}/shop/p/plan.json"
        return json.loads(file.read_text())

    def problem(self, *words: str) -> dict:
        told = self.data(*(words or ("compile",)), code=1)
        return told["error"] if "error" in told else told["problems"][0]

    @property
    def copy(self) -> Path:
        return self.root / ".aiflow/configuration/prod.json"

    def age(self, hours: float) -> None:
        told = json.loads(self.copy.read_text())
        self.copy.write_text(json.dumps({**told, "service": GONE, "made_at": time.time() - 3600 * hours}))

    def configured(self, environment: str = "prod"):
        notes: list[str] = []
        project = configure(load_project(self.root), environment, notes.append)
        return project.environment(environment), notes


@pytest.fixture
def scene(company, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found = Scene(company, tmp_path / "project", capsys)
    keep_login(found.address, found.editor.secret)
    return found


def test_a_missing_connection_is_named_with_what_to_type(scene):
    error = scene.problem()
    assert (error["code"], error["where"]["path"]) == ("unknown-cluster", "pipelines/p.py")
    assert "aiflow connection set clusters.big kind=… --env prod" in error["hint"]
    assert f"no connection 'clusters.big' is handed out by {scene.address}" in error["notes"]


def test_what_is_handed_out_stands_in_the_plan_with_its_version_and_changes_no_pipelines_version(scene):
    scene.write("local")
    before = scene.plan()
    assert before["environment"]["configuration"] == []
    scene.write("big")
    scene.set("connection", "clusters.big", {"kind": "local"})
    scene.set("connection", "clusters.unused", {"kind": "local"})
    scene.set("connection", "shop_db", {"host": "db.internal"})
    scene.set("variable", "spark", "sc://one:15002")
    scene.set("variable", "spark", "sc://two:15002")
    plan = scene.plan()
    told = plan["environment"]["configuration"]
    assert [(one["kind"], one["name"], one["version"], one["team"]) for one in told] == [
        ("connection", "clusters.big", 1, scene.team),
        ("variable", "spark", 2, scene.team),
    ]
    assert plan["environment"]["spark"] == "sc://two:15002"
    assert plan["environment"]["clusters"] == {"big": {"kind": "local"}}
    scene.set("variable", "spark", "sc://three:15002")
    assert scene.plan()["version"] == plan["version"]
    assert [one["changed"] for one in scene.data("compile")["pipelines"]] == [False]
    assert "shop_db" not in scene.copy.read_text()
    assert stat.S_IMODE(scene.copy.stat().st_mode) == 0o600


def test_what_aiflow_toml_states_counts_whole(scene):
    scene.set("connection", "clusters.big", {"kind": "nonsense"})
    scene.set("variable", "spark", "sc://service:15002")
    scene.set("variable", "grants_keep_hours", 5)
    scene.settle(more='spark = "sc://hand:15002"\nclusters = { big = { kind = "local" } }\n')
    environment, _ = scene.configured()
    assert (environment.spark, environment.grants_keep_hours) == ("sc://hand:15002", 5)
    assert [one.name for one in environment.handed_out] == ["grants_keep_hours"]
    said = scene.typed("doctor", "--no-spark")
    assert "spark: aiflow.toml:" in said
    assert "clusters.big: aiflow.toml:" in said
    assert f"grants_keep_hours: variable of the team '{scene.team}', version 1" in said
    assert scene.data("env", "list")[1]["handed_out"][0]["name"] == "grants_keep_hours"
    assert "grants_keep_hours v1" in scene.typed("env")


def test_an_environment_that_is_read_from_has_its_own_and_a_copy_of_dev_that_of_dev(scene):
    scene.settle(lake="s3://bucket/prod")
    options = {"endpoint": "http://127.0.0.1:1", "region": "eu", "secret_access_key": "secret://lake/key"}
    scene.set("connection", "storage", options)
    scene.set("connection", "clusters.big", {"kind": "local"})
    scene.set("connection", "clusters.big", {"kind": "local"}, "stage")
    environment, _ = scene.configured("stage")
    assert environment.storage == {}
    (read,) = environment.reads
    assert read.storage == options
    told = [(one["environment"], one["name"]) for one in scene.plan("stage")["environment"]["configuration"]]
    assert told == [("prod", "storage"), ("stage", "clusters.big")]
    settings = (scene.root / "aiflow.toml").read_text().replace("environments.stage", "environments.dev")
    (scene.root / "aiflow.toml").write_text(settings)
    scene.set("variable", "spark", "sc://dev:1", "dev")
    assert scene.configured("dev-ana")[0].spark == "sc://dev:1"


def test_a_run_tells_which_version_it_went_by(scene, monkeypatch):
    scene.set("connection", "clusters.big", {"kind": "local"})
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", scene.company.person(scene.team, "operator").secret)
    scene.settle(more='service_token = "secret://service"\n')
    told = [json.loads(line) for line in scene.typed("run", "p", "--json").splitlines()]
    run_id = next(one["run_id"] for one in told if "run_id" in one)
    expected = {"environment": "prod", "kind": "connection", "name": "clusters.big", "version": 1, "team": scene.team}
    story = f"/api/v1/runs/{run_id}"
    wait_until(lambda: scene.editor.ask("GET", story).status == 200)
    assert scene.editor.get(story)["configuration"] == [expected]


def test_a_silent_service_is_stood_for_by_the_copy_until_that_is_too_old(scene):
    scene.set("connection", "clusters.big", {"kind": "local"})
    scene.plan()
    scene.settle(GONE, "configuration_keep_hours = 5\n")
    keep_login(GONE, scene.editor.secret)
    error = scene.problem()  # what another service said
    assert (error["code"], error["retryable"]) == ("configuration-unknown", True)
    assert "never heard here" in error["message"]
    assert error["where"]["path"] == "aiflow.toml"
    scene.age(3)
    said = scene.typed("compile")
    assert "handed out for 'prod' 3 hours ago, as long as that is no older than 5 hours" in said
    scene.age(7)
    assert "7 hours old, and may be 5 hours" in scene.problem()["message"]
    told = [json.loads(line) for line in scene.typed("run", "p", "--json", code=1).splitlines()]
    assert told[-1]["error"]["code"] == "configuration-unknown"
    assert "no error in 1 pipeline" in scene.typed("check")  # which looks, however old it is
    assert "configuration_keep_hours" in scene.typed("deploy", "--list")
    scene.age(-9)
    assert "of the future" in scene.problem()["message"]
    for damaged in ("", "[", "null", "[]", '{"service": 1}', '{"items": [1]}', "[" * 100_000):
        scene.copy.write_text(damaged)
        assert scene.problem()["code"] == "configuration-unknown"
    scene.copy.unlink()
    assert "goes by aiflow.toml alone" in scene.typed("check", code=1)


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("connection", "clusters.big", {"host": "x"}, "needs a kind"),
        ("connection", "clusters.big", {"kind": 7}, "needs a kind"),
        ("connection", "clusters.big", {"kind": "nonsense"}, "unknown cluster 'nonsense'"),
        ("connection", "storage", {"region": "eu"}, "has the option 'region'"),
        ("connection", "listeners.service", {"kind": "openlineage"}, "is what the setting service stands for"),
        ("variable", "spark", "http://x", "holds an address sc://…"),
        ("variable", "grants_keep_hours", -1, "holds a number above 0"),
        ("variable", "grants_keep_hours", True, "holds a number above 0"),
    ],
)
def test_what_is_no_setting_is_told_with_its_place_and_what_to_type(scene, kind, name, value, message):
    if name != "clusters.big":
        scene.set("connection", "clusters.big", {"kind": "local"})
    scene.set(kind, name, value)
    error = scene.problem()
    assert message in error["message"], error
    assert f"{kind} '{name}', version 1 of the team '{scene.team}', environment 'prod'" in error["where"]["about"]
    if error["code"] == "bad-configuration":
        assert f"aiflow {kind} set {name}" in error["hint"]
        assert ("--type number" in error["hint"]) == (name == "grants_keep_hours")


def test_who_may_not_ask_is_told_so_and_no_copy_hides_it(scene):
    scene.set("connection", "clusters.big", {"kind": "local"})
    scene.plan()
    keep_login(scene.address, "aiflow_unknown")
    error = scene.problem()
    assert (error["code"], "aiflow login" in error["hint"]) == ("service-answer", True)
    assert "aiflow_unknown" not in json.dumps(error)
    scene.settle(more='service_token = "secret://absent"\n')
    assert scene.problem()["code"] == "unknown-secret"


def test_who_looks_goes_by_the_copy_where_a_login_is_over_or_not_safe(scene):
    issuer, subject = scene.company.provider.issuer, unique("ana")
    token = scene.company.provider.token(sub=subject, groups=["data-eng"])
    scene.set("connection", "clusters.big", {"kind": "local"}, person=Person(scene.company.service, token))
    provider = Provider(issuer, "aiflow", issuer, issuer)
    keep_signed_login(scene.address, provider, Tokens(token, time.time() + 3600, subject))
    scene.plan()
    keep_signed_login(scene.address, provider, Tokens("a.b.c", time.time() - 1, subject))
    assert scene.problem()["code"] == "login-over"
    assert "no error in 1 pipeline" in scene.typed("check")
    assert "was over at" in scene.typed("deploy", "--list")
    logins_file().chmod(0o644)
    assert scene.problem()["code"] == "unsafe-login"
    assert "no error in 1 pipeline" in scene.typed("check")


def test_what_another_was_handed_out_stands_for_no_silent_service(scene, monkeypatch):
    scene.set("connection", "clusters.big", {"kind": "local"})
    scene.plan()
    assert scene.editor.secret not in scene.copy.read_text()
    scene.settle(GONE)
    scene.age(1)
    keep_login(GONE, scene.editor.secret)
    assert "1 error" not in scene.typed("compile")
    keep_login(GONE, scene.company.person(scene.company.team("other")).secret)
    assert "never heard here" in scene.problem()["message"]
    assert "goes by aiflow.toml alone" in scene.typed("check", code=1)
    forget_login(GONE)
    assert "no error in 1 pipeline" in scene.typed("check")
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", scene.editor.secret)
    scene.settle(GONE, more='service_token = "secret://service"\n')
    assert "never heard here" in scene.problem()["message"]


def test_of_several_teams_it_is_the_one_that_claims_the_project(scene):
    project = unique("shop")
    other = scene.company.team("other")
    scene.settle()
    text = (scene.root / "aiflow.toml").read_text().replace('project = "shop"', f'project = "{project}"')
    (scene.root / "aiflow.toml").write_text(text)
    name = unique("listeners.a")
    for team, address in ((scene.team, "https://ours"), (other, "https://theirs")):
        scene.set("connection", name, {"kind": "openlineage", "url": address}, person=scene.company.person(team))
    keep_login(scene.address, scene.company.admin.secret)
    assert name.partition(".")[2] not in scene.configured()[0].listeners
    scene.company.admin.do("POST", "/api/v1/claims", {"kind": "project", "name": project, "team": other})
    assert scene.configured()[0].listeners[name.partition(".")[2]]["url"] == "https://theirs"
    keep_login(scene.address, scene.editor.secret)
    assert scene.configured()[0].listeners[name.partition(".")[2]]["url"] == "https://ours"


def test_without_the_setting_nobody_is_asked_and_nothing_for_it_is_imported(scene):
    (scene.root / "aiflow.toml").write_text(f'[environments.prod]\nservice = "{GONE}"\n')
    project = load_project(scene.root)
    assert project.asking("prod") == ()
    assert configure(project, "prod", pytest.fail) is project
    code = (
        "import sys; from aiflow_sdk.cli import main; main(sys.argv[1:])\n"
        "print([one for one in sys.modules if one in ('http.client', 'aiflow_sdk.service.configuration')])"
    )
    command = [sys.executable, "-c", code, "-C", str(scene.root), "compile", "--env", "dev"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_a_setting_without_a_service_is_told(scene):
    (scene.root / "aiflow.toml").write_text("[environments.prod]\nconfiguration_from_service = true\n")
    with pytest.raises(AiflowError, match="stands without service"):
        load_project(scene.root)


@contextmanager
def answering(body: bytes, status: int = 200, headers: dict[str, str] | None = None):
    """A server that answers everything so; of an endless body (empty) as much as is read."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            length = len(body) or 100 << 20
            for name, value in {"Content-Length": str(length), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for _ in range(1 if body else 100):
                    self.wfile.write(body or b" " * (1 << 20))
            except OSError:
                return

        def log_message(self, *_) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(*items, following=None) -> bytes:
    return json.dumps({"items": items, "next": following}).encode()


ITEM = {"kind": "variable", "name": "spark", "version": 1, "team": "t", "value": "sc://x"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{}", "items is missing"),
        (b"[]", ""),
        (b"no json", ""),
        (b"[" * 100_000, ""),
        (page(1), "item 1: it is no object"),
        (page(ITEM, {}), "item 2: kind is missing"),
        (page({key: value for key, value in ITEM.items() if key != "value"}), "item 1: value is missing"),
        (page({**ITEM, "kind": "secret"}), "item 1: its kind"),
        (page({**ITEM, "kind": []}), "item 1: its kind"),
        (page({**ITEM, "name": 7}), "item 1: its name"),
        (page({**ITEM, "name": "spark\x1b[31m"}), "item 1: its name"),
        (page({**ITEM, "team": "t" * 300}), "item 1: its team"),
        (page({**ITEM, "version": True}), "item 1: its version"),
        (page({**ITEM, "version": "1"}), "item 1: its version"),
        (page({**ITEM, "environment": "dev"}), "item 1: its environment"),
        (page(following="again"), "more than 100 pages"),
        (b'{"items": {"a": 1}, "next": null}', "items is no list"),
        (b"", ""),
    ],
    ids=range(18),
)
def test_an_answer_that_is_none_is_told_in_a_clean_error_and_not_kept(scene, body, what):
    with answering(body) as (address, asked):
        scene.settle(address)
        error = scene.problem()
    assert error["code"] == "service-answer"
    assert what in error["message"]
    assert error["message"].isprintable()
    assert 1 <= len(asked) <= 100
    assert not scene.copy.exists()


def test_a_service_that_sends_elsewhere_is_not_followed(scene):
    with (
        answering(page(ITEM)) as (elsewhere, asked),
        answering(b"{}", 302, {"Location": f"{elsewhere}/x"}) as (address, _),
    ):
        scene.settle(address)
        assert "answered 302" in scene.problem()["message"]
    assert asked == []


@pytest.mark.parametrize(
    "value", [{"kind": "local", "password": SECRET}, {"kind": "local", "url": f"postgres://me:{SECRET}@db/x"}]
)
def test_a_secret_from_the_service_is_refused_unseen_and_unkept(scene, value):
    with answering(page({**ITEM, "kind": "connection", "name": "clusters.big", "value": value})) as (address, _):
        scene.settle(address)
        error = scene.problem()
    assert error["code"] == "literal-secret"
    assert not scene.copy.exists()


def test_one_name_of_two_teams_is_no_choice_of_ours(scene):
    with answering(page(ITEM, {**ITEM, "team": "other"})) as (address, _):
        scene.settle(address)
        assert "of two teams, 't' and 'other'" in scene.problem()["message"]


def test_what_a_silent_service_handed_out_is_known_offline(scene):
    scene.set("variable", "spark", "sc://x:1")
    scene.configured()
    scene.settle(GONE)
    scene.age(10_000)
    project = configure_offline(load_project(scene.root), "prod", pytest.fail)
    assert project.environment("prod").spark == "sc://x:1"


def test_a_command_is_configured_once_for_the_environments_that_it_names(scene):
    scene.set("variable", "spark", "sc://x:1")
    scene.configured()
    notes: list[str] = []
    invocation = Invocation(folder=scene.root)
    invocation.configure("offline", names=["stage", "prod", "dev"], tell=notes.append)
    assert invocation.project.environment("prod").spark == "sc://x:1"
    assert ["never heard" in one and "'stage'" in one for one in notes] == [True]
    once = invocation.project
    invocation.configure()
    assert invocation.project is once


def test_what_is_handed_out_is_no_matter_for_whether_an_airflow_is_there(scene):
    with answering(page(ITEM)) as (address, asked):
        scene.settle(address, more=f'airflow = "{GONE}"\n')
        assert "cannot be reached" in scene.typed("doctor", "--airflow", code=1)
    assert asked == []


def test_a_copy_that_cannot_be_written_is_said(scene):
    scene.set("connection", "clusters.big", {"kind": "local"})
    (scene.root / ".aiflow").mkdir(exist_ok=True)
    (scene.root / ".aiflow/configuration").write_text("")
    assert "nothing is kept for when the service is silent" in scene.typed("compile")
    assert os.path.isfile(scene.root / ".aiflow/configuration")
