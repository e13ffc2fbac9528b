"""What somebody tries who means harm, over HTTP: each of it once went through, or stopped the service for all."""

from __future__ import annotations

import base64
import http.client
import json
import random
from contextlib import closing, suppress

import pytest
from fastapi.routing import APIRoute

from access_trial import Person
from aiflow_service.api import ROUTERS
from service_trial import facet, run_event, unique

ROUTES = ["/api/v1/teams", "/api/v1/claims", "/api/v1/grants", "/api/v1/tokens", "/api/v1/lineage"]
MIB = 1024 * 1024


def sent_in_chunks(service, path: str, headers: dict[str, str], mebibytes: int) -> tuple[int, str]:
    """Send a body that does not end; the status and the code that come back although it has not."""
    with closing(http.client.HTTPConnection(service.host, service.port, timeout=20)) as connection:
        connection.putrequest("POST", path)
        for name, value in {"Transfer-Encoding": "chunked", "Content-Type": "application/json", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with suppress(OSError):  # it has been answered, and what comes is not read
            for _ in range(mebibytes):
                connection.send(b"%x\r\n%b\r\n" % (MIB, b" " * MIB))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["code"]


@pytest.mark.parametrize("path", ROUTES)
def test_the_body_of_somebody_unknown_is_not_read(company, path) -> None:
    assert sent_in_chunks(company.service, path, {}, 1) == (401, "unauthorized")


def test_a_body_without_end_is_cut_off_on_every_route(company) -> None:
    headers = {"Authorization": f"Bearer {company.person(company.team(), 'viewer').secret}"}
    assert sent_in_chunks(company.service, "/api/v1/teams", headers, 33) == (413, "body-too-large")


def test_no_route_lets_the_framework_read_a_body() -> None:
    """It reads all of it, however long, before it asks who calls; `read_body` does neither."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 40
    assert [route.path for route in routes if route.body_field is not None] == []


@pytest.mark.parametrize(
    "kept", ["[" * 40_000, json.dumps(dict.fromkeys(("state", "nonce", "verifier", "to"), "\ud800")), "\xff", "[]"]
)
def test_a_cookie_of_a_sign_in_that_is_none_is_told_so(company, kept) -> None:
    cookie = base64.urlsafe_b64encode(kept.encode("utf-8", "surrogatepass")).decode()
    path = "/api/v1/sign-in/return?state=x&code=y"
    answer = company.service.request("GET", path, headers={"Cookie": f"aiflow_sign_in={cookie}"})
    assert (answer.status, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("environment", [["dev"], {}, 5, None])
def test_an_environment_that_is_no_text_is_refused_and_the_rest_of_its_batch_lands(company, environment) -> None:
    robot = company.person(company.team(), "operator", environment="dev")
    odd = run_event(run_facets={"aiflow_run": facet("Run", environment=environment)})
    answer = robot.ask("POST", "/api/v1/lineage", odd)
    assert (answer.status, answer.json()["code"]) == (422, "environment-forbidden")
    summary = robot.do("POST", "/api/v1/lineage/batch", [odd, run_event()])["summary"]
    assert (summary["successful"], summary["failed"]) == (1, 1)


@pytest.mark.parametrize("depth", [150, 900, 5_000])
def test_an_entry_of_airflow_that_is_nested_deep_is_recorded_like_any_other(company, depth) -> None:
    source = unique("http://airflow")
    entry = {"at": "2026-11-20T10:00:00Z", "event": "trigger", "dag_id": source}
    odd = '{"conf":' * depth + "1" + "}" * depth
    entries = [{**entry, "number": 1, "extra": odd}, {**entry, "number": 2}]
    told = company.admin.do("POST", "/api/v1/audit/airflow", {"source": source, "entries": entries})
    assert told == {"recorded": 2}


def test_what_airflow_notes_tells_no_secret_however_it_was_cut(company) -> None:
    source = unique("http://airflow")
    whole = json.dumps({"tokens": ["hunter2-a"], "pin_secret": 77123, "db_credential": "hunter2-b", "x": "y" * 50})
    entries = [
        {"number": n, "at": "2026-11-20T10:00:00Z", "event": "variable.set", "dag_id": source, "extra": extra}
        for n, extra in enumerate((whole, whole[:-20]))
    ]
    company.admin.do("POST", "/api/v1/audit/airflow", {"source": source, "entries": entries})
    found = company.admin.get("/api/v1/audit", object_name=source)["items"]
    assert len(found) == 2
    assert "hunter2-b" not in json.dumps(found)
    assert "77123" not in json.dumps(found[-1])
    assert "hunter2" not in json.dumps(found[-1])


def test_nobody_takes_another_teams_account_into_a_team_to_see_its_name(company) -> None:
    theirs, mine = company.team("theirs"), company.team("mine")
    company.person(theirs, "operator")
    (account,) = company.admin.get(f"/api/v1/teams/{theirs}/members")["items"]
    owner = company.person(mine, "owner")
    path = f"/api/v1/teams/{mine}/members/{account['principal']}"
    there, absent = (
        owner.ask("PUT", one, {"role": "viewer"}) for one in (path, f"/api/v1/teams/{mine}/members/{2**40}")
    )
    assert (there.status, there.body) == (absent.status, absent.body) == (404, there.body)
    assert "operator-robot" not in json.dumps(owner.get(f"/api/v1/teams/{mine}/members"))
    own = owner.get(f"/api/v1/teams/{mine}/members")["items"][0]["principal"]
    company.admin.do("PUT", f"/api/v1/teams/{mine}/members/{own}", {"role": "admin"})


@pytest.mark.parametrize("name", ["key", "environment"])
def test_a_release_whose_name_no_index_holds_is_refused_on_both_databases(company, name) -> None:
    chance = random.Random(7)
    long = "".join(chr(chance.randint(0x20000, 0x2A000)) for _ in range(490))
    release = {"key": unique("k"), "number": 1, "project": "p", "environment": "dev", "project_version": "1"}
    release |= {"action": "deploy", "at": "2026-11-20T00:00:00Z", "pipelines": [], name: long}
    answer = company.person(company.team(), "editor").ask("PUT", "/api/v1/releases", release)
    assert (answer.status, answer.json()["code"], answer.json()["place"]) == (422, "body-invalid", f"body/{name}")


def test_whoever_names_anothers_dataset_learns_of_no_number_that_it_has(company) -> None:
    table = unique("payroll")
    theirs, mine = company.team("theirs"), company.team("mine")
    owner: Person = company.person(theirs, "operator")
    assert owner.send(job="pay", outputs=[table]).status == 201
    (found,) = owner.get("/api/v1/datasets", name=table)["items"]
    assert len(owner.get("/api/v1/events", dataset=found["id"])["items"]) == 1
    stranger = company.person(mine, "operator")
    assert stranger.send(job="guess", inputs=[table]).status == 201
    assert stranger.get("/api/v1/events", dataset=found["id"]) == {"items": [], "next": None}


def test_a_place_in_anothers_releases_tells_nothing_of_when_they_were(company) -> None:
    theirs, mine = (company.person(company.team(), "editor") for _ in range(2))
    release = {"number": 1, "project": unique("p"), "environment": "dev", "project_version": "1", "action": "deploy"}
    for editor, year in ((theirs, 2024), (mine, 2023), (mine, 2025)):
        told = {**release, "key": unique("k"), "at": f"{year}-01-01T00:00:00Z", "pipelines": []}
        editor.do("PUT", "/api/v1/releases", told)
    (own,) = mine.get("/api/v1/releases", limit=1)["items"]
    place = base64.urlsafe_b64decode(mine.get("/api/v1/releases", limit=1)["next"] + "==").decode()
    at, number = map(int, place.split("."))
    seen = set()
    for other in range(max(1, number - 2), number):  # those before it
        cursor = base64.urlsafe_b64encode(f"{at}.{other}".encode()).decode().rstrip("=")
        seen.add(len(mine.get("/api/v1/releases", cursor=cursor)["items"]))
    assert own["at"].startswith("2025")
    assert seen == {0}
