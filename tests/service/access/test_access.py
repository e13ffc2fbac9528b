"""Who sees and does what: teams, claims, grants, tokens."""

import http.client
import json
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from access_trial import Person, release_of, seconds_of
from aiflow_sdk.config import Environment
from aiflow_sdk.errors import ReceiverError
from aiflow_sdk.service import Service
from aiflow_service.access import EVERYTHING, Caller, Role, Scope, Unseen
from aiflow_service.access.tokens import Narrowing, make_token, revoke_token
from aiflow_service.database import now, open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import datasets, makings, teams
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.openlineage import read_event
from service_trial import dataset, facet, run_event, unique


def lineage(person, name, **query):
    return person.get("/api/v1/lineage/tables", dataset=name, **query)


def test_without_a_token_nothing_is_told(company):
    for path in ("/api/v1/runs", "/api/v1/whoami", "/metrics", "/api/v1/datasets/1"):
        answer = company.service.request("GET", path)
        assert (answer.status, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert company.service.request("GET", "/healthz").status == 200


@pytest.mark.parametrize("secret", ["aiflow_x", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "aiflow_" + "é", "'; --"])
def test_a_token_that_nobody_made_is_refused(company, secret):
    header = {"Authorization": b"Bearer " + secret.encode("utf-8")}
    assert company.service.request("GET", "/api/v1/whoami", None, header).status == 401


def test_two_teams_have_a_pipeline_of_one_name_and_see_their_own(company):
    ours, theirs = company.team(), company.team()
    for team, table in ((ours, "ours"), (theirs, "theirs")):
        assert company.person(team).send(job="shop/daily", outputs=[unique(table)]).status == 201
    mine = company.person(ours, "viewer")
    (run,) = mine.get("/api/v1/runs")["items"]
    (job,) = mine.get("/api/v1/jobs", name="shop/daily")["items"]
    assert job["team"] == ours
    assert run["job"]["id"] == job["id"]
    (other,) = company.person(theirs, "viewer").get("/api/v1/jobs", name="shop/daily")["items"]
    assert other["id"] != job["id"]
    assert mine.ask("GET", f"/api/v1/jobs/{other['id']}").status == 404


def test_what_is_hidden_answers_as_what_is_not_there(company):
    ours, theirs = company.team(), company.team()
    name = unique("secret")
    company.person(theirs).send(outputs=[name])
    (found,) = company.person(theirs).get("/api/v1/datasets", name=name)["items"]
    mine = company.person(ours)
    hidden, absent = (mine.ask("GET", f"/api/v1/datasets/{number}") for number in (found["id"], 2**40))
    assert hidden.status == 404
    assert hidden.body == absent.body
    told = seconds_of(mine, f"/api/v1/datasets/{found['id']}"), seconds_of(mine, f"/api/v1/datasets/{2**40}")
    assert max(told) < 2 * min(told) + 0.03  # a busy machine; whoever looked further would take as long again


def test_a_strangers_node_in_a_lineage_has_no_name_number_or_count(company):
    ours, theirs = company.team(), company.team()
    table, behind = unique("ours"), unique("theirs")
    company.person(ours).send(job="make", outputs=[table])
    for number in range(3):
        company.person(theirs).send(job=f"{behind}-{number}", inputs=[table], outputs=[f"{behind}-{number}"])
    graph = lineage(company.person(ours, "viewer"), table)
    (mine,) = graph["datasets"]
    assert [one["name"] for one in graph["jobs"]] == ["make"]
    assert graph["hidden"] == [{"dataset": mine["id"], "writes": False}]
    assert behind not in json.dumps(graph)
    other = lineage(company.person(theirs, "viewer"), f"{behind}-0", direction="up")
    assert table not in json.dumps(other)
    assert [sorted(one) for one in other["hidden"]] == [["job", "writes"]]
    everything = lineage(company.admin, table)
    assert len(everything["jobs"]) == 4
    assert everything["hidden"] == []


def test_a_strangers_column_ends_the_walk(company):
    ours, theirs = company.team(), company.team()
    table, theirs_table = unique("ours"), unique("theirs")
    made = {"fields": {"total": {"inputFields": [{"namespace": "onelake", "name": table, "field": "amount"}]}}}
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "amount", "type": "int"}])
    company.person(ours).send(outputs=[dataset(table, schema=schema)])
    company.person(theirs).send(
        inputs=[table],
        outputs=[dataset(theirs_table, columnLineage=facet("ColumnLineageDatasetFacet", "1-2-0", **made))],
    )
    graph = company.person(ours, "viewer").get("/api/v1/lineage/columns", dataset=table)
    assert [one["name"] for one in graph["columns"]] == ["amount"]
    assert [one["direction"] for one in graph["hidden"]] == ["down"]
    assert graph["edges"] == graph["jobs"] == []


