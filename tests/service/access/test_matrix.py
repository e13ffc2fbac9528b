"""Every route, every role, one's own, a granted and a stranger's object. A new route without its row fails.

Each row says how a route is called for the things of a team, what it takes to be let in, and what of them shows in an
answer. From that follow all the cases: who has too low a role is told so, and a stranger is told what somebody is told
who asks for what is not there, in the same words; of a stranger's things no name and no count is in any answer.
"""

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from access_trial import ROLES, VARIABLE, Company, release_of
from service_trial import dataset, facet, unique

ABSENT = 2**40


@dataclass
class Things:
    """What a team has, by the words that rows use for it."""

    team: str
    job: str
    table: str
    values: dict[str, Any] = field(default_factory=dict)

    def fill(self, template: Any) -> Any:
        """Return a template with the values in it: text of a path, or of a body."""
        if isinstance(template, dict):
            return {key: self.fill(value) for key, value in template.items()}
        if not isinstance(template, str):
            return template
        if found := re.fullmatch(r"\{(\w+)\}", template):
            return self.values[found[1]]
        return template.format(**self.values)

    def secrets(self) -> set[str]:
        """What no stranger may read."""
        return {self.job, self.table, self.team, *(str(self.values[word]) for word in ("run", "release", "item"))}


@dataclass
class Row:
    """How a route is called.

    ``needs``: the role in the team. ``kind`` ``one``: a stranger gets what is told of what is absent (``absent`` has
    the values that make it so); ``list``: a stranger gets an answer without it; ``all``: it takes a role in every team;
    ``open``: nobody needs to sign in; ``sent``: it is the sender's; ``stream`` has a test of its own.
    """

    path: str
    kind: str
    needs: str = "viewer"
    body: Any = None
    absent: dict[str, Any] = field(default_factory=dict)
    granted: bool = False
    """Whether a grant of the dataset shows it."""
    status: tuple[int, ...] = (200, 201)


def one(path: str, word: str = "", **more: Any) -> Row:
    names = {"run": str(uuid.UUID(int=0)), "team": "no-such-team", "table": "no-such-table", "item": "no-such-item"}
    missing = names.get(word, ABSENT)
    return Row(path, "one", absent={word: missing} if word else {}, **more)


def listed(path: str, **more: Any) -> Row:
    return Row(path, "list", **more)


