"""Events come in: what is right is durable and seen at once, what is wrong is refused with its reason and kept."""

import gzip
import json
import socket
import time
import uuid
import zlib
from contextlib import closing, suppress
from typing import Any

import pytest

from service_trial import Service, dataset, facet, run_event, unique, wait_until

GOOD = run_event()


def test_an_event_is_in_the_next_answer_and_comes_back_byte_for_byte(service: Service) -> None:
    job = unique("job")
    raw = b" " + json.dumps(run_event(job=job), indent=1).encode() + b"\n"
    answer = service.send(raw)
    assert (answer.status, answer.json()["status"]) == (201, "accepted")
    assert service.request("GET", f"/api/v1/events/{answer.json()['id']}").body == raw
    (run,) = service.get("/api/v1/runs", pipeline=job)["items"]
    assert run["state"] == "succeeded"


def test_the_same_event_counts_once_however_it_is_written(service: Service) -> None:
    event = run_event(job=unique("job"))
    assert service.send(event).json()["status"] == "accepted"
    again = dict(reversed(event.items()))
    assert service.send(json.dumps(again, indent=3).encode()).json()["status"] == "duplicate"
    assert service.send_batch([event, again]).json()["summary"]["successful"] == 2
    assert len(service.get(f"/api/v1/runs/{event['run']['runId']}/events")["items"]) == 1


def test_gzip_is_unpacked(service: Service) -> None:
    event = run_event()
    body = gzip.compress(json.dumps(event).encode())
    assert service.send(body, **{"Content-Encoding": "gzip"}).status == 201
    assert service.get(f"/api/v1/runs/{event['run']['runId']}")["state"] == "succeeded"


def test_job_and_dataset_events_are_taken(service: Service) -> None:
    name = unique("table")
    shared: dict[str, Any] = {"eventTime": "2026-11-20T10:00:00Z", "producer": "urn:test"}
    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "id", "type": "int64"}])
    told = {**shared, "schemaURL": "https://x.y/#/$defs/DatasetEvent", "dataset": dataset(name, schema=schema)}
    assert service.send(told).status == 201
    reader = unique("job")
    job = {"namespace": "aiflow/dev", "name": reader}
    told = {**shared, "schemaURL": "https://x.y/#/$defs/JobEvent", "job": job, "inputs": [dataset(name)]}
    assert service.send(told).status == 201
    found = service.dataset(name)
    assert found["columns"] == [{"name": "id", "type": "int64", "description": None}]
    assert [edge["job"]["name"] for edge in found["jobs"]] == [reader]
    assert {one["kind"] for one in service.pages("/api/v1/events", dataset=found["id"])} == {"dataset", "job"}
    (edge,) = found["jobs"]
    job_id = edge["job"]["id"]

    def kinds(**wanted: object) -> list[str]:
        return [one["kind"] for one in service.pages("/api/v1/events", job=job_id, **wanted)]

    assert kinds() == kinds(since="2026-11-20T10:00:00Z") == kinds(until="2026-11-20T10:00:01Z") == ["job"]
    assert kinds(since="2026-11-20T10:00:01Z") == kinds(until="2026-11-20T10:00:00Z") == []


def changed(path: str, value: object) -> dict:
    event = json.loads(json.dumps(run_event(inputs=["a"], outputs=["b"])))
    *way, last = path.split("/")
    place = event
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return event