def test_nobody_puts_words_among_the_columns_of_anothers_table(company):
    ours, theirs = company.team(), company.team()
    table, other = unique("ours"), unique("theirs")
    told = {"fields": {"kept": {"inputFields": [{"namespace": "onelake", "name": other, "field": "raw"}]}}}
    planted = {"fields": {"pay-me": {"inputFields": [{"namespace": "onelake", "name": table, "field": "or-else"}]}}}
    for team, made in ((ours, told), (theirs, planted)):
        lineage_facet = facet("ColumnLineageDatasetFacet", "1-2-0", **made)
        sent = company.person(team).send(inputs=[other], outputs=[dataset(table, columnLineage=lineage_facet)])
        assert sent.status == 201
    graph = company.person(ours, "viewer").get("/api/v1/lineage/columns", dataset=table)
    assert {one["name"] for one in graph["columns"]} == {"kept", "raw"}
    assert graph["hidden"] == []
    assert "pay-me" in json.dumps(company.admin.get("/api/v1/lineage/columns", dataset=table))


def test_a_grant_to_write_makes_nobody_the_owner(company):
    ours, theirs = company.team(), company.team()
    table, alias = unique("table"), unique("alias")
    thief = company.person(theirs)
    thief.send(outputs=[alias])  # the elder of the two
    company.person(ours).send(outputs=[table])
    wanted = {"from_team": ours, "to_team": theirs, "dataset": table, "access": "write"}
    company.person(ours, "owner").do("POST", "/api/v1/grants", wanted)
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": "onelake", "name": table, "type": "TABLE"}])
    assert thief.send(outputs=[dataset(alias, symlinks=links)]).status == 201
    (found,) = company.person(ours, "viewer").get("/api/v1/datasets", name=table)["items"]
    assert (found["name"], found["team"]) == (table, ours)
    company.admin.send(outputs=[dataset(alias, symlinks=links)])
    assert company.admin.get("/api/v1/datasets", name=table)["items"][0]["name"] == alias


def test_a_grant_shows_the_dataset_and_its_end_hides_it(company):
    ours, theirs = company.team(), company.team()
    folder = unique("raw")
    company.person(theirs).send(job="load", outputs=[f"{folder}.orders", f"{folder}.people", f"{folder}x"])
    mine = company.person(ours)
    mine.send(job="use", inputs=[f"{folder}.orders"], outputs=[unique("mine")])
    assert mine.names("/api/v1/datasets", q=folder) == set()
    wanted = {"from_team": theirs, "to_team": ours, "dataset": f"{folder}.*"}
    assert mine.ask("POST", "/api/v1/grants", wanted).status == 404
    assert company.person(theirs).ask("POST", "/api/v1/grants", wanted).status == 403
    grant = company.person(theirs, "owner").do("POST", "/api/v1/grants", wanted)
    assert mine.names("/api/v1/datasets", q=folder) == {f"{folder}.orders", f"{folder}.people"}
    graph = lineage(mine, f"{folder}.orders")
    assert [one["name"] for one in graph["jobs"]] == ["use"]
    assert {tuple(sorted(one)) for one in graph["hidden"]} == {("dataset", "writes")}
    (shown,) = mine.get("/api/v1/grants")["items"]
    assert (shown["dataset"], shown["access"]) == (f"{folder}.*", "read")
    copy = mine.get("/api/v1/grants/effective", team=ours)
    assert [one["id"] for one in copy["grants"]] == [grant["id"]]
    assert mine.ask("DELETE", f"/api/v1/grants/{grant['id']}").status == 403
    company.person(theirs, "owner").do("DELETE", f"/api/v1/grants/{grant['id']}")
    assert mine.names("/api/v1/datasets", q=folder) == set()
    assert mine.get("/api/v1/grants/effective", team=ours)["grants"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "tomorrow"},
        {"dataset": "a*b"},
        {"dataset": ""},
        {"dataset": "a\0"},
        {"access": "all"},
        {"to_team": "no-such-team"},
        {"more": 1},
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(company, wrong):
    team = company.team()
    wanted = {"from_team": team, "to_team": company.team(), "dataset": "raw.orders", **wrong}
    assert company.person(team, "owner").ask("POST", "/api/v1/grants", wanted).status in (404, 422)


