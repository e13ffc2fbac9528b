"""What a team may read and write, as deployments and tasks ask it."""

from datetime import UTC, datetime, timedelta

import pytest

from service_trial import dataset, facet, unique


def decide(person, *touches, project="shop", environment="dev", status=200):
    datasets = [{"namespace": "onelake", "name": name, "access": access} for name, access in touches]
    body = {"project": project, "environment": environment, "datasets": datasets}
    answer = person.ask("POST", "/api/v1/grants/decisions", body)
    assert answer.status == status, answer
    return answer.json()


def allowed(person, *touches, **more):
    return [one["allowed"] for one in decide(person, *touches, **more)["datasets"]]


@pytest.fixture
def scene(company):
    """Our operator, the owner of another team, and a table of each."""
    ours, theirs = company.team("ours"), company.team("theirs")
    mine, other = unique("mine"), unique("theirs")
    company.person(ours).send(outputs=[mine])
    company.person(theirs).send(outputs=[f"{other}.orders", f"{other}.people"])
    return company, ours, theirs, mine, other


def grant(scene, pattern, **more):
    company, ours, theirs, _, _ = scene
    wanted = {"from_team": theirs, "to_team": ours, "dataset": pattern, **more}
    return company.person(theirs, "owner").do("POST", "/api/v1/grants", wanted)["id"]


def test_ones_own_and_nobodys_may_be_touched_and_a_strangers_not(scene):
    company, ours, _, mine, other = scene
    person = company.person(ours, "operator")
    told = decide(person, (mine, "write"), (unique("nobody"), "write"), (f"{other}.orders", "read"))
    assert told["team"] == ours
    assert [one["allowed"] for one in told["datasets"]] == [True, True, False]
    assert next(one["name"] for one in told["datasets"]) == mine
    assert scene[2] not in str(told)


def test_what_others_have_only_read_is_nobodys_until_it_is_written(scene):
    company, ours, theirs, _, _ = scene
    table = unique("external")
    company.person(theirs).send(inputs=[table], outputs=[unique("out")])
    touches = (table, "read"), (table, "write")
    assert allowed(company.person(ours, "operator"), *touches) == [True, True]
    company.person(ours).send(outputs=[table])
    assert allowed(company.person(ours, "operator"), *touches) == [True, True]
    assert allowed(company.person(theirs, "operator"), *touches) == [False, False]


def test_a_grant_allows_what_it_says_until_it_ends(scene):
    company, ours, theirs, _, other = scene
    person = company.person(ours, "operator")
    touches = [(f"{other}.orders", "read"), (f"{other}.orders", "write"), (f"{other}.people", "read")]
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reading = grant(scene, f"{other}.orders", until=until)
    told = decide(person, *touches)["datasets"]
    assert [one["allowed"] for one in told] == [True, False, False]
    assert datetime.fromisoformat(told[0]["until"]) == datetime.fromisoformat(until)
    grant(scene, f"{other}.*", access="write", namespace="onelake")
    told = decide(person, *touches)["datasets"]
    assert [(one["allowed"], one["until"]) for one in told] == [(True, None)] * 3
    writing = next(one["id"] for one in person.get("/api/v1/grants")["items"] if one["access"] == "write")
    company.person(theirs, "owner").do("DELETE", f"/api/v1/grants/{writing}")
    assert allowed(person, *touches) == [True, False, False]
    company.person(theirs, "owner").do("DELETE", f"/api/v1/grants/{reading}")
    assert allowed(person, *touches) == [False] * 3


def test_a_grant_of_another_namespace_or_of_a_third_team_allows_nothing(scene):
    company, ours, _, _, other = scene
    grant(scene, f"{other}.*", namespace="s3://elsewhere")
    third = company.team("third")
    wanted = {"from_team": third, "to_team": ours, "dataset": f"{other}.*"}
    company.person(third, "owner").do("POST", "/api/v1/grants", wanted)
    assert allowed(company.person(ours, "operator"), (f"{other}.orders", "read")) == [False]


def test_a_grant_under_one_name_allows_all_names(scene):
    company, ours, theirs, _, _ = scene
    name, alias = unique("table"), unique("alias")
    identifiers = [{"namespace": "s3://lake", "name": alias, "type": "TABLE"}]
    symlinks = facet("SymlinksDatasetFacet", "1-0-1", identifiers=identifiers)
    company.person(theirs).send(outputs=[dataset(name, symlinks=symlinks)])
    grant(scene, alias, namespace="s3://lake")
    assert allowed(company.person(ours, "operator"), (name, "read")) == [True]


def test_a_claimed_namespace_is_its_teams_before_anybody_has_spoken_of_a_dataset(scene):
    company, ours, theirs, _, _ = scene
    begin = unique("s3://bucket")
    for name, team in ((begin, theirs), (f"{begin}/ours", ours)):
        company.admin.do("POST", "/api/v1/claims", {"kind": "namespace", "name": name, "team": team})
    datasets = [
        {"namespace": namespace, "name": "x", "access": "read"}
        for namespace in (begin, f"{begin}/theirs", f"{begin}/ours/deep")
    ]
    body = {"project": "shop", "environment": "dev", "datasets": datasets}
    told = company.person(ours, "operator").do("POST", "/api/v1/grants/decisions", body)["datasets"]
    assert [one["allowed"] for one in told] == [False, False, True]


def test_who_may_run_all_is_judged_as_the_team_that_claims_the_project(scene):
    company, ours, _, mine, other = scene
    project, environment = unique("project"), unique("env")
    assert decide(company.admin, project=project)["team"] == "default"
    company.admin.do("POST", "/api/v1/claims", {"kind": "namespace", "name": f"aiflow/{environment}", "team": scene[2]})
    assert decide(company.admin, project=project, environment=environment)["team"] == scene[2]
    company.admin.do("POST", "/api/v1/claims", {"kind": "project", "name": project, "team": ours})
    told = decide(company.admin, (mine, "read"), (f"{other}.orders", "read"), project=project, environment=environment)
    assert told["team"] == ours
    assert [one["allowed"] for one in told["datasets"]] == [True, False]


def test_a_denial_stands_in_the_audit_and_a_token_of_another_environment_is_denied(scene):
    company, ours, _, _, other = scene
    decide(company.person(ours, "operator"), (f"{other}.orders", "write"))
    rows = company.person(ours, "viewer").get("/api/v1/audit", limit=500)["items"]
    (row,) = [one for one in rows if other in str(one["details"])]
    assert (row["action"], row["result"]) == ("request.denied", "denied")
    assert f"write {other}.orders" in row["details"]["why"]
    limited = company.person(ours, "operator", environment="prod")
    assert decide(limited, environment="dev", status=403)["code"] == "forbidden"
    assert decide(limited, environment="prod")["team"] == ours


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"project": "p", "environment": "dev", "datasets": [{"namespace": "n", "name": "x", "access": "own"}]},
        {"project": "p", "environment": "dev", "datasets": [{"namespace": "n", "name": "", "access": "read"}]},
        {"project": "p\0", "environment": "dev", "datasets": []},
        {"project": "p", "environment": "dev", "datasets": [{"namespace": "n", "name": "x", "access": "read"}] * 5001},
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_bad_questions_are_told_what_is_wrong(company, body):
    answer = company.admin.ask("POST", "/api/v1/grants/decisions", body)
    assert answer.status == 422, answer
    assert answer.json()["code"] == "body-invalid"
