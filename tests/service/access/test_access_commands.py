"""``aiflow login``, ``token``, ``grant`` and ``team``, against the real service."""

import io
import json
import stat
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.config import Environment, load_project
from aiflow_sdk.service import Service
from aiflow_sdk.service.logins import find_token, logins_file
from service_trial import unique


@pytest.fixture
def company(_companies):
    return _companies("sqlite")


class Typed:
    """What somebody types in a project of theirs, and what comes of it."""

    def __init__(self, root: Path, capsys, monkeypatch) -> None:
        self.root, self._capsys, self._monkeypatch = root, capsys, monkeypatch

    def words(self, *words: str, code: int = 0, given: str = "") -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(given))  # what somebody pipes in; main runs in this process
        self._capsys.readouterr()
        assert main(["-C", str(self.root), *words]) == code, self._capsys.readouterr()
        told = self._capsys.readouterr()
        return told.out + told.err

    def data(self, *words: str, code: int = 0, given: str = ""):
        return json.loads(self.words(*words, "--json", code=code, given=given))

    def error(self, *words: str, code: int = 1, given: str = "") -> dict:
        return self.data(*words, code=code, given=given)["error"]


@pytest.fixture
def typed(company, tmp_path, capsys, monkeypatch) -> Typed:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{company.service.address}"\n')
    return Typed(tmp_path, capsys, monkeypatch)


def log_in(typed: Typed, person) -> dict:
    return typed.data("login", "--token-file", "-", given=person.secret + "\n")