EVENT = {"eventType": "{wrong}"}
GRANT = {"from_team": "{team}", "to_team": "{other}", "dataset": "{table}"}
ROWS = {
    "GET /healthz": Row("/healthz", "open"),
    "GET /readyz": Row("/readyz", "open"),
    "GET /metrics": Row("/metrics", "all", "viewer"),
    "GET /api/v1/sign-in": Row("/api/v1/sign-in", "open"),
    "GET /api/v1/sign-in/begin": Row("/api/v1/sign-in/begin", "open", status=(302,)),
    "GET /api/v1/sign-in/return": Row("/api/v1/sign-in/return", "open", status=(401,)),
    "POST /api/v1/sign-in/end": Row("/api/v1/sign-in/end", "open"),
    "POST /api/v1/lineage": Row("/api/v1/lineage", "sent", "operator", EVENT, status=(422,)),
    "POST /api/v1/lineage/batch": Row("/api/v1/lineage/batch", "sent", "operator", [], status=(200,)),
    "GET /api/v1/events": listed("/api/v1/events?run={run}"),
    "GET /api/v1/events/{number}": one("/api/v1/events/{event}", "event"),
    "GET /api/v1/lineage/refused": listed("/api/v1/lineage/refused"),
    "GET /api/v1/lineage/refused/{number}": one("/api/v1/lineage/refused/{refused}", "refused"),
    "POST /api/v1/lineage/refused/{number}/replay": one(
        "/api/v1/lineage/refused/{refused}/replay", "refused", needs="operator", status=(422,)
    ),
    "GET /api/v1/runs": listed("/api/v1/runs?job={job_id}"),
    "GET /api/v1/runs/live": Row("/api/v1/runs/live", "stream"),
    "GET /api/v1/runs/{run_id}": one("/api/v1/runs/{run}", "run"),
    "POST /api/v1/runs/{run_id}/end": one("/api/v1/runs/{run}/end", "run", needs="operator", status=(409,)),
    "GET /api/v1/runs/{run_id}/events": listed("/api/v1/runs/{run}/events"),
    "GET /api/v1/jobs": listed("/api/v1/jobs?q={job}"),
    "GET /api/v1/jobs/{number}": one("/api/v1/jobs/{job_id}", "job_id"),
    "GET /api/v1/datasets": listed("/api/v1/datasets?q={table}", granted=True),
    "GET /api/v1/datasets/{number}": one("/api/v1/datasets/{table_id}", "table_id", granted=True),
    "PUT /api/v1/datasets/{number}/owner": Row(
        "/api/v1/datasets/{table_id}/owner", "all", "admin", {"team": "{team}"}, absent={"table_id": ABSENT}
    ),
    "DELETE /api/v1/datasets/{number}/owner": Row(
        "/api/v1/datasets/{table_id}/owner", "all", "admin", absent={"table_id": ABSENT}
    ),
    "GET /api/v1/lineage/tables": one("/api/v1/lineage/tables?dataset={table}", "table", granted=True),
    "GET /api/v1/lineage/columns": one("/api/v1/lineage/columns?dataset={table}", "table", granted=True),
    "GET /api/v1/service": listed("/api/v1/service"),
    "GET /api/v1/lineage/ungranted": listed("/api/v1/lineage/ungranted"),
    "GET /api/v1/whoami": listed("/api/v1/whoami"),
    "GET /api/v1/teams": listed("/api/v1/teams"),
    "POST /api/v1/teams": Row("/api/v1/teams", "all", "admin", {"name": "{fresh}"}),
    "GET /api/v1/teams/{team}": one("/api/v1/teams/{team}", "team"),
    "GET /api/v1/teams/{team}/members": one("/api/v1/teams/{team}/members", "team"),
    "PUT /api/v1/teams/{team}/members/{principal}": one(
        "/api/v1/teams/{team}/members/{member}", "team", needs="owner", body={"role": "viewer"}
    ),
    "DELETE /api/v1/teams/{team}/members/{principal}": one(
        "/api/v1/teams/{team}/members/{member}", "team", needs="owner"
    ),
    "GET /api/v1/claims": listed("/api/v1/claims"),
    "POST /api/v1/claims": Row(
        "/api/v1/claims", "all", "admin", {"kind": "project", "name": "{fresh}", "team": "{team}"}
    ),
    "DELETE /api/v1/claims/{number}": Row("/api/v1/claims/{claim}", "all", "admin", absent={"claim": ABSENT}),
    "GET /api/v1/grants": listed("/api/v1/grants"),
    "POST /api/v1/grants": one("/api/v1/grants", "team", needs="owner", body=GRANT),
    "GET /api/v1/grants/effective": one("/api/v1/grants/effective?team={team}", "team"),
    "POST /api/v1/grants/decisions": Row(
        "/api/v1/grants/decisions", "sent", "operator", {"project": "shop", "environment": "dev", "datasets": []}
    ),
    "DELETE /api/v1/grants/{number}": one("/api/v1/grants/{grant}", "grant", needs="owner"),
    "PUT /api/v1/versions": Row("/api/v1/versions", "sent", "editor", {"versions": []}, status=(200,)),
    "PUT /api/v1/releases": Row("/api/v1/releases", "sent", "editor", {}, status=(422,)),
    "GET /api/v1/releases": listed("/api/v1/releases?project=shop"),
    "GET /api/v1/pipelines": listed("/api/v1/pipelines?project=shop"),
    "GET /api/v1/pipelines/{number}": one("/api/v1/pipelines/{pipeline}", "pipeline"),
    "GET /api/v1/pipelines/{number}/history": one("/api/v1/pipelines/{pipeline}/history?environment=dev", "pipeline"),
    "GET /api/v1/pipelines/{number}/versions/{version}": one(
        "/api/v1/pipelines/{pipeline}/versions/{version}", "pipeline"
    ),
    "GET /api/v1/pipelines/{number}/differences": one(
        "/api/v1/pipelines/{pipeline}/differences?before={version}&after={version}", "pipeline"
    ),
    "GET /api/v1/datasets/{number}/partitions": one(
        "/api/v1/datasets/{table_id}/partitions?environment=dev", "table_id", granted=True
    ),
    "GET /api/v1/datasets/{number}/repairs": one(
        "/api/v1/datasets/{table_id}/repairs?environment=dev&down=true", "table_id", granted=True
    ),
    "GET /api/v1/environments/{environment}/configuration": listed("/api/v1/environments/dev/configuration"),
    "GET /api/v1/environments/{environment}/configuration/{kind}/{name}": one(VARIABLE, "item"),
    "GET /api/v1/environments/{environment}/configuration/{kind}/{name}/versions": listed(f"{VARIABLE}/versions"),
    "PUT /api/v1/environments/{environment}/configuration/{kind}/{name}": one(
        f"{VARIABLE}?team={{team}}", "team", needs="editor", body={"value": "y"}
    ),
    "DELETE /api/v1/environments/{environment}/configuration/{kind}/{name}": one(
        f"{VARIABLE}?team={{team}}", "team", needs="editor"
    ),
    "GET /api/v1/cost": listed("/api/v1/cost?by=node"),
    "GET /api/v1/audit": listed("/api/v1/audit?limit=500"),
    "GET /api/v1/audit/export": listed("/api/v1/audit/export"),
    "GET /api/v1/audit/verify": Row("/api/v1/audit/verify", "all", "owner"),
    "GET /api/v1/audit/airflow": Row("/api/v1/audit/airflow?source=here", "all", "owner"),
    "POST /api/v1/audit/airflow": Row("/api/v1/audit/airflow", "all", "owner", {"source": "here", "entries": []}),
    "GET /api/v1/audit/checkpoints": Row("/api/v1/audit/checkpoints", "all", "owner"),
    "GET /api/v1/tokens": listed("/api/v1/tokens", needs="owner"),
    "POST /api/v1/tokens": one(
        "/api/v1/tokens", "team", needs="owner", body={"name": "n", "account": "n", "role": "viewer", "team": "{team}"}
    ),
    "DELETE /api/v1/tokens/{number}": one("/api/v1/tokens/{token}", "token", needs="owner"),
}
TOLD_APART_BY_ROLE = {"DELETE /api/v1/tokens/{number}"}
"""Routes of what a member with too low a role does not even see."""


