"""The service keeps to its OpenAPI document, whatever is sent: schemathesis makes requests of it, right and wrong ones.

Few and always the same ones here; ``make fuzz`` sends many, and others each time.
"""

import os
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi import checks

from access_trial import VARIABLE, Person, admin_token, pipeline_documents, release_of
from service_trial import dataset, facet, run_event, running_service

EXAMPLES = int(os.environ.get("API_EXAMPLES", "3"))
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
    admin.do("PUT", "/api/v1/releases", release_of(documents))
    admin.do("PUT", VARIABLE.format(item="item"), {"value": "x"})
    admin.do("POST", "/api/v1/claims", {"kind": "project", "name": "other", "team": "full"})
    admin.do("POST", "/api/v1/grants", {"from_team": "full", "to_team": "empty", "dataset": "x"})


KNOWN = {"number": 1, "run_id": RUN, "environment": "dev", "kind": "variable", "name": "item", "team": "full"}
"""What is there: right requests ask for it."""


def test_no_request_breaks_the_service_and_every_answer_is_as_described(people):
    schema = schemathesis.openapi.from_dict(people["all rights"].service.get("/openapi.json"))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    faults = []
    for operation in sorted(operations, key=lambda one: (one.method == "delete", one.path)):
        if operation.path not in UNENDING:
            known = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in operation.path}
            faults += try_out(operation.as_strategy(path_parameters=known or None), people, CHECKS)
            faults += try_out(
                operation.as_strategy(GenerationMode.NEGATIVE), people, [*CHECKS, checks.negative_data_rejection]
            )
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