def test_a_table_is_its_writers_and_not_of_whoever_read_it_first(company):
    reading, writing = company.team(), company.team()
    table, alias = unique("table"), unique("alias")
    said = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "said-by-a-reader", "type": "int"}])
    about = facet("DocumentationDatasetFacet", "1-0-1", description="a reader's words")
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": "onelake", "name": alias, "type": "TABLE"}])
    reader, writer = company.person(reading), company.person(writing)
    reader.send(
        job="use", inputs=[dataset(table, schema=said, documentation=about, symlinks=links)], outputs=[unique("x")]
    )
    (found,) = reader.get("/api/v1/datasets", name=table)["items"]
    assert found["team"] == reading
    for person in (writer, company.person(company.team())):  # before anybody has written it, its reader alone sees it
        assert person.names("/api/v1/datasets", q=table) == set()
        assert person.ask("GET", f"/api/v1/datasets/{found['id']}").status == 404
        assert person.ask("GET", "/api/v1/lineage/tables?dataset=" + table).status == 404
    true = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int"}])
    writer.send(job="make", outputs=[dataset(table, schema=true)])
    whole = writer.get(f"/api/v1/datasets/{found['id']}")
    assert (whole["team"], [one["name"] for one in whole["columns"]], whole["facets"]) == (writing, ["id"], {})
    assert [one["name"] for one in whole["names"]] == [table]
    assert [one["job"]["name"] for one in whole["jobs"]] == ["make"]
    assert reader.ask("GET", f"/api/v1/datasets/{found['id']}").status == 404
    assert table not in reader.names("/api/v1/datasets")
    reader.send(job="use", inputs=[dataset(table, schema=said)], outputs=[unique("x")], at="2026-11-21T10:00:00Z")
    reader.send(job="take", outputs=[dataset(table, schema=said)], at="2026-11-21T10:00:00Z")
    whole = writer.get(f"/api/v1/datasets/{found['id']}")
    assert (whole["team"], [one["name"] for one in whole["columns"]]) == (writing, ["id"])
    assert {one["job"]["name"] for one in company.admin.get(f"/api/v1/datasets/{found['id']}")["jobs"]} == {
        "use",
        "make",
        "take",
    }


def test_a_table_that_was_only_read_is_of_the_team_whose_release_writes_it(company, documents):
    reading, writing = company.team(), company.team()
    table, alias = unique("table"), unique("alias")
    said = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "said-by-a-reader", "type": "int"}])
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": "onelake", "name": alias, "type": "TABLE"}])
    reader, writer = company.person(reading), company.person(writing)
    reader.send(job="use", inputs=[dataset(table, schema=said, symlinks=links)])
    (found,) = reader.get("/api/v1/datasets", name=table)["items"]
    plan = json.loads(documents["plan"])
    for node in plan["nodes"]:
        if node["type"] == "sink":
            node["dataset"] = ["onelake", table]
    told = {**documents, "plan": json.dumps(plan)}
    writer.do("PUT", "/api/v1/versions", {"versions": [told]})
    writer.do("PUT", "/api/v1/releases", release_of(told))
    whole = writer.get(f"/api/v1/datasets/{found['id']}")
    assert (whole["team"], whole["columns"], [one["name"] for one in whole["names"]]) == (writing, [], [table])
    assert reader.ask("GET", f"/api/v1/datasets/{found['id']}").status == 404


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["read-first", "written-first"])
def test_of_a_table_that_is_read_and_written_in_one_batch_the_writer_is_the_owner(database, order):
    opened = open_database(database)
    migrate(opened)
    with opened.writing() as writing:
        for number in (2, 3):
            writing.connection.execute(teams.insert().values(id=number, name=f"team{number}", created_at=0))
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": "hive", "name": "raw", "type": "TABLE"}])
    told = [
        (2, run_event(inputs=[dataset("raw", symlinks=links), "other"])),
        (3, run_event(outputs=["raw"], inputs=["far"])),
    ]
    events = [(team, read_event(json.dumps(event).encode())) for team, event in told]
    writer = GroupWriter(opened)
    for _ in range(2):  # again: nothing of it is changed by being said once more
        writer.write([Submission(event, team, 0, False) for team, event in [events[number] for number in order]])
    with opened.reading() as connection:
        rows = connection.execute(sa.select(datasets.c.name, datasets.c.team_id, datasets.c.is_owned)).all()
    opened.close()
    assert {tuple(row) for row in rows} == {("raw", 3, 1), ("other", 2, 0), ("far", 3, 0)}


