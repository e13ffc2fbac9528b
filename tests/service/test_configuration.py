"""Connections and variables: versions, references to secrets, and never a secret."""

import json
from typing import Any

import pytest

from service_trial import Service, unique

SECRET = "AKIAIOSFODNN7EXAMPLE"


def put(service: Service, path: str, **change: Any) -> tuple[int, Any]:
    answer = service.request("PUT", f"/api/v1/environments/{path}", json.dumps(change).encode())
    return answer.status, answer.json()


def test_each_change_is_a_version_and_the_newest_is_handed_out(service: Service) -> None:
    place = f"{unique('prod')}/configuration"
    options = {"host": "db.example.org", "port": 5432, "password": "secret://shop_db"}
    assert put(service, f"{place}/connection/shop", value=options)[1]["version"] == 1
    assert put(service, f"{place}/connection/shop", value=options)[1]["version"] == 1
    assert put(service, f"{place}/connection/shop", value={**options, "port": 5433})[1]["version"] == 2
    assert put(service, f"{place}/variable/region", value="eu")[0] == 200
    found = {one["name"]: one["value"] for one in service.pages(f"/api/v1/environments/{place}", limit=1)}
    assert found == {"shop": {**options, "port": 5433}, "region": "eu"}
    told = list(service.pages(f"/api/v1/environments/{place}/connection/shop/versions", limit=1))
    assert [one["value"]["port"] for one in told] == [5433, 5432]
    assert service.request("DELETE", f"/api/v1/environments/{place}/connection/shop").status == 200
    assert service.request("GET", f"/api/v1/environments/{place}/connection/shop").status == 404
    assert [one["name"] for one in service.pages(f"/api/v1/environments/{place}")] == ["region"]
    assert service.get(f"/api/v1/environments/{place}/connection/shop/versions")["items"][0]["value"] is None


def test_who_did_not_see_the_newest_version_does_not_overwrite_it(service: Service) -> None:
    place = f"{unique('prod')}/configuration/variable/limit"
    assert put(service, place, value=1, after=0)[0] == 200
    assert put(service, place, value=2, after=1)[0] == 200
    status, told = put(service, place, value=3, after=1)
    assert (status, told["code"]) == (409, "version-conflict")
    assert service.get(f"/api/v1/environments/{place}")["value"] == 2


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("connection", "shop", {"password": "hunter2"}),
        ("connection", "shop", {"url": "postgres://me:hunter2@db/shop"}),
        ("connection", "shop", {"inner": [{"api_key": "hunter2"}]}),
        ("variable", "api_token", "hunter2"),
        ("variable", "key", SECRET),
        ("variable", "address", f"git+https://ghp_{'hunter2' * 6}@host/shop"),
        ("connection", "api", {"headers": {"Authorization": "Bearer hunter2hunter2"}}),
        ("connection", "api", {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}),
    ],
)
def test_what_looks_like_a_secret_is_refused_and_not_repeated(service, kind, name, value) -> None:
    place = f"{unique('prod')}/configuration"
    answer = service.request(
        "PUT", f"/api/v1/environments/{place}/{kind}/{name}", json.dumps({"value": value}).encode()
    )
    assert (answer.status, answer.json()["code"]) == (422, "literal-secret")
    assert b"hunter2" not in answer.body
    assert SECRET.encode() not in answer.body
    assert list(service.pages(f"/api/v1/environments/{place}")) == []


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("connection/shop", {"value": "text"}),
        ("connection/shop", {"value": None}),
        ("variable/a b", {"value": "x"}),
        ("variable/x", {"value": "x", "after": -1}),
        ("variable/x", {"value": "x", "more": 1}),
        ("variable/x", {"value": "a\0b"}),
        ("variable/x", {"value": float("nan")}),
        ("connection/shop", {"value": {"port": [float("inf")]}}),
        ("variable/x", {"value": "x" * 70_000}),
        ("secret/x", {"value": "x"}),
    ],
)
def test_what_is_no_connection_or_variable_is_refused(service, place, change) -> None:
    assert put(service, f"{unique('prod')}/configuration/{place.replace(' ', '%20')}", **change)[0] == 422
