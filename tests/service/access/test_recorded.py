"""What the audit has of access: every change with its actor, and what was denied; and whose deployments are."""

import time
import uuid

import pytest

from access_trial import VARIABLE, Person, release_of
from service_trial import unique


def audited(company, team=None, **query):
    """Return the rows of a team, or of all, in the order in which they were recorded."""
    path, place, found = "/api/v1/audit", None, []
    query |= {"team": team} if team else {}
    while True:
        page = company.admin.get(path, oldest_first="true", limit=500, **query, **({"cursor": place} if place else {}))
        found += page["items"]
        if (place := page["next"]) is None:
            return found


def test_every_change_of_access_is_recorded_with_who_made_it(company):
    ours, theirs, do = company.team(), company.team(), company.admin.do
    token = do("POST", "/api/v1/tokens", {"name": "ci", "team": ours, "role": "viewer", "account": "ci"})
    (member,) = company.admin.get(f"/api/v1/teams/{ours}/members")["items"]
    do("PUT", f"/api/v1/teams/{ours}/members/{member['principal']}", {"role": "editor"})
    do("DELETE", f"/api/v1/teams/{ours}/members/{member['principal']}")
    project = unique("project")
    claim = do("POST", "/api/v1/claims", {"kind": "project", "name": project, "team": ours})
    do("DELETE", f"/api/v1/claims/{claim['id']}")
    grant = do("POST", "/api/v1/grants", {"from_team": ours, "to_team": theirs, "dataset": "raw.*"})
    do("DELETE", f"/api/v1/grants/{grant['id']}")
    do("DELETE", f"/api/v1/tokens/{token['id']}")
    rows = audited(company, ours)
    assert [row["action"] for row in rows] == [
        "team.made",
        "member.set",
        "token.made",
        "member.set",
        "member.set",
        "claim.made",
        "claim.dropped",
        "grant.made",
        "grant.revoked",
        "token.revoked",
    ]
    me = company.admin.get("/api/v1/whoami")
    for row in rows:
        assert row["actor"] == f"service:{me['name']}"
        assert row["details"]["by"] == {"principal": me["principal"], "token": me["token"]}
        assert (row["team"], row["result"], row["origin"]) == (ours, "done", "127.0.0.1")
    assert {row["object_name"] for row in rows if row["object_kind"] == "claim"} == {f"project {project}"}
    assert token["secret"] not in str(rows)
    assert company.admin.get("/api/v1/audit/verify")["findings"] == []
    assert company.admin.get("/api/v1/audit/checkpoints")["problems"] == []


def test_a_team_sees_of_the_audit_its_own_rows(company):
    ours, theirs = company.team(), company.team()
    rows = company.person(ours, "viewer").get("/api/v1/audit", limit=500)["items"]
    assert {row["team"] for row in rows} == {ours}
    assert company.person(ours, "viewer").get("/api/v1/audit", team=theirs)["items"] == []
    exported = company.person(ours, "viewer").ask("GET", "/api/v1/audit/export")
    assert exported.headers["x-audit-partial"] == "true"
    assert theirs not in exported.body.decode()


def test_what_was_refused_is_not_recorded_as_done(company):
    ours = company.team()
    claim = {"kind": "project", "name": unique("project"), "team": ours}
    company.admin.do("POST", "/api/v1/claims", claim)
    assert company.admin.ask("POST", "/api/v1/claims", claim).status == 409
    assert [row["action"] for row in audited(company, ours)] == ["team.made", "claim.made"]


def test_a_denial_is_recorded_once_however_often(company):
    ours = company.team()
    viewer = company.person(ours, "viewer")
    me = viewer.get("/api/v1/whoami")
    for _ in range(3):
        assert viewer.ask("PUT", VARIABLE.format(item="x"), {"value": 1}).status == 403
    assert viewer.send().status == 403
    denied = audited(company, ours, result="denied")
    assert sorted(row["object_name"] for row in denied) == [
        "POST /api/v1/lineage",
        "PUT /api/v1/environments/{environment}/configuration/{kind}/{name}",
    ]
    assert {row["actor"] for row in denied} == {f"service:{me['name']}"}
    assert "editor" in str(denied)


def test_a_token_that_nobody_made_is_recorded_as_a_strangers(company):
    path = f"/api/v1/events/{uuid.uuid4().int % 2**60 + 1}"
    assert Person(company.service, "aiflow_wrong").ask("GET", path).status == 401
    (row,) = [
        one
        for one in audited(company, result="denied", actor="stranger")
        if one["object_name"] == "GET /api/v1/events/{number}"
    ]
    assert (row["team"], row["origin"]) == (None, "127.0.0.1")
    assert "aiflow_wrong" not in str(row)


def test_a_tokens_use_is_recorded_once_a_day(company):
    ours = company.team()
    viewer = company.person(ours, "viewer")
    for _ in range(3):
        viewer.get("/api/v1/runs")
        time.sleep(0.6)
    assert [row["action"] for row in audited(company, ours)].count("token.used") == 1