def test_nobody_changes_what_is_anothers_by_sending(company):
    ours, theirs = company.team(), company.team()
    table, alias, uid = unique("table"), unique("alias"), str(uuid.uuid4())
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int"}])
    company.person(ours).send(event_type="START", run_id=uid, outputs=[dataset(table, schema=schema)])
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": "onelake", "name": table, "type": "TABLE"}])
    forged = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "stolen", "type": "int"}])
    thief = company.person(theirs)
    thief.send(event_type="FAIL", run_id=uid, at="2026-11-20T11:00:00Z")
    thief.send(outputs=[dataset(alias, symlinks=links)], at="2026-11-20T11:00:00Z")
    thief.send(outputs=[dataset(table, schema=forged)], at="2026-11-20T11:00:00Z")
    mine = company.person(ours, "viewer")
    assert mine.get(f"/api/v1/runs/{uid}")["state"] == "running"
    (found,) = mine.get("/api/v1/datasets", name=table)["items"]
    whole = mine.get(f"/api/v1/datasets/{found['id']}")
    assert [one["name"] for one in whole["columns"]] == ["id"]
    assert [one["name"] for one in whole["names"]] == [table]
    assert thief.names("/api/v1/datasets") == {alias}


def test_nobody_changes_the_ledger_of_anothers_run(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'service.db'}")
    migrate(database)
    with database.writing() as writing:
        for number in (2, 3):
            writing.connection.execute(teams.insert().values(id=number, name=f"team{number}", created_at=0))
    uid = str(uuid.uuid4())
    facts = {"_producer": "urn:x", "_schemaURL": "urn:x", "pipeline_id": "daily", "run_id": uid, "execution": 1}
    writer = GroupWriter(database)
    for team, kind, for_all in ((2, "START", False), (3, "FAIL", False), (1, "COMPLETE", True)):
        event = read_event(json.dumps(run_event(kind, run_id=uid, run_facets={"aiflow_run": facts})).encode())
        writer.write([Submission(event, team, 0, for_all)])
    with database.reading() as connection:
        rows = connection.execute(sa.select(makings.c.team_id, makings.c.fold)).all()
    database.close()
    ends = {row.team_id: (MakingFold.from_bytes(row.fold).end or ("", None))[1] for row in rows}
    assert ends == {1: "succeeded", 2: None, 3: "failed"}


def test_a_claim_says_whose_a_namespace_is_whoever_speaks_of_it_first(company):
    ours, theirs = company.team(), company.team()
    bucket = f"s3://{unique('lake')}"
    assert (
        company.person(ours, "admin")
        .ask("POST", "/api/v1/claims", {"kind": "namespace", "name": bucket, "team": ours})
        .status
        == 403
    )
    claim = {"kind": "namespace", "name": bucket, "team": ours}
    number = company.admin.do("POST", "/api/v1/claims", claim)["id"]
    assert company.admin.ask("POST", "/api/v1/claims", claim).status == 409
    company.person(theirs).send(inputs=[dataset("first", bucket)])
    assert company.person(ours, "viewer").names("/api/v1/datasets") == {"first"}
    assert company.person(theirs, "viewer").names("/api/v1/datasets") == set()
    job = unique("job")
    company.admin.send(namespace=bucket, job=job)
    assert job in company.person(ours, "viewer").names("/api/v1/jobs")
    company.admin.do("DELETE", f"/api/v1/claims/{number}")


