"""Whatever is sent: nothing breaks the service, every answer is as described, and no secret comes back.

schemathesis makes requests of the OpenAPI document, right and wrong ones: few and always the same ones here, many and
others each time by ``make fuzz``.
"""

import json
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi import checks

from access_trial import VARIABLE, Person, admin_token, pipeline_documents, release_of
from service_trial import dataset, facet, run_event, running_service, unique

EXAMPLES = int(os.environ.get("API_EXAMPLES", "2"))
"""Right ones and wrong ones, of each route."""
SEED = random.getrandbits(32) if "API_EXAMPLES" in os.environ else 1
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
UNENDING = {"/api/v1/runs/live"}
MESSAGE_SECRET = unique("letmein")
RUN = str(uuid.UUID(int=7))


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Iterator[dict[str, Person]]:
    """Who may do everything, and who has a role in an empty team alone; the service holds one of each thing."""
    folder = tmp_path_factory.mktemp("described")
    address = f"sqlite:///{folder / 'service.db'}"
    (folder / "service.toml").write_text("[sign_in]\n")
    secrets = [admin_token(address) for _ in range(2)]  # the first may be revoked by its number
    documents = pipeline_documents(folder)
    with running_service(folder, address, "--settings", str(folder / "service.toml")) as service:
        admin = Person(service, secrets[1])
        fill(admin, documents)
        wanted = {"name": "n", "team": "empty", "role": "viewer", "account": "n", "days": 1}
        stranger = Person(service, admin.do("POST", "/api/v1/tokens", wanted)["secret"])
        yield {"all rights": admin, "no rights": stranger}


def fill(admin, documents):
    for team in ("empty", "full"):
        admin.do("POST", "/api/v1/teams", {"name": team})
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int"}])
    event = run_event(run_id=RUN, inputs=["a"], outputs=[dataset("b", schema=schema)])
    assert admin.ask("POST", "/api/v1/lineage", event).status == 201
    assert admin.ask("POST", "/api/v1/lineage", {}).status == 422
    admin.do("PUT", "/api/v1/versions", {"versions": [documents]})
    admin.do("PUT", "/api/v1/releases", release_of(documents, message=f"see https://ana:{MESSAGE_SECRET}@git/x"))
    admin.do("PUT", VARIABLE.format(item="item"), {"value": "x"})
    admin.do("POST", "/api/v1/claims", {"kind": "project", "name": "other", "team": "full"})
    admin.do("POST", "/api/v1/grants", {"from_team": "full", "to_team": "empty", "dataset": "x"})


KNOWN = {"number": 1, "run_id": RUN, "environment": "dev", "kind": "variable", "name": "item", "team": "full"}
"""What is there: right requests ask for it."""


def test_planted_secrets_are_in_no_answer_no_log_and_not_in_the_database(people):
    admin = people["all rights"]
    secret = unique("hunter2")
    plant(admin, secret)
    document = admin.service.get("/openapi.json")
    for path, methods in document["paths"].items():
        if "get" not in methods or path in UNENDING:
            continue
        for number in range(1, 8) if "{number}" in path else (1,):
            words = {**KNOWN, "number": number, "principal": 1, "version": "0"}
            may = {one["name"] for one in methods["get"].get("parameters", ())}
            query = {"environment": "dev", "dataset": "b", "team": "full", "limit": 500}
            answer = admin.ask("GET", path.format(**words), **{k: v for k, v in query.items() if k in may})
            whole = answer.body + repr(answer.headers).encode()
            for planted in (secret, MESSAGE_SECRET, admin.secret, people["no rights"].secret):
                assert planted.encode() not in whole, f"{path} {number}: {whole[:2000]!r}"
    service = admin.service
    for file in (service.log, *service.log.parent.glob("service.db*")):
        assert secret.encode() not in file.read_bytes(), file
    events = admin.get("/api/v1/events", limit=500)["items"]
    assert "***" in json.dumps(events)
    assert "***" in admin.ask("GET", "/api/v1/audit/export").body.decode()