def test_every_route_has_its_row(company):
    told = company.service.request("GET", "/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, methods in told["paths"].items() for method in methods}
    assert routes == set(ROWS), "a new route needs a row above: who may call it, and what a stranger is told"


def things_of(company: Company, documents: dict[str, str], team: str, other: str) -> Things:
    job, table, run = unique("job"), unique("table"), str(uuid.uuid4())
    editor = company.person(team, "editor")
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int"}])
    ended = {"aiflow_run": own(task_id="make", environment="dev"), "aiflow_usage": own(cpu_seconds=3, seconds=2)}
    outputs = [dataset(table, schema=schema)]
    sent = editor.send(job=job, run_id=run, event_type="COMPLETE", outputs=outputs, run_facets=ended).json()
    release, item = release_of(documents), unique("item")
    (version,) = editor.do("PUT", "/api/v1/versions", {"versions": [documents]})["versions"]
    editor.do("PUT", "/api/v1/releases", release)
    editor.do("PUT", VARIABLE.format(item=item), {"value": "x"})
    found = Things(team, job, table, {"team": team, "other": other, "job": job, "table": table, "run": run})
    found.values |= {
        "event": sent["id"],
        "release": release["key"],
        "item": item,
        "version": version["version"],
        "pipeline": editor.get("/api/v1/pipelines", project="shop")["items"][0]["id"],
        "job_id": editor.get("/api/v1/jobs", name=job)["items"][0]["id"],
        "table_id": editor.get("/api/v1/datasets", name=table)["items"][0]["id"],
    }
    return found


def own(**facts: Any) -> dict[str, Any]:
    return {"_producer": "urn:x", "_schemaURL": "urn:x", **facts}


def renew(company: Company, things: Things) -> Things:
    """Make what a call may use up: each call gets its own."""
    values, made = things.values, company.admin.do
    values["wrong"], values["fresh"] = unique("wrong"), unique("fresh")
    company.person(things.team, "editor").ask("POST", "/api/v1/lineage", {"eventType": unique("wrong")})
    values["refused"] = company.person(things.team, "editor").get("/api/v1/lineage/refused")["items"][0]["id"]
    token = {"name": "t", "account": unique("robot"), "role": "viewer", "team": things.team}
    values["token"] = made("POST", "/api/v1/tokens", token)["id"]
    members = company.admin.get(f"/api/v1/teams/{things.team}/members", limit=500)["items"]
    values["member"] = members[-1]["principal"]
    grant = {"from_team": things.team, "to_team": values["other"], "dataset": unique("other")}
    values["grant"] = made("POST", "/api/v1/grants", grant)["id"]
    values["claim"] = made("POST", "/api/v1/claims", {"kind": "project", "name": unique("claim"), "team": things.team})[
        "id"
    ]
    return things


@pytest.fixture
def scene(company, documents):
    """Our team, a stranger's with things, and one that has granted us its table."""
    ours, theirs, giver, third = (company.team(name) for name in ("ours", "theirs", "giver", "third"))
    found = {
        "own": things_of(company, documents, ours, third),
        "stranger": things_of(company, documents, theirs, third),
    }
    found["granted"] = things_of(company, documents, giver, third)
    grant = {"from_team": giver, "to_team": ours, "dataset": found["granted"].table}
    company.person(giver, "owner").do("POST", "/api/v1/grants", grant)
    return company, ours, found


def call(person, name, row, things):
    method = name.partition(" ")[0]
    return person.ask(method, things.fill(row.path), things.fill(row.body) if row.body is not None else None)


USES_UP = {name for name in ROWS if name.split()[0] != "GET"} | {"GET /api/v1/lineage/refused/{number}"}


def test_each_route_for_each_role_and_each_kind_of_object(scene):
    company, ours, found = scene
    for things in found.values():
        renew(company, things)
    faults = []
    for name, row in ROWS.items():
        if row.kind in ("open", "stream"):
            if row.kind == "open" and company.service.request(name.split()[0], row.path, b"").status not in row.status:
                faults.append(f"{name}: is to be open")
            continue
        if company.service.request(name.split()[0], found["own"].fill(row.path), b"{}").status != 401:
            faults.append(f"{name}: without a token")
        for role in ROLES:
            person = company.person(ours, role)
            for whose, things in found.items():
                if name in USES_UP and whose == "own" and role in ("owner", "admin"):
                    renew(company, things)
                fault = _fault(company, person, name, row, role, whose, things)
                if fault:
                    faults.append(f"{name} · {role} · {whose}: {fault}")
    assert not faults, "\n".join(faults)


def _fault(company, person, name, row, role, whose, things):
    answer = call(person, name, row, things)
    enough = ROLES.index(role) >= ROLES.index(row.needs)
    told = answer.body.decode()
    if answer.status >= 500:
        return f"{answer.status} {told}"
    if row.kind == "all":
        return None if answer.status in (403, 404) else f"{answer.status}: one team's {role} may do it for all"
    if row.kind == "sent":
        wanted = row.status if enough else (403,)
        return None if answer.status in wanted else f"{answer.status} {told}"
    visible = whose == "own" or (whose == "granted" and row.granted)
    if visible:
        low = (404,) if name in TOLD_APART_BY_ROLE else (403,)
        wanted = row.status if enough or row.kind == "list" else low
        if answer.status not in wanted:
            return f"{answer.status} where {wanted} is meant: {told}"
        if whose == "granted" and things.job in told:
            return f"the granted table's job shows: {told}"
        return None
    if row.kind == "list":
        # What a grant shows of its giver is the giver's name and the table's, and nothing else.
        hidden = things.secrets() - ({things.team, things.table} if whose == "granted" else set())
        shown = [one for one in hidden if one in told]
        return f"shows {shown}: {told}" if shown else None
    absent = Things(things.team, things.job, things.table, {**things.values, **row.absent})
    nothing = call(person, name, row, absent)
    if answer.status != 404 or (answer.status, answer.body) != (nothing.status, nothing.body):
        if whose == "granted" and name.endswith(("grants", "grants/{number}")) and answer.status in (403, 404):
            return None
        return f"{answer.status} {told}, and of what is absent {nothing.status} {nothing.body.decode()}"
    return None


def test_live_runs_are_ones_own(scene):
    company, ours, found = scene
    import http.client

    connection = http.client.HTTPConnection(company.service.host, company.service.port, timeout=60)
    headers = {"Authorization": f"Bearer {company.person(ours, 'viewer').secret}", "Last-Event-ID": "0"}
    connection.request("GET", "/api/v1/runs/live", headers=headers)
    response = connection.getresponse()
    company.person(found["stranger"].team).send(job=found["stranger"].job)
    last = unique("last")
    company.person(ours).send(job=last)
    told = b""
    deadline = time.monotonic() + 60
    while last.encode() not in told and time.monotonic() < deadline:
        told += response.fp.readline()
    connection.close()
    text = told.decode()
    assert found["own"].job in text
    assert not [one for one in found["stranger"].secrets() if one in text]
    assert json.loads(text.rpartition("data: ")[2])["job"]["name"] == last


def test_events_of_a_granted_table_are_not_the_givers(scene):
    company, ours, found = scene
    person = company.person(ours, "viewer")
    assert person.get("/api/v1/events", dataset=found["granted"].values["table_id"])["items"] == []
    assert person.get("/api/v1/runs", job=found["stranger"].values["job_id"])["items"] == []