def test_a_revoked_token_ends_at_once(company):
    team = company.team()
    made = company.admin.do(
        "POST", "/api/v1/tokens", {"name": "ci", "team": team, "role": "viewer", "account": "ci", "days": 1}
    )
    bearer = Person(company.service, made["secret"])
    assert bearer.get("/api/v1/whoami")["teams"] == [{"name": team, "role": "viewer"}]
    (shown,) = [one for one in company.person(team, "owner").get("/api/v1/tokens")["items"] if one["id"] == made["id"]]
    assert made["secret"] not in json.dumps(shown)
    assert shown["used_at"] is not None
    assert company.person(team, "editor").ask("DELETE", f"/api/v1/tokens/{made['id']}").status == 404
    company.person(team, "owner").do("DELETE", f"/api/v1/tokens/{made['id']}")
    assert bearer.ask("GET", "/api/v1/whoami").status == 401


def test_live_runs_go_by_what_the_listener_may_now_and_end_with_the_token(company):
    team, other = company.team(), company.team()
    wanted = {"name": "listener", "team": team, "role": "viewer", "account": unique("listener")}
    made = company.admin.do("POST", "/api/v1/tokens", wanted)
    connection = http.client.HTTPConnection(company.service.host, company.service.port, timeout=20)
    headers = {"Authorization": f"Bearer {made['secret']}"}
    connection.request("GET", "/api/v1/runs/live", headers=headers)
    response = connection.getresponse()
    assert response.readline() == b"retry: 2000\n"
    first, hidden, late = unique("first"), unique("hidden"), unique("late")
    company.person(other).send(job=hidden)
    sender = company.person(team)
    sender.send(job=first)
    told = b""
    while first.encode() not in told:
        told += (line := response.readline())
        assert line, told
    company.person(team, "owner").do("DELETE", f"/api/v1/tokens/{made['id']}")
    sender.send(job=late)
    told += response.read()  # to the end, which comes by itself
    connection.close()
    assert hidden.encode() not in told
    assert late.encode() not in told


def test_what_is_made_with_a_token_ends_with_it(company):
    team = company.team()

    def make(maker, days, role="owner"):
        wanted = {"name": "made", "team": team, "role": role, "account": unique("account"), "days": days}
        made = maker.do("POST", "/api/v1/tokens", wanted)
        return made, Person(company.service, made["secret"])

    first, leaked = make(company.admin, 1)
    second, child = make(leaked, 366)
    third, grandchild = make(child, 366, "viewer")
    other, bystander = make(company.admin, 1)
    assert second["expires_at"] == third["expires_at"] == first["expires_at"]
    bystander.do("DELETE", f"/api/v1/tokens/{first['id']}")
    assert [one.ask("GET", "/api/v1/whoami").status for one in (leaked, child, grandchild)] == [401] * 3
    assert bystander.get("/api/v1/whoami")["token"] == other["id"]
    told = company.admin.get("/api/v1/audit", action="token.revoked", team=team)["items"]
    assert {row["object_name"] for row in told} == {f"{one['id']} made" for one in (first, second, third)}


def test_a_token_that_was_just_revoked_makes_none(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'service.db'}")
    migrate(database)
    wanted = Narrowing("t", None, Role.ADMIN, None, now() + 10**9)
    with database.writing() as writing:
        maker = make_token(writing, EVERYTHING, wanted, "t")
        revoke_token(writing, EVERYTHING, maker.id)
    remembered = Scope(None, {}, Role.ADMIN, Caller("t", "service", 1, maker.id))  # as another replica has it
    with database.writing() as writing, pytest.raises(Unseen):
        make_token(writing, remembered, wanted, "u")
    database.close()


def test_what_is_no_teams_name_is_told_what_names_are(company):
    asked = company.person(company.team()).ask("POST", "/api/v1/teams", {"name": "Growth"})
    told = "it has small letters, digits, '.', '_' and '-', 63 at most, the first a letter or a digit"
    assert (asked.status, asked.json()["detail"]) == (422, f"body/name: no name: {told}")
    asked = company.person(company.team()).ask("GET", "/api/v1/teams/Growth/members")
    assert (asked.status, "small letters" in asked.json()["detail"]) == (422, True)


def test_nobody_gives_more_than_they_have(company):
    team, other = company.team(), company.team()
    owner = company.person(team, "owner")
    make = {"name": "x", "account": "x", "role": "admin", "team": team}
    assert owner.ask("POST", "/api/v1/tokens", make).status == 403
    assert owner.ask("POST", "/api/v1/tokens", {**make, "role": "viewer", "team": other}).status == 404
    assert owner.ask("POST", "/api/v1/tokens", {**make, "role": "viewer", "team": None}).status == 403
    assert owner.ask("POST", "/api/v1/teams", {"name": "mine"}).status == 403
    robot = next(one for one in owner.get(f"/api/v1/teams/{team}/members")["items"] if one["role"] == "owner")
    place = f"/api/v1/teams/{team}/members/{robot['principal']}"
    assert owner.ask("PUT", place, {"role": "admin"}).status == 403
    assert owner.ask("PUT", place, {"role": "king"}).status == 422
    owner.do("PUT", place, {"role": "viewer"})
    assert owner.get("/api/v1/whoami")["teams"] == [{"name": team, "role": "viewer"}]
    company._issued.pop((team, "owner"))