def plant(admin, secret):
    """Send a secret wherever something can be sent."""
    url = f"postgres://app:{secret}@db:5432/shop"
    facets = {
        "environmentVariables": facet(
            "EnvironmentVariablesRunFacet", environmentVariables=[{"name": "DB_PASSWORD", "value": secret}]
        ),
        "errorMessage": facet(
            "ErrorMessageRunFacet",
            message=f"cannot reach {url}",
            programmingLanguage="PYTHON",
            stackTrace=f"pwd={secret}",
        ),
        "spark_properties": facet("X", properties={"spark.hadoop.fs.s3a.secret.key": secret, "a.token": secret}),
        "params": facet("Y", params={"password": secret, "headers": [{"key": "Authorization", "value": secret}]}),
    }
    source = {**facet("DatasourceDatasetFacet"), "name": "shop", "uri": url}
    job_facets = {"sql": facet("SQLJobFacet", query=f"COPY t FROM 's3://b' SECRET_ACCESS_KEY='{secret}'")}
    told: dict[str, Any] = {
        "inputs": [dataset("t", namespace=url, dataSource=source)],
        "run_facets": facets,
        "job_facets": job_facets,
    }
    good = run_event("FAIL", **told)
    wrong = {**good, "eventType": f"token={secret}"}
    assert admin.ask("POST", "/api/v1/lineage", good).status == 201
    refused = admin.ask("POST", "/api/v1/lineage", wrong)
    assert refused.status == 422
    for body in (
        wrong,
        [wrong, 5],
        {"password": secret},
        json.dumps(good).encode()[:-9],
        b"\xff" + json.dumps(good).encode(),
    ):
        for path in ("/api/v1/lineage", "/api/v1/lineage/batch"):
            answer = admin.ask("POST", path, body)
            assert answer.status in (200, 400, 422)
            assert secret.encode() not in answer.body
    variable = VARIABLE.format(item="planted")
    for value in (url, {"password": secret}, {"headers": {"authorization_token": secret}}):
        answer = admin.ask("PUT", variable, {"value": value})
        assert (answer.status, secret.encode() in answer.body) == (422, False)
    for path in ("/api/v1/runs", "/api/v1/none", f"/api/v1/token={secret}", "/api/v1/sign-in/return"):
        answer = admin.ask("GET", path, password=secret, state=secret, code=secret, access_token=secret)
        assert secret.encode() not in answer.body
    for headers in (
        {"Authorization": f"Bearer {secret}"},
        {"Authorization": f"Bearer aiflow_{secret}"},
        {"Authorization": f"Bearer a.{secret}.b"},
        {"Cookie": f"aiflow_session={secret}"},
        {"X-Api-Key": secret, "traceparent": secret, "Last-Event-ID": secret},
    ):
        answer = admin.service.request("GET", "/api/v1/whoami", None, headers)
        assert (answer.status, secret.encode() in answer.body) == (401, False)


@pytest.mark.timeout(600 + 60 * EXAMPLES)
def test_no_request_breaks_the_service_and_every_answer_is_as_described(people):
    schema = schemathesis.openapi.from_dict(people["all rights"].service.get("/openapi.json"))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    faults = []
    for operation in sorted(operations, key=lambda one: (one.method == "delete", one.path)):
        if operation.path not in UNENDING:
            known = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in operation.path}
            faults += try_out(operation.as_strategy(path_parameters=known or None), people, CHECKS)
            wrong = operation.as_strategy(GenerationMode.NEGATIVE)
            faults += try_out(wrong, {"all rights": people["all rights"]}, [*CHECKS, checks.negative_data_rejection])
    assert not faults, "\n\n".join(faults)


def try_out(requests, people, wanted):
    """Make some requests, each as everybody; return what was wrong."""
    faults = []

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests)
    def ask(case):
        for name, person in people.items():
            headers = {"Authorization": f"Bearer {person.secret}"}
            try:
                case.call_and_validate(base_url=person.service.address, headers=headers, checks=wanted)
            except* Failure as group:
                faults.extend(f"{case.operation.label} with {name}: {one}" for one in group.exceptions)

    with suppress(Unsatisfiable):  # nothing can be wrong of a request that takes nothing
        ask()
    return faults
