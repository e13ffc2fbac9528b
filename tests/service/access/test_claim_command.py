"""``aiflow claim``: whose a table is, and how that is changed."""

import json

import pytest

from aiflow_sdk.cli import main
from service_trial import dataset, facet, unique


class Typed:
    """What somebody with a token types, and what comes of it."""

    def __init__(self, root, address: str, capsys, monkeypatch) -> None:
        self.root, self._capsys, self._monkeypatch = root, capsys, monkeypatch
        (root / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{address}"\nservice_token = "secret://it"\n')

    def be(self, person) -> None:
        self._monkeypatch.setenv("AIFLOW_SECRET_IT", person.secret)

    def words(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert main(["-C", str(self.root), "claim", *words]) == code, self._capsys.readouterr()
        told = self._capsys.readouterr()
        return told.out + told.err

    def data(self, *words: str):
        return json.loads(self.words(*words, "--json"))

    def error(self, *words: str, code: int = 1) -> dict:
        return json.loads(self.words(*words, "--json", code=code))["error"]


@pytest.fixture
def typed(company, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    typed = Typed(tmp_path, company.service.address, capsys, monkeypatch)
    typed.be(company.admin)
    return typed


def told_of(table: str, *columns: str):
    return dataset(table, schema=facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": c} for c in columns]))


def write(person, table: str, *columns: str, at: str = "2026-11-20T10:00:00Z") -> dict:
    sent = person.send(job=unique("make"), outputs=[told_of(table, *columns)], at=at)
    assert sent.status == 201
    return sent.json()


def columns_of(company, table: str) -> list[str]:
    (found,) = company.admin.get("/api/v1/datasets", name=table)["items"]
    return [one["name"] for one in company.admin.get(f"/api/v1/datasets/{found['id']}")["columns"]]


def test_a_table_that_the_wrong_team_wrote_first_is_given_to_the_right_one(company, typed):
    wrong, right, table = company.team("wrong"), company.team("right"), unique("raw.orders")
    write(company.person(wrong), table, "id")
    assert "warnings" in write(company.person(right), table, "theirs")
    assert typed.data("show", table)["team"] == wrong
    assert f"{table} (onelake) is {wrong}'s" in typed.words("show", table)
    said = typed.words("give", table, right)
    assert said == f"{table} (onelake) is {right}'s now, and was {wrong}'s\n"
    assert columns_of(company, table) == []  # what the wrong one said of it is gone
    # The service's writer, which remembers whose tables are, knows at once.
    assert "warnings" not in write(company.person(right), table, "id", "total", at="2026-11-21T10:00:00Z")
    assert "warnings" in write(company.person(wrong), table, "forged", at="2026-11-22T10:00:00Z")
    assert columns_of(company, table) == ["id", "total"]
    assert typed.data("give", table, right)["team"] == right  # again: as it is
    assert columns_of(company, table) == ["id", "total"]
    rows = company.admin.get("/api/v1/audit", action="dataset.given", object_name=table)["items"]
    assert [(row["team"], row["details"]["before"], row["result"]) for row in rows] == [
        (right, right, "done"),
        (right, wrong, "done"),
    ]


def test_a_table_that_is_released_is_that_of_the_next_that_writes_it(company, typed):
    first, next_one, table = company.team("first"), company.team("next"), unique("raw.orders")
    write(company.person(first), table, "id")
    assert typed.data("release", table)["is_owned"] is False
    said = typed.words("show", table)
    assert said == f"{table} (onelake) is nobody's: {first} looks after it until a team writes it\n"
    wanted = [{"namespace": "onelake", "name": table, "access": "write"}]
    question = {"project": "p", "environment": "dev", "datasets": wanted}
    (decision,) = company.person(next_one, "operator").do("POST", "/api/v1/grants/decisions", question)["datasets"]
    assert decision["allowed"] is True
    assert "warnings" not in write(company.person(next_one), table, "id", at="2026-11-21T10:00:00Z")
    assert (typed.data("show", table)["team"], typed.data("show", table)["is_owned"]) == (next_one, True)
    (row,) = company.admin.get("/api/v1/audit", action="dataset.released", object_name=table)["items"]
    assert (row["team"], row["details"]["was_owned"]) == (first, True)


def test_claims_are_listed_made_and_taken_back(company, typed):
    team, space, project = company.team(), f"s3://{unique('lake')}", unique("shop")
    made = typed.data("add", "namespace", space, team)
    assert (made["kind"], made["name"], made["team"]) == ("namespace", space, team)
    assert f"project {project} is {team}'s" in typed.words("add", "project", project, team)
    assert "claimed already" in typed.error("add", "namespace", space, team)["message"]
    assert {one["name"] for one in typed.data("list")} >= {space, project}
    assert space in typed.words()
    table = unique("t")
    company.admin.send(job=unique("make"), outputs=[dataset(table, f"{space}/a")])
    shown = typed.data("show", table)
    assert (shown["team"], shown["claim"]["id"]) == (team, made["id"])
    assert f"claimed by {team}: claim {made['id']}" in typed.words("show", table, "--namespace", f"{space}/a")
    assert typed.data("remove", str(made["id"])) == {"id": made["id"], "status": "dropped"}
    assert typed.data("show", table)["claim"] is None
    assert "there is no such claim" in typed.error("remove", str(made["id"]))["message"]


def test_what_is_wrong_or_not_ones_own_to_say_is_told(company, typed):
    team, other, table = company.team(), company.team(), unique("raw.orders")
    write(company.person(team), table, "id")
    assert "there is no such team" in typed.error("give", table, unique("absent"))["message"]
    for before in (("give", table), ("add", "project", unique("p"))):
        error = typed.error(*before, f"{team}x", code=2)
        assert (error["message"], error["hint"]) == (f"there is no team '{team}x'", f"did you mean '{team}'?")
    assert "422" in typed.error("give", table, "No Team")["message"]
    for words in (("show", f"{table}s"), ("give", f"{table}s", team), ("release", table, "--namespace", "nowhere")):
        error = typed.error(*words)
        assert (error["code"], table in error["hint"]) == ("unknown-table", True)
    typed.error("add", "table", table, team, code=2)
    typed.error("remove", "x", code=2)
    typed.error("give", table, code=2)
    for person in (company.person(team, "admin"), company.person(team, "viewer")):
        typed.be(person)
        assert typed.data("show", table)["team"] == team
        for change in (("release", table), ("give", table, team), ("add", "project", unique("p"), team)):
            assert "this takes the role admin in every team" in typed.error(*change)["message"], change
    typed.be(company.person(other, "owner"))
    assert typed.error("show", table)["code"] == "unknown-table"
    assert typed.data("list") == []
    typed.be(company.admin)
    assert typed.data("show", table)["is_owned"] is True