def test_a_token_for_one_environment_sends_nothing_of_another(company):
    robot = company.person(company.team(), "operator", environment="dev", account="dev-robot")
    of = {
        name: {"aiflow_run": {"_producer": "urn:x", "_schemaURL": "urn:x", "environment": name}}
        for name in ("dev", "prod")
    }
    assert robot.send(run_facets=of["dev"]).status == 201
    answer = robot.send(run_facets=of["prod"])
    assert (answer.status, answer.json()["code"]) == (422, "environment-forbidden")
    assert robot.send(namespace="aiflow/prod").status == 422
    parent = facet(
        "ParentRunFacet", "1-2-0", run={"runId": str(uuid.uuid4())}, job={"namespace": "aiflow/prod", "name": "p"}
    )
    assert robot.send(run_facets={"parent": parent}).status == 422


def test_a_token_for_one_environment_changes_no_run_of_another(company):
    team, uid = company.team(), str(uuid.uuid4())
    facets = {"aiflow_run": {"_producer": "urn:x", "_schemaURL": "urn:x", "environment": "prod"}}
    everywhere = company.person(team, "operator")
    assert everywhere.send(event_type="START", run_id=uid, namespace="aiflow/prod", run_facets=facets).status == 201
    robot = company.person(team, "operator", environment="dev", account="another-dev-robot")
    for namespace in ("aiflow/dev", "elsewhere"):
        assert robot.send(event_type="FAIL", run_id=uid, namespace=namespace, at="2026-11-20T11:00:00Z").status == 201
    found = company.person(team, "viewer").get(f"/api/v1/runs/{uid}")
    assert (found["state"], found["environment"]) == ("running", "prod")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["part-first", "run-first"])
def test_whose_a_run_is_does_not_hang_on_who_names_it_first(company, order):
    ours, theirs, uid = company.team(), company.team(), str(uuid.uuid4())
    job = {"namespace": "aiflow/dev", "name": unique("pipeline")}
    parent = facet("ParentRunFacet", "1-2-0", run={"runId": uid}, job=job)
    stranger, owner = company.person(theirs), company.person(ours)
    part = run_event("START", namespace="aiflow/dev", job=unique("part"), run_facets={"parent": parent})
    own = run_event("START", run_id=uid, namespace=job["namespace"], job=job["name"], at="2026-11-20T10:00:01Z")
    pairs = [(stranger, part), (owner, own)]
    for person, event in [pairs[number] for number in order]:
        assert person.ask("POST", "/api/v1/lineage/batch", json.dumps([event]).encode()).status == 200
    assert company.person(ours, "viewer").get(f"/api/v1/runs/{uid}")["started_at"] == "2026-11-20T10:00:01.000000Z"
    named = company.person(theirs, "viewer").get(f"/api/v1/runs/{uid}")  # no more than its own part has told
    assert (named["started_at"], named["team"]) == ("2026-11-20T10:00:00.000000Z", theirs)
    end = run_event("COMPLETE", run_id=uid, job=job["name"], at="2026-11-20T10:05:00Z")
    assert owner.ask("POST", "/api/v1/lineage", json.dumps(end).encode()).status == 201
    assert company.person(ours, "viewer").get(f"/api/v1/runs/{uid}")["state"] == "succeeded"
    whole = company.person(theirs, "viewer").get(f"/api/v1/runs/{uid}")
    assert (whole["state"], [one["run_id"] for one in whole["parts"]]) == ("running", [part["run"]["runId"]])
    assert company.person(ours, "viewer").get(f"/api/v1/runs/{uid}")["parts"] == []