WRONG: dict[str, tuple[Any, int, str | None]] = {
    "no object": (b"5", 422, "event-invalid"),
    "no JSON": (b'{"run": ', 400, "json-invalid"),
    "not a number": (b'{"run": NaN}', 400, "json-invalid"),
    "infinite": (b'{"run": Infinity}', 400, "json-invalid"),
    "a fraction of 400 digits": (b'{"run": %b.5}' % (b"9" * 400), 400, "json-invalid"),
    "beyond a number": (b'{"run": 1e999}', 400, "json-invalid"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "json-invalid"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), 400, "utf8-invalid"),
    "empty": (b"", 400, "json-invalid"),
    "not UTF-8": (b'{"run": "\xff"}', 400, "utf8-invalid"),
    "half of a pair": (b'{"run": "\\ud800"}', 400, "json-invalid"),
    "nested": (b'{"run":' * 500 + b"1" + b"}" * 500, 422, "event-nested"),
    "nested beyond a parser": (b"[" * 100_000, 422, "event-nested"),
    "10 MB": (json.dumps(changed("producer", "urn:" + "x" * 10_000_000)).encode(), 413, "body-too-large"),
    "no run, job or dataset": (b"{}", 422, "event-invalid"),
    "a run without a job": ({key: value for key, value in GOOD.items() if key != "job"}, 422, "event-invalid"),
    "a run id that is none": (changed("run/runId", "x"), 422, "event-invalid"),
    "an unknown type": (changed("eventType", "DONE"), 422, "event-invalid"),
    "inputs that are no list": (changed("inputs", {}), 422, "event-invalid"),
    "a name that is a number": (changed("job/name", 5), 422, "event-invalid"),
    "an empty name": (changed("job/name", ""), 422, "name-empty"),
    "a name with NUL": (changed("inputs/0/name", "a\0b"), 422, "name-with-nul"),
    "a name of 3 kB": (changed("job/name", "ä" * 1_500), 422, "name-too-long"),
    "a time without zone": (changed("eventTime", "2026-11-20T10:00:00"), 422, "event-invalid"),
    "the year 9999": (changed("eventTime", "9999-12-31T23:59:59Z"), 422, "time-out-of-range"),
    "the year 1969": (changed("eventTime", "1969-12-31T23:59:59Z"), 422, "time-out-of-range"),
    "before the first year": (changed("eventTime", "0001-01-01T00:00:00+14:00"), 422, None),
    "a facet that is a number": (changed("run/facets/bad", 5), 422, "event-invalid"),
    "a schema that is a text": (
        changed("inputs/0/facets/schema", facet("SchemaDatasetFacet", "1-2-0", fields="x")),
        422,
        "event-invalid",
    ),
    "100,000 fields": (
        changed(
            "inputs/0/facets/schema", facet("SchemaDatasetFacet", fields=[{"name": f"c{n}"} for n in range(100_000)])
        ),
        422,
        None,
    ),
    "100,000 members": ({**GOOD, **{f"x{n}": n for n in range(100_000)}}, 422, "event-too-many-fields"),
    "100,000 members of a facet": (
        changed("run/facets/wide", facet("Wide", "1-0-0", **{f"x{n}": n for n in range(100_000)})),
        422,
        "event-too-many-fields",
    ),
    "100,000 members of a dataset's facet": (
        changed("inputs/0/facets/wide", facet("Wide", "1-0-0", **{f"x{n}": {} for n in range(100_000)})),
        422,
        "event-too-many-fields",
    ),
    "3,000 inputs": (changed("inputs", [dataset(f"t{n}") for n in range(3_000)]), 422, "event-too-many-datasets"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_with_its_reason_and_kept(service: Service, name: str) -> None:
    body, status, code = WRONG[name]
    began = time.monotonic()
    answer = service.send(body)
    assert answer.status in ({status, 413} if code is None else {status}), answer
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert code in (None, problem["code"])
    assert len(problem["detail"]) > 10
    assert time.monotonic() - began < 60
    newest = service.get("/api/v1/lineage/refused", limit=50)["items"]
    assert problem["code"] in {one["code"] for one in newest}


def test_a_gzip_bomb_is_refused(service: Service) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    answer = service.send(bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [("gzip", b"no gzip", 400), ("gzip", gzip.compress(b"{}", mtime=0)[:-6], 400), ("br", b"{}", 415)],
)
def test_an_encoding_that_cannot_be_undone_is_refused(
    service: Service, encoding: str, body: bytes, status: int
) -> None:
    assert service.send(body, **{"Content-Encoding": encoding}).status == status


def test_the_other_events_of_a_batch_land(service: Service) -> None:
    good = [run_event(job=unique("job")) for _ in range(3)]
    bad = changed("eventType", "DONE")
    answer = service.send_batch([good[0], bad, good[1], 5, good[2]])
    assert answer.status == 200
    told = answer.json()
    assert told["status"] == "partial_success"
    assert told["summary"] == {"received": 5, "successful": 3, "failed": 2, "retriable": 0, "non_retriable": 2}
    assert [(one["index"], one["code"], one["retriable"]) for one in told["failed_events"]] == [
        (1, "event-invalid", False),
        (3, "event-invalid", False),
    ]
    for event in good:
        assert service.get(f"/api/v1/runs/{event['run']['runId']}")["state"] == "succeeded"


@pytest.mark.parametrize("body", [b"{}", b"[", b"5", b"[" + b"1," * 20_000 + b"1]"])
def test_what_is_no_batch_is_refused_whole(service: Service, body: bytes) -> None:
    answer = service.request("POST", "/api/v1/lineage/batch", body)
    assert 400 <= answer.status < 500, answer


def test_what_is_refused_again_is_kept_once_and_counted(service: Service) -> None:
    event = changed("job/name", unique("job"))
    event["eventType"] = "DONE"
    for _ in range(3):
        assert service.send(event).status == 422
    newest = service.get("/api/v1/lineage/refused", limit=1)["items"][0]
    assert newest["times"] == 3
    assert newest["place"] == "/eventType"
    assert service.request("GET", f"/api/v1/lineage/refused/{newest['id']}").body == json.dumps(event).encode()
    assert service.request("POST", f"/api/v1/lineage/refused/{newest['id']}/replay").status == 422


def test_unknown_facets_stay_as_they_came(service: Service) -> None:
    mine = {
        "_producer": "urn:test",
        "_schemaURL": "urn:mine",
        "deep": {"a": [1, None, "ü"]},
        "big": 12345678901234567890123,
    }
    event = run_event(run_facets={"mine": mine}, inputs=[dataset("t", mine=mine)])
    number = service.send(event).json()["id"]
    assert service.request("GET", f"/api/v1/events/{number}").json() == event


ODD = {
    "a key twice": ('"producer": "urn:test"', '"eventType": "START", "producer": "urn:test"'),
    "400 digits": (
        '"facets": {}',
        '"facets": {"x": {"_producer": "urn:x", "_schemaURL": "urn:x", "n": %s}}' % ("9" * 400),
    ),
    "NUL": ('"facets": {}', r'"facets": {"a\u0000b": {"_producer": "urn:x", "_schemaURL": "urn:x", "n": "a\u0000b"}}'),
    "no name": ('"facets": {}', '"facets": {"": {"_producer": "urn:x", "_schemaURL": "urn:x"}}'),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_and_allowed_lands_and_comes_back_as_it_was(service: Service, name: str) -> None:
    raw = json.dumps(run_event(job=unique("job"))).replace(*ODD[name], 1).encode()
    answer = service.send(raw)
    assert answer.status == 201, answer
    assert service.request("GET", f"/api/v1/events/{answer.json()['id']}").body == raw


def talk(service: Service, *parts: bytes, hangs_up: bool = False) -> bytes:
    """Send what no client of HTTP would, and return what comes back until the service closes."""
    with closing(socket.create_connection((service.host, service.port), timeout=60)) as connection:
        for part in parts:
            connection.sendall(part)
        if hangs_up:
            connection.shutdown(socket.SHUT_WR)
        told = b""
        with suppress(ConnectionError):
            while more := connection.recv(65_536):
                told += more
        return told


HEAD = b"POST /api/v1/lineage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def test_a_body_of_chunks_lands_and_one_without_end_is_cut_off(service: Service) -> None:
    event = run_event()
    raw = json.dumps(event).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (raw[:50], raw[50:]))
    assert b" 201 " in talk(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")
    assert service.get(f"/api/v1/runs/{event['run']['runId']}")["state"] == "succeeded"
    endless = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    told = b""
    with suppress(ConnectionError):  # it may have closed before all was sent
        told = talk(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[endless] * 8)
    assert told == b"" or b" 413 " in told


def test_a_length_that_lies_changes_nothing(service: Service) -> None:
    event = run_event(job=unique("job"))
    raw = json.dumps(event).encode()
    long, short = (HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(raw) + more, raw) for more in (50, -50))
    assert b" 201 " not in talk(service, long, hangs_up=True)
    assert b" 400 " in talk(service, short)
    for length in (b"-5", b"1e3", b"5, 6", b"9" * 30):
        assert b" 201 " not in talk(service, HEAD + b"Content-Length: %b\r\n\r\n%b" % (length, raw), hangs_up=True)
    assert service.request("GET", f"/api/v1/runs/{event['run']['runId']}").status == 404


def test_a_flood_of_headers_is_refused(service: Service) -> None:
    flood = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 1000) for n in range(1000))
    for head in (flood, b"X-1: " + b"a" * 1_000_000):
        with suppress(ConnectionError):
            assert b" 200 " not in talk(service, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
    assert service.get("/healthz")["status"] == "ok"


def test_senders_that_are_slow_hold_up_nobody(service: Service) -> None:
    slow = [socket.create_connection((service.host, service.port), timeout=60) for _ in range(100)]
    for one in slow:
        one.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
    assert service.send(run_event()).status == 201
    for one in slow:
        one.close()
    assert service.send(run_event()).status == 201


def test_a_facet_of_another_version_may_look_otherwise(service: Service) -> None:
    old = facet("SchemaDatasetFacet", "0-1-0", fields="of old")
    assert service.send(run_event(inputs=[dataset(unique("t"), schema=old)])).status == 201


@pytest.mark.parametrize("origin", ["https://evil.example", "http://10.0.0.1", "null", "http://[::1", "http://a[b"])
def test_a_page_of_elsewhere_cannot_talk_to_it(service: Service, origin: str) -> None:
    assert service.send(run_event(), Origin=origin).json()["code"] == "foreign-origin"
    assert service.send(run_event(), Host=origin.rpartition("/")[2]).json()["code"] == "foreign-origin"
    assert service.send(run_event(), Host="rebound.example").status == 403


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),  # a picture of a page of elsewhere
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link there that somebody follows
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),  # an address that somebody typed
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost:3000"}, 200),
    ],
)
def test_a_page_of_elsewhere_cannot_even_ask(service: Service, said: dict[str, str], status: int) -> None:
    assert service.request("GET", "/api/v1/whoami", headers=said).status == status


@pytest.mark.parametrize("path", ["/api/v1/lineage", "/api/v1/lineage/batch", "/api/v1/teams"])
def test_a_sender_that_goes_in_the_middle_is_no_fault_of_the_service(service: Service, path: str) -> None:
    trace = uuid.uuid4().hex
    with socket.create_connection((service.host, service.port)) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\ntraceparent: 00-{trace}-{'1' * 16}-01\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    wait_until(lambda: trace in service.log.read_text())
    told = [json.loads(line) for line in service.log.read_text().splitlines() if trace in line]
    assert {one["level"] for one in told} == {"info"}
    assert told[-1]["status"] == 400