def test_a_login_is_kept_for_its_owner_alone_and_commands_call_with_it(company, typed):
    team = company.team()
    assert typed.error("team", "list")["message"].endswith("sign in, or send a token as Authorization: Bearer …")
    told = log_in(typed, company.person(team, "owner"))
    assert told["teams"] == [{"name": team, "role": "owner"}]
    file = logins_file()
    assert str(file) == told["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one["name"] for one in typed.data("team", "list")] == [team]
    assert "owner" in typed.words("team")
    file.chmod(0o644)
    assert typed.error("team")["code"] == "unsafe-login"
    file.write_text("[")
    assert "it cannot be read" in typed.error("team")["message"]
    file.unlink()
    log_in(typed, company.person(team, "owner"))
    assert typed.data("login", "--forget")["forgotten"] is True
    assert typed.data("login", "--forget")["forgotten"] is False
    assert "answered 401" in typed.error("team")["message"]


@pytest.mark.parametrize("given", ["", "\n", "two words", "aiflow_é", "x" * 20_001, "aiflow_\x07"])
def test_what_is_no_token_is_not_sent(typed, given):
    assert "this is no token" in typed.error("login", "--token-file", "-", code=2, given=given)["message"]
    assert not logins_file().exists()


def test_a_token_that_the_service_does_not_know_is_not_kept(typed):
    error = typed.error("login", "--token-file", "-", given="aiflow_unknown")
    assert (error["code"], "aiflow_unknown" in json.dumps(error)) == ("service-answer", False)
    assert not logins_file().exists()
    assert "no terminal" in typed.error("login", "--with-token", code=2)["message"]
    assert "cannot be read" in typed.error("login", "--token-file", str(typed.root / "none"), code=2)["message"]
    (typed.root / "aiflow.toml").write_text("[environments.dev]\n")
    assert typed.error("login")["code"] == "no-service"


def test_a_token_goes_to_another_machine_over_https_alone(typed):
    settings = typed.root / "aiflow.toml"
    settings.write_text('[environments.dev]\nservice = "http://service.invalid"\n')
    error = typed.error("login", "--token-file", "-", given="aiflow_x")
    assert "in plain text" in error["message"]
    settings.write_text(settings.read_text() + "service_over_http = true\n")
    assert typed.error("login", "--token-file", "-", given="aiflow_x")["code"] == "service-unreachable"


def test_a_login_asks_for_no_other_token(company, typed):
    settings = typed.root / "aiflow.toml"
    settings.write_text(settings.read_text() + 'service_token = "secret://of_production"\n')
    log_in(typed, company.person(company.team(), "owner"))
    assert typed.data("login", "--forget")["forgotten"] is True


def test_people_ask_with_their_login_and_pipelines_with_the_environments_token(company, typed, monkeypatch):
    team = company.team()
    robot = company.person(team, "operator", account="pipelines")
    monkeypatch.setenv("AIFLOW_SECRET_OF_PRODUCTION", robot.secret)
    settings = typed.root / "aiflow.toml"
    alone = load_project(typed.root).environment()
    settings.write_text(settings.read_text() + 'service_token = "secret://of_production"\n')
    both = load_project(typed.root).environment()
    person = company.person(team, "owner")

    def name(environment: Environment, *, is_personal: bool) -> str | None:
        told = find_token(environment, is_personal=is_personal)
        return None if told is None else Service(environment, token=told).get("whoami")["name"]

    of_robot, of_person = robot.get("/api/v1/whoami")["name"], person.get("/api/v1/whoami")["name"]
    assert of_robot != of_person
    assert [name(both, is_personal=one) for one in (False, True)] == [of_robot, of_robot]
    assert [name(alone, is_personal=one) for one in (False, True)] == [None, None]
    log_in(typed, person)
    assert [name(both, is_personal=one) for one in (False, True)] == [of_robot, of_person]
    assert [name(alone, is_personal=one) for one in (False, True)] == [of_person, of_person]


def test_tokens_are_made_listed_and_revoked(company, typed):
    team = company.team()
    log_in(typed, company.person(team, "owner"))
    wanted = ("--team", team, "--role", "operator", "--account", "airflow")
    made = typed.data("token", "create", "airflow", *wanted, "--in-environment", "prod", "--days", "3")
    assert made["secret"].startswith("aiflow_")
    (listed,) = [one for one in typed.data("token") if one["id"] == made["id"]]
    assert (listed["role"], listed["environment"], listed["principal"]) == ("operator", "prod", "airflow")
    assert made["secret"] not in typed.words("token", "list")
    said = typed.words("token", "create", "other", *wanted, "--days", "366")
    assert "as long as the token that made it, and not 366 days; its secret is not shown again" in said
    assert "as long as" not in typed.words("token", "create", "third", *wanted, "--days", "1")
    assert typed.data("token", "revoke", str(made["id"]))["status"] == "revoked"
    assert "revoked" in typed.words("token")
    assert "answered 404" in typed.error("token", "revoke", str(2**40))["message"]
    assert (
        "this takes the role admin" in typed.error("token", "create", "x", "--role", "admin", "--team", team)["message"]
    )
    for wrong in (("create", "x"), ("create", "x", "--role", "king"), ("revoke", "0"), ("revoke", "x"), ("revok", "1")):
        typed.error("token", *wrong, code=2)
    typed.error("token", "create", "x", "--role", "viewer", "--days", "0", code=2)


def test_grants_are_given_listed_and_taken_back(company, typed):
    ours, theirs = company.team("ours"), company.team("theirs")
    log_in(typed, company.person(ours, "owner"))
    folder = unique("raw")
    made = typed.data("grant", "add", f"{folder}.*", "--to", theirs, "--until", "2999-01-01T00:00:00Z")
    assert (made["from_team"], made["access"]) == (ours, "read")
    said = typed.words(
        "grant", "add", f"{folder}.orders", "--to", theirs, "--access", "write", "--namespace", "onelake"
    )
    assert f"{theirs} may write {folder}.orders of {ours}" in said
    assert [one["access"] for one in typed.data("grant", "list")] == ["read", "write"]
    assert f"{folder}.*" in typed.words("grant")
    assert typed.data("grant", "remove", str(made["id"]))["status"] == "revoked"
    assert "taken back" in typed.words("grant", "list")
    for wrong, message in (
        (("add", "x", "--to", unique("absent")), "there is no such team"),
        (("add", "x", "--to", ours), "a team may touch its own datasets"),
        (("add", "a*b", "--to", theirs), "a * stands at the end alone"),
        (("add", "x", "--to", "No Team"), "422"),
        (("remove", str(2**40)), "there is no such grant"),
    ):
        assert message in typed.error("grant", *wrong)["message"]
    typed.error("grant", "add", "x", code=2)
    typed.error("grant", "add", "x", "--to", theirs, "--access", "own", code=2)
    log_in(typed, company.person(ours, "editor"))
    assert "you own no team" in typed.error("grant", "add", "x", "--to", theirs, code=2)["message"]
    wanted = ("grant", "add", "x", "--to", theirs, "--from", ours)
    assert "this takes the role owner" in typed.error(*wanted)["message"]


def test_teams_are_made_and_roles_given_and_taken(company, typed):
    log_in(typed, company.admin)
    name = unique("growth")
    assert typed.data("team", "add", name)["name"] == name
    assert "name-taken" not in typed.words("team", "list")
    assert "there is a team" in typed.error("team", "add", name)["message"]
    company.person(name, "viewer")
    (member,) = typed.data("team", "members", name)
    number = str(member["principal"])
    assert typed.data("team", "give", name, number, "editor")["role"] == "editor"
    assert "editor" in typed.words("team", "members", name)
    assert typed.data("team", "take", name, number)["role"] is None
    assert typed.words("team", "members", name) == "no members\n"
    assert "there is no such member" in typed.error("team", "take", name, number)["message"]
    for wrong in (("give", name, "x", "editor"), ("give", name, number, "king"), ("members",)):
        typed.error("team", *wrong, code=2)
    for absent in ("../tokens", unique("absent")):
        assert "you are in no team" in typed.error("team", "members", absent, code=2)["message"]