@pytest.mark.parametrize("first", ["owner", "squatter"])
def test_a_run_id_that_another_team_told_of_first_is_nobodys_less(company, first):
    ours, theirs, uid, job = company.team(), company.team(), str(uuid.uuid4()), unique("job")
    owner, squatter = company.person(ours), company.person(theirs)
    told: list[tuple[Person, dict[str, Any]]] = [
        (owner, {"event_type": "START", "at": "2026-11-20T10:00:00Z"}),
        (owner, {"event_type": "COMPLETE", "at": "2026-11-20T10:05:00Z", "outputs": [unique("out")]}),
        (squatter, {"event_type": "FAIL", "at": "2026-11-20T11:00:00Z"}),
    ]
    for person, event in told if first == "owner" else told[::-1]:
        assert person.send(run_id=uid, job=job, **event).status == 201
    mine, other = (company.person(team, "viewer") for team in (ours, theirs))
    assert (mine.get(f"/api/v1/runs/{uid}")["state"], other.get(f"/api/v1/runs/{uid}")["state"]) == (
        "succeeded",
        "failed",
    )
    assert [one["run_id"] for one in mine.get("/api/v1/runs")["items"]] == [uid]
    assert len(mine.get(f"/api/v1/runs/{uid}/events")["items"]) == 2
    assert len(other.get(f"/api/v1/runs/{uid}/events")["items"]) == 1


def test_of_a_run_id_that_two_of_ones_teams_have_it_is_asked_whose_is_meant(company):
    teams_of_both, uid = sorted([company.team(), company.team()]), str(uuid.uuid4())
    for team in teams_of_both:
        assert company.person(team).send(run_id=uid, outputs=[unique("out")]).status == 201
    for path in (f"/api/v1/runs/{uid}", f"/api/v1/runs/{uid}/events"):
        answer = company.admin.ask("GET", path)
        assert (answer.status, answer.json()["code"], answer.json()["place"]) == (422, "team-ambiguous", "query/team")
        assert ", ".join(teams_of_both) in answer.json()["detail"]
        asking = Service(Environment(service=company.service.address), token=company.admin.secret)
        with pytest.raises(ReceiverError, match="several of your teams") as caught:
            asking.get(path.removeprefix("/api/v1/"))
        assert "a token of one team" in caught.value.hint
        mine = company.person(teams_of_both[0], "viewer")
        assert mine.ask("GET", path).status == 200
        assert mine.ask("GET", path, team=teams_of_both[1]).status == 404
        assert mine.ask("GET", path, team="A b").status == 422
    for team in teams_of_both:
        assert company.admin.get(f"/api/v1/runs/{uid}", team=team)["team"] == team
        assert len(company.admin.get(f"/api/v1/runs/{uid}/events", team=team)["items"]) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_run_of_a_claimed_project_is_one_story_with_parts_that_nobody_claims(company, order):
    team, project, uid = company.team(), unique("project"), str(uuid.uuid4())
    company.admin.do("POST", "/api/v1/claims", {"kind": "project", "name": project, "team": team})
    job, spark = {"namespace": "aiflow/dev", "name": f"{project}/daily"}, unique("spark")
    facts = {"_producer": "urn:x", "_schemaURL": "urn:x", "project": project, "pipeline_id": "daily"}
    parent = facet("ParentRunFacet", "1-2-0", run={"runId": uid}, job=job)
    told = [
        {"event_type": "START", "at": "2026-11-20T10:00:00Z"},
        {"namespace": "spark", "job": spark, "run_facets": {"parent": parent}, "at": "2026-11-20T10:01:00Z"},
        {"event_type": "COMPLETE", "at": "2026-11-20T10:05:00Z"},
    ]
    for number in (0, 2):
        told[number] |= {
            "run_id": uid,
            "namespace": "aiflow/dev",
            "job": job["name"],
            "run_facets": {"aiflow_run": facts},
        }
    for number in order:
        assert company.admin.send(**told[number]).status == 201
    whole = company.admin.get(f"/api/v1/runs/{uid}")
    assert (whole["state"], whole["team"], [one["job"]["name"] for one in whole["parts"]]) == (
        "succeeded",
        team,
        [spark],
    )
    assert company.person(team, "viewer").get(f"/api/v1/runs/{uid}")["parts"] == []
    assert [one["run_id"] for one in company.admin.get("/api/v1/runs", project=project)["items"]] == [uid]