def test_what_groups_give_and_take_is_recorded_for_each_team(company):
    name, subject = unique("somebody"), unique("subject")
    told = {"sub": subject, "email": f"{name}@company.com", "email_verified": True}
    token = company.provider.token(groups=["data-eng"], iat=time.time() - 60, **told)
    Person(company.service, token).get("/api/v1/whoami")
    Person(company.service, company.provider.token(groups=[], **told)).ask("GET", "/api/v1/whoami")
    rows = [row for row in audited(company, actor=f"user:{name}@company.com") if row["action"] != "team.made"]
    changes = [(row["action"], row["team"], row["details"].get("before"), row["details"].get("role")) for row in rows]
    assert changes == [
        ("member.set", "growth", None, "editor"),
        ("sign-in.token", None, None, None),
        ("member.set", "growth", "editor", None),
        ("sign-in.token", None, None, None),
        ("request.denied", None, None, None),
    ]


def test_deployments_and_configuration_are_recorded_as_their_editors(company, documents):
    ours = company.team()
    editor = company.person(ours, "editor")
    me = editor.get("/api/v1/whoami")
    editor.do("PUT", "/api/v1/versions", {"versions": [documents]})
    editor.do("PUT", "/api/v1/releases", release_of(documents))
    for _ in range(2):
        editor.do("PUT", VARIABLE.format(item="region"), {"value": "a value"})
    editor.do("DELETE", VARIABLE.format(item="region"))
    rows = audited(company, ours, actor=f"service:{me['name']}")
    assert [row["action"] for row in rows if row["action"] != "token.used"] == [
        "version.recorded",
        "release.deployed",
        "variable.set",
        "variable.removed",
    ]
    assert "a value" not in str(rows)


def test_a_token_for_one_environment_deploys_and_configures_nothing_in_another(company, documents):
    robot = company.person(company.team(), "editor", environment="prod", account="prod-robot")
    answer = robot.ask("PUT", VARIABLE.format(item="x"), {"value": 1})
    assert (answer.status, answer.json()["detail"]) == (
        403,
        "this takes the role editor in dev; yours is editor in prod alone",
    )
    assert robot.ask("DELETE", VARIABLE.format(item="x")).status == 403
    assert robot.ask("PUT", "/api/v1/versions", {"versions": [documents]}).status == 403
    assert robot.ask("PUT", "/api/v1/releases", release_of(documents)).status == 403
    robot.do("PUT", VARIABLE.replace("/dev/", "/prod/").format(item="x"), {"value": 1})


def test_what_somebody_in_several_teams_configures_takes_the_teams_name(company):
    ours, theirs, subject = company.team(), company.team(), unique("subject")
    token = company.provider.token(sub=subject, email=f"{subject}@company.com", email_verified=True)
    somebody = Person(company.service, token)
    assert somebody.ask("GET", "/api/v1/whoami").json()["code"] == "no-team"
    numbers = {row["details"]["by"]["principal"] for row in audited(company, actor=f"user:{subject}@company.com")}
    (number,) = numbers
    for team in (ours, theirs):
        company.admin.do("PUT", f"/api/v1/teams/{team}/members/{number}", {"role": "editor"})
    place = VARIABLE.format(item="region")
    answer = somebody.ask("PUT", place, {"value": "eu"})
    assert (answer.status, answer.json()["code"]) == (422, "team-ambiguous")
    for team, value in ((ours, "eu"), (theirs, "us")):
        somebody.do("PUT", f"{place}?team={team}", {"value": value})
    assert somebody.get(place, team=ours)["value"] == "eu"
    assert somebody.get(place, team=theirs)["value"] == "us"
    listed = somebody.get("/api/v1/environments/dev/configuration", team=theirs)["items"]
    assert [one["value"] for one in listed] == ["us"]
    assert company.person(ours, "viewer").get(place)["value"] == "eu"


@pytest.mark.parametrize("kind", ["project", "namespace"])
def test_a_claim_says_whose_a_deployment_for_all_is(company, documents, kind):
    ours = company.team()
    name = {"project": "shop", "namespace": "aiflow/dev"}[kind]
    claim = company.admin.do("POST", "/api/v1/claims", {"kind": kind, "name": name, "team": ours})
    company.admin.do("PUT", "/api/v1/versions", {"versions": [documents]})
    release = release_of(documents)
    company.admin.do("PUT", "/api/v1/releases", release)
    company.admin.do("DELETE", f"/api/v1/claims/{claim['id']}")
    (found,) = company.person(ours, "viewer").get("/api/v1/releases")["items"]
    assert found["key"] == release["key"]
    (pipeline,) = company.person(ours, "viewer").get("/api/v1/pipelines")["items"]
    assert pipeline["current"]["dev"]["release"]["key"] == release["key"]
