"""What is asked for in an address: a parameter that no route has is refused, whatever the route."""

import json

import pytest

from service_trial import run_event, unique

KNOWN = {"number": 1, "run_id": "none", "environment": "dev", "kind": "variable", "name": "item", "team": "default"}


def test_no_route_ignores_a_parameter_that_it_does_not_have(service) -> None:
    told = service.get("/openapi.json")
    asked = 0
    for path, methods in told["paths"].items():
        for method in methods:
            if path == "/api/v1/sign-in/return":  # there the provider adds what it likes
                continue
            where = path.format(**KNOWN, principal=1, version="0")
            answer = service.request(method.upper(), f"{where}?tema=x", b"{}" if method in ("post", "put") else None)
            problem = answer.json()
            assert (answer.status, problem["code"]) == (422, "parameter-unknown"), (method, path, problem)
            assert problem["place"] == "query/tema"
            assert "'tema'" in problem["detail"]
            asked += 1
    assert asked > 50


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/api/v1/runs?tema=x&pipelin=y", "no parameter 'tema'"),
        ("/api/v1/runs?pipelin=y", "did you mean 'pipeline'?"),
        ("/api/v1/cost?tema=x", "did you mean 'team'?"),
        ("/healthz?x=1", "it has none"),
        ("/api/v1/jobs?Limit=3", "did you mean 'limit'?"),
        ("/api/v1/jobs?token%3Dabcdefghijklmn=3", "no parameter 'token=***'"),
        (f"/api/v1/jobs?{'x' * 5000}=3", f"'{'x' * 100}'"),
    ],
)
def test_the_parameter_is_named_and_a_near_one(service, address: str, said: str) -> None:
    answer = service.request("GET", address)
    assert answer.status == 422
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("is_batch", [False, True])
def test_an_event_that_was_sent_with_one_is_kept_and_can_be_taken_after_all(service, is_batch: bool) -> None:
    job = unique("padded")
    event = run_event(job=job, job_facets={"x": {"_producer": "urn:x", "_schemaURL": "urn:x", "pad": "p" * 20_000}})
    path = "/api/v1/lineage/batch" if is_batch else "/api/v1/lineage"
    raw = json.dumps([event] if is_batch else event).encode()
    answer = service.request("POST", f"{path}?team=growth", raw)
    assert (answer.status, answer.json()["code"]) == (422, "parameter-unknown")
    assert service.get("/api/v1/jobs", name=job)["items"] == []
    number = service.get("/api/v1/lineage/refused", code="parameter-unknown")["items"][0]["id"]
    assert service.request("POST", f"/api/v1/lineage/refused/{number}/replay").status == 200
    assert len(service.get("/api/v1/jobs", name=job)["items"]) == 1


def test_whether_it_lives_may_be_asked_without_a_body(service) -> None:
    for path in ("/healthz", "/readyz"):
        answer = service.request("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/json"
        assert service.request("HEAD", f"{path}?x=1").status == 422