def test_a_token_for_one_environment_changes_nothing_of_who_may_do_what(company):
    team, other = company.team(), company.team()
    limited = {"environment": "dev", "account": unique("dev-owner")}
    owner = company.person(team, "owner", **limited)
    every = {"name": "dev admin", "role": "admin", "environment": "dev", "account": unique("dev-admin")}
    admin = Person(company.service, company.admin.do("POST", "/api/v1/tokens", every)["secret"])
    prod = {"name": "prod", "team": team, "role": "editor", "account": unique("prod"), "environment": "prod"}
    prod_token = company.admin.do("POST", "/api/v1/tokens", prod)["id"]
    same = {**prod, "account": limited["account"], "role": "owner"}
    same_token = company.admin.do("POST", "/api/v1/tokens", same)["id"]
    (member,) = (
        one["principal"]
        for one in owner.get(f"/api/v1/teams/{team}/members")["items"]
        if one["name"] == prod["account"]
    )
    grant = {"from_team": team, "to_team": other, "dataset": "raw.*", "access": "write"}
    grant_id = company.admin.do("POST", "/api/v1/grants", grant)["id"]
    claim = {"kind": "project", "name": unique("claim"), "team": team}
    claim_id = company.admin.do("POST", "/api/v1/claims", claim)["id"]
    dev = {"name": "dev", "team": team, "environment": "dev"}
    for person, method, path, body in (
        (owner, "PUT", f"/api/v1/teams/{team}/members/{member}", {"role": "owner"}),
        (owner, "DELETE", f"/api/v1/teams/{team}/members/{member}", None),
        (owner, "POST", "/api/v1/grants", grant),
        (owner, "DELETE", f"/api/v1/grants/{grant_id}", None),
        (owner, "DELETE", f"/api/v1/tokens/{prod_token}", None),
        (owner, "DELETE", f"/api/v1/tokens/{same_token}", None),
        (owner, "POST", "/api/v1/tokens", {**dev, "role": "owner", "account": prod["account"]}),
        (owner, "POST", "/api/v1/tokens", {**dev, "role": "viewer", "account": unique("fresh")}),
        (owner, "POST", "/api/v1/tokens", {**prod, "role": "viewer"}),
        (admin, "POST", "/api/v1/teams", {"name": unique("team")}),
        (admin, "POST", "/api/v1/claims", {**claim, "name": unique("claim")}),
        (admin, "DELETE", f"/api/v1/claims/{claim_id}", None),
    ):
        answer = person.ask(method, path, body)
        assert (answer.status, answer.json()["code"]) == (403, "forbidden"), (method, path, body, answer)
        assert "environments" in answer.json()["detail"]
        assert "dev alone" in answer.json()["detail"]
    made = owner.do("POST", "/api/v1/tokens", {**dev, "role": "editor", "account": prod["account"]})
    assert owner.ask("DELETE", f"/api/v1/tokens/{made['id']}").status == 403
    owner.do("DELETE", f"/api/v1/tokens/{owner.get('/api/v1/whoami')['token']}")


def test_a_viewer_sends_nothing_and_hears_which_role_it_takes(company):
    answer = company.person(company.team(), "viewer").send()
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert "operator" in answer.json()["detail"]


def test_what_two_teams_send_alike_is_of_each_and_neither_learns_of_the_other(company):
    ours, theirs, job = company.team(), company.team(), unique("job")
    event = run_event("COMPLETE", job=job)
    for team in (theirs, ours):
        told = [company.person(team).do("POST", "/api/v1/lineage", event)["status"] for _ in range(2)]
        assert told == ["accepted", "duplicate"]
    for team in (ours, theirs):
        assert company.person(team, "viewer").names("/api/v1/jobs") == {job}
        assert len(company.person(team, "viewer").get("/api/v1/events")["items"]) == 1


def test_what_two_teams_send_wrongly_alike_is_shown_to_each_as_its_own(company):
    ours, theirs = company.team(), company.team()
    wrong = json.dumps({"eventType": unique("wrong")}).encode()
    for team in (ours, theirs):
        assert company.person(team).ask("POST", "/api/v1/lineage", wrong).status == 422
    for team in (ours, theirs):
        (one,) = company.person(team, "viewer").get("/api/v1/lineage/refused")["items"]
        assert one["times"] == 1


def test_local_mode_says_that_everybody_sees_all(service):
    told = service.get("/api/v1/whoami")
    assert (told["mode"], told["everywhere"]) == ("local", "admin")
    assert service.send(run_event()).status == 201
