"""``aiflow connection`` and ``aiflow variable``, against the real service."""

import json
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.service.logins import keep_login
from service_trial import unique

SECRET = "hunter2-never-shown"


@pytest.fixture(scope="module")
def company(_companies):
    return _companies("sqlite")


@pytest.fixture
def project(company, tmp_path, monkeypatch) -> Path:
    """A project whose user is an editor of a team of their own; the environment is nobody else's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "project"
    root.mkdir()
    (root / "aiflow.toml").write_text(
        f'default_environment = "prod"\n[environments.prod]\nservice = "{company.service.address}"\n'
    )
    keep_login(company.service.address, company.person(company.team(), "editor").secret)
    return root


@pytest.fixture
def typed(project, capsys, monkeypatch):
    def call(*words: str, code: int = 0, given: str | bytes = "") -> str:
        file = project.parent / "given"
        file.write_bytes(given if isinstance(given, bytes) else given.encode())
        capsys.readouterr()
        with file.open(encoding="utf-8") as stdin, monkeypatch.context() as here:
            here.setattr("sys.stdin", stdin)
            ended = main(["-C", str(project), *words])
        told = capsys.readouterr()
        said = told.out + told.err
        assert ended == code, said
        assert SECRET not in said
        return said

    return call


@pytest.fixture
def data(typed):
    return lambda *words, **how: json.loads(typed("--json", *words, **how))


def test_a_connection_is_set_shown_listed_and_removed(typed, data):
    words = ("host=db.internal", "database=shop", "password=secret://shop_db")
    assert data("connection", "set", "shop_db", *words)["version"] == 1
    assert data("connection", "set", "shop_db", *words)["version"] == 1
    said = typed(
        "connection", "set", "shop_db", "host=db2.internal", "--file", "-", given='{"port": 5432, "host": "x"}'
    )
    assert said.splitlines() == [
        "connection 'shop_db' in prod is version 2",
        "  database is gone",
        "  password is gone",
        "  port = 5432",
        "  host = db2.internal",
    ]
    assert data("connection", "show", "shop_db")["value"] == {"port": 5432, "host": "db2.internal"}
    shown = typed("connection", "show", "shop_db").splitlines()
    assert shown[0].startswith("connection 'shop_db' of ")
    assert sorted(shown[1:]) == ["  host = db2.internal", "  port = 5432"]
    assert [one["version"] for one in data("connection", "show", "shop_db", "--versions")] == [2, 1]
    assert [one["name"] for one in data("connection", "list")] == ["shop_db"]
    assert "shop_db" in typed("connection")
    assert typed("variable").strip() == "no variables in prod"
    assert typed("connection", "list", "--env", "dev-ana", code=1)  # names no service
    assert "is removed from prod, by version 3" in typed("connection", "remove", "shop_db")
    assert "(removed)" in typed("connection", "show", "shop_db", "--versions")
    assert data("connection", "list") == []
    assert data("connection", "remove", "shop_db", code=1)["error"]["code"] == "unknown-configuration"


def test_a_variable_keeps_its_type(typed, data):
    for value, held in (("eu", "text"), ("5000", "number"), ("-0.5", "number"), ("true", "boolean"), ("5000", "text")):
        data("variable", "set", "it", "--type", held, "--", value)
        assert data("variable", "show", "it")["value"] == (value if held == "text" else json.loads(value))
    assert typed("variable", "show", "it").splitlines()[1] == "  5000"
    assert data("variable", "show", "it")["version"] == 5
    assert [one["name"] for one in data("variable", "list")] == ["it"]


def test_what_somebody_else_changed_is_not_overwritten(typed, data):
    assert data("variable", "set", "region", "eu", "--after", "0")["version"] == 1
    assert data("variable", "set", "region", "us", "--after", "1")["version"] == 2
    error = data("variable", "set", "region", "asia", "--after", "1", code=1)["error"]
    assert error["code"] == "version-conflict"
    assert "the newest version is 2" in error["message"]
    assert "variable show region --versions" in error["hint"]
    assert data("variable", "show", "region")["value"] == "us"


def test_a_name_nearly_known_is_suggested(data):
    data("variable", "set", "region", "eu")
    for words in (("show", "regoin"), ("show", "regoin", "--versions"), ("remove", "regoin")):
        error = data("variable", *words, code=1)["error"]
        assert (error["code"], error["hint"]) == ("unknown-configuration", "did you mean 'region'?")
    error = data("connection", "show", "region", code=1)["error"]
    assert error["message"] == "unknown connection 'region' in the environment 'prod'"
    assert "there is none yet" in error["hint"]


@pytest.mark.parametrize(
    "words",
    [
        ("connection", "set", "shop", f"password={SECRET}"),
        ("connection", "set", "shop", f"url=postgres://me:{SECRET}@db/shop"),
        ("variable", "set", "api_token", SECRET),
        ("variable", "set", "dsn", f"Server=db;Password={SECRET}"),
    ],
)
def test_what_looks_like_a_secret_is_not_sent(project, data, words):
    # Nothing listens there: who sent it would be told so.
    (project / "aiflow.toml").write_text('[environments.dev]\nservice = "http://127.0.0.1:9"\n')
    assert data(*words, "--env", "dev", code=1)["error"]["code"] == "literal-secret"


def test_a_service_that_is_away_is_named(project, data):
    (project / "aiflow.toml").write_text('[environments.dev]\nservice = "http://127.0.0.1:9"\n')
    for words in (("variable", "list"), ("connection", "show", "x"), ("variable", "set", "x", "1")):
        assert data(*words, "--env", "dev", code=1)["error"]["code"] == "service-unreachable"
    (project / "aiflow.toml").write_text("")
    assert data("variable", "list", "--env", "dev", code=1)["error"]["code"] == "no-service"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("connection", "set", "shop"), "no option is given"),
        (("connection", "set", "shop", SECRET), "at place 1 behind the name is no KEY=VALUE"),
        (("connection", "set", "shop", "a=1", "=2"), "at place 2 behind the name is no KEY=VALUE"),
        (("connection", "set", "shop", "a=1", "a=2"), "the option 'a' is given twice"),
        (("connection", "set", "a/b", "a=1"), "'a/b' is no name of a connection"),
        (("connection", "show", ".."), "'..' is no name of a connection"),
        (("variable", "show", "x" * 201), "is no name of a variable"),
        (("variable", "set", "", "x"), "'' is no name of a variable"),
        (("variable", "set", "x", "many", "--type", "number"), "what is given as a number is no JSON"),
        (("variable", "set", "x", "NaN", "--type", "number"), "what is given as a number is no JSON"),
        (("variable", "set", "x", "9" * 5000, "--type", "number"), "what is given as a number is no JSON"),
        (("variable", "set", "x", "true", "--type", "number"), "what is given is no number"),
        (("variable", "set", "x", "1", "--type", "boolean"), "what is given is no boolean"),
        (("variable", "set", "x", "1", "--after", "-1"), "--after"),
        (("variable", "list", "--team", "nobody/s"), "you are in no team 'nobody/s'"),
        (("variable", "set", "x", "1", "--team", "nobodys"), "you are in no team 'nobodys'"),
        (("variable", "lst"), "did you mean 'list'?"),
    ],
)
def test_what_is_typed_wrongly_is_said_and_not_done(typed, data, words, message):
    assert message in typed(*words, code=2)
    assert data("variable", "list") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "is no JSON"),
        (f'{{"password": {SECRET}}}', "is no JSON (line 1, column 14)"),
        ("[1]", "holds no object of options"),
        ('{"port": Infinity}', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_options_is_refused(typed, given, message):
    assert message in typed("connection", "set", "shop", "--file", "-", code=2, given=given)


@pytest.mark.parametrize("value", ["", "x" * 70_000, "a\x07b"])
def test_what_the_service_refuses_is_told_in_its_words_or_kept(data, value):
    found = data("variable", "set", "x", value, code=0 if len(value) < 70_000 else 1)
    assert "version" in found or found["error"]["code"] == "service-answer"


def test_a_viewer_may_look_and_change_nothing(company, data):
    team = company.team()
    keep_login(company.service.address, company.person(team, "editor").secret)
    name = unique("region")
    data("variable", "set", name, "eu", "--team", team)
    keep_login(company.service.address, company.person(team, "viewer").secret)
    assert data("variable", "show", name, "--team", team)["value"] == "eu"
    for words in (("set", name, "us"), ("remove", name)):
        assert "answered 403" in data("variable", *words, code=1)["error"]["message"]
    keep_login(company.service.address, company.person(company.team(), "owner").secret)
    assert data("variable", "show", name, code=1)["error"]["code"] == "unknown-configuration"


def test_what_would_never_count_is_refused_and_what_looks_like_a_setting_is_asked_about(project, typed, data):
    written = (project / "aiflow.toml").read_text()
    head, _, prod = written.partition("\n")
    (project / "aiflow.toml").write_text(f"{head}\n{prod.replace('.prod]', '.dev]')}{prod}")
    said = typed("variable", "set", "spark", "sc://ana:15002", "--env", "dev-ana", code=2)
    assert "'dev-ana' is a copy of dev" in said
    assert "aiflow variable set spark VALUE --env dev" in said
    typed("connection", "set", "clusters.emr", "kind=local", "--env", "pr-12", code=2)
    assert typed("variable", "set", "region", "eu", "--env", "dev-ana").count("note:") == 0
    assert "did you mean 'spark'?" in typed("variable", "set", "sparc.memory", "4g")
    assert "of spark the setting is the variable 'spark' alone" in typed("variable", "set", "spark.memory", "4g")
    assert "did you mean 'clusters.emr'?" in typed("connection", "set", "cluster.emr", "kind=local")
    assert "note:" not in typed("connection", "set", "warehouse", "host=db")
    (note,) = data("variable", "set", "spark", "sc://spark:15002")["notes"]
    assert "configuration_from_service = true" in note
    with (project / "aiflow.toml").open("a") as file:
        file.write("configuration_from_service = true\n")
    assert "notes" not in data("variable", "set", "spark", "sc://spark:15003")
    with (project / "aiflow.toml").open("a") as file:
        file.write('spark = "sc://here:15002"\n')
    assert "aiflow.toml states spark" in typed("variable", "set", "spark", "sc://spark:15004")
