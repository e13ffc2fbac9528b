"""A table that another team wrote first: whoever comes second is told, and not whose it is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def test_a_grant_under_any_of_its_names_counts_for_the_answer_too(two):
    first, second, table, team = two
    alias = unique("alias")
    links = [{"namespace": "onelake", "name": alias, "type": "TABLE"}]
    first.send(outputs=[dataset(table, symlinks=facet("SymlinksDatasetFacet", identifiers=links))])
    assert "warnings" in second.send(outputs=[alias]).json()
    owner = first.get("/api/v1/whoami")["teams"][0]["name"]
    given = {"from_team": owner, "to_team": team, "access": "write"}
    first.do("POST", "/api/v1/grants", {**given, "dataset": unique("other")})
    assert "warnings" in second.send(outputs=[alias]).json()
    first.do("POST", "/api/v1/grants", {**given, "dataset": table})
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": unique("of"), "type": "int"}])
    assert "warnings" not in second.send(outputs=[dataset(alias, schema=schema)]).json()
    assert second.get("/api/v1/lineage/ungranted")["items"] == []
    (known,) = first.get("/api/v1/datasets", name=table)["items"]
    columns = first.get(f"/api/v1/datasets/{known['id']}")["columns"]
    assert [one["name"] for one in columns] == [schema["fields"][0]["name"]]


def test_what_was_last_seen_before_a_time_is_left_out(two):
    _, second, table, _ = two
    for day in ("20", "22"):
        second.send(job=f"job/{day}", outputs=[table], at=f"2026-11-{day}T10:00:00Z")
    listed = {
        since: [one["job"]["name"] for one in second.get("/api/v1/lineage/ungranted", since=since)["items"]]
        for since in ("2026-11-20T10:04:00Z", "2026-11-20T10:05:00Z", "2026-11-22T10:05:00+00:00")
    }
    assert list(listed.values()) == [["job/20", "job/22"], ["job/22"], []]
    refused = second.ask("GET", "/api/v1/lineage/ungranted?since=yesterday")
    assert (refused.status, refused.json()["place"]) == (422, "query/since")


def test_of_several_tables_of_one_name_status_asks_which_and_of_the_namespace_that_is_named(
    two, tmp_path, capsys, monkeypatch
):
    first, second, lakes, _ = two
    for space in ("kafka://a", "kafka://b"):
        second.send(outputs=[dataset(lakes, space)])
    topic = unique("topic")
    first.send(outputs=[dataset(topic, "kafka://x")])
    sign_in(second, tmp_path, monkeypatch)

    def code_of(*words: str) -> str:
        capsys.readouterr()
        assert main(["-C", str(tmp_path), *words, "--json"]) == 1
        return str(json.loads(capsys.readouterr().out)["error"]["code"])

    for command in ("status", "repair"):
        assert code_of(command, lakes) == "ambiguous-table"
        assert code_of(command, lakes, "--namespace", "kafka://x") == "unknown-table"
        assert code_of(command, topic, "--namespace", "kafka://x") == "no-grant"
        assert code_of(command, topic) == "unknown-table"


def sign_in(person: Person, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make of a folder a project whose commands ask the service with the person's token."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", person.secret)
    (folder / "aiflow.toml").write_text(
        f'[environments.dev]\nservice = "{person.service.address}"\nservice_token = "secret://service"\n'
    )


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
    now, over = datetime.now(UTC), unique("over")
    second.send(outputs=[table], at=now.isoformat())
    second.send(job=over, outputs=[table], at=(now - timedelta(days=31)).isoformat())
    sign_in(second, tmp_path, monkeypatch)
    assert main(["-C", str(tmp_path), "status", table, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], f"aiflow grant add {table} --to {team} --access read" in error["hint"]) == ("no-grant", True)
    assert main(["-C", str(tmp_path), "status", unique("never"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unknown-table"
    main(["-C", str(tmp_path), "doctor", "--no-spark", "--json"])
    found = [one for one in json.loads(capsys.readouterr().out) if one["what"] in ("service", "grants")]
    assert [(one["state"], one["what"]) for one in found] == [("ok", "service"), ("warn", "grants")]
    assert table in found[1]["said"]
    (told,) = second.get("/api/v1/lineage/ungranted", since=(now - timedelta(days=1)).isoformat())["items"]
    assert f"last seen {told['last_seen']}" in found[1]["said"]
    assert f"--to {team} --access write" in found[1]["todo"]
