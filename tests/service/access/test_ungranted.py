"""A table that another team wrote first: whoever comes second is told, and not whose it is."""

import json

import pytest

from access_trial import Person
from aiflow_sdk.cli import main
from service_trial import dataset, facet, unique


@pytest.fixture
def two(company) -> tuple[Person, Person, str, str]:
    """Who wrote a table first, who comes second, the table, and the second one's team."""
    first, second = company.team("first"), company.team("second")
    table = f"{unique('made')}.orders"
    assert "warnings" not in company.person(first, "owner").send(outputs=[table]).json()
    return company.person(first, "owner"), company.person(second, "operator"), table, second


def test_who_writes_second_is_warned_and_not_told_of_whom(company, two):
    first, second, table, team = two
    job, schema = unique("job"), facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int"}])
    answer = second.send(job=job, inputs=[table], outputs=["free." + job, dataset(table, schema=schema)])
    (warning,) = answer.json()["warnings"]
    assert (answer.status, answer.json()["status"], warning["code"]) == (201, "accepted", "dataset-not-granted")
    assert table in warning["reason"]
    owner = first.get("/api/v1/whoami")["teams"][0]["name"]
    assert owner not in answer.body.decode()
    (told,) = second.get("/api/v1/lineage/ungranted")["items"]
    assert (told["team"], told["job"]["name"], told["dataset"]["name"]) == (team, job, table)
    assert owner not in json.dumps(told)
    for stranger in (first, company.person(company.team("third"), "owner")):
        assert stranger.get("/api/v1/lineage/ungranted")["items"] == []


def test_in_a_batch_it_is_told_by_place(two):
    _, second, table, _ = two
    told = [json.dumps({"x": 1})]
    events = [event_of(["free." + unique("t")]), told, event_of([table])]
    answer = second.ask("POST", "/api/v1/lineage/batch", events).json()
    assert [one["index"] for one in answer["failed_events"]] == [1]
    assert [(one["index"], one["code"]) for one in answer["warnings"]] == [(2, "dataset-not-granted")]


def event_of(outputs):
    from service_trial import run_event

    return run_event(job=unique("job"), outputs=outputs)


def test_a_grant_ends_it_and_its_end_begins_it_again(two):
    first, second, table, team = two
    owner = first.get("/api/v1/whoami")["teams"][0]["name"]
    wanted = {"from_team": owner, "to_team": team, "dataset": table, "access": "read"}
    first.do("POST", "/api/v1/grants", wanted)
    assert "warnings" in second.send(outputs=[table]).json()
    whole = {**wanted, "dataset": table.split(".")[0] + ".*", "access": "write"}
    number = first.do("POST", "/api/v1/grants", whole)["id"]
    assert "warnings" not in second.send(outputs=[table]).json()
    assert second.get("/api/v1/lineage/ungranted")["items"] == []
    first.do("DELETE", f"/api/v1/grants/{number}")
    assert "warnings" in second.send(outputs=[table]).json()
    assert len(second.get("/api/v1/lineage/ungranted", limit=1)["items"]) == 1


def test_pages_of_it_hold_each_once(two):
    _, second, table, _ = two
    jobs = {unique("job") for _ in range(5)}
    for job in jobs:
        second.send(job=job, outputs=[table])
    found, cursor = [], None
    while True:
        page = second.get("/api/v1/lineage/ungranted", limit=2, **({"cursor": cursor} if cursor else {}))
        found += [one["job"]["name"] for one in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert (len(found), jobs - set(found)) == (len(set(found)), set())


def test_a_name_that_may_be_the_owners_alone_is_not_told(two):
    first, second, table, _ = two
    alias = unique("alias")
    links = [{"namespace": "onelake", "name": alias, "type": "TABLE"}]
    first.send(outputs=[dataset(table, symlinks=facet("SymlinksDatasetFacet", identifiers=links))])
    second.send(outputs=[table])
    told = second.get("/api/v1/lineage/ungranted")["items"]
    assert [one["dataset"] for one in told] == [None]
    assert alias not in json.dumps(told)


def test_status_and_doctor_say_so(two, tmp_path, capsys, monkeypatch):
    _, second, table, team = two
    second.send(outputs=[table])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", second.secret)
    (tmp_path / "aiflow.toml").write_text(
        f'[environments.dev]\nservice = "{second.service.address}"\nservice_token = "secret://service"\n'
    )
    assert main(["-C", str(tmp_path), "status", table, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], f"aiflow grant add {table} --to {team} --access read" in error["hint"]) == ("no-grant", True)
    assert main(["-C", str(tmp_path), "status", unique("never"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unknown-table"
    main(["-C", str(tmp_path), "doctor", "--no-spark", "--json"])
    found = [one for one in json.loads(capsys.readouterr().out) if one["what"] in ("service", "grants")]
    assert [(one["state"], one["what"]) for one in found] == [("ok", "service"), ("warn", "grants")]
    assert table in found[1]["said"]
    assert f"--to {team} --access write" in found[1]["todo"]
