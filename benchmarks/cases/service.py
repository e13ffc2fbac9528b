"""The metadata service: events taken in, and lineage asked for, over HTTP on both databases."""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from measure import Row

from cases.service_process import fresh_databases, request_of, send, service

SECONDS = float(os.environ.get("SERVICE_SECONDS", "10"))
JOBS, TABLES = 1_000, 2_000


def service_ingest() -> list[Row]:
    """Events of 4 kB with ten datasets, durable when acknowledged: one a request on 32 connections, and 100 on four."""
    rows = []
    with fresh_databases() as databases:
        for kind, address in databases:
            with service(address) as process:
                for name, connections, size, bound in (("single", 32, 1, 1_000), ("batches", 4, 100, 3_000)):
                    ingest_load(process.port, connections, size, 2.0)  # to warm up
                    before, own = process.cpu_seconds, time.process_time()
                    rate, times = ingest_load(process.port, connections, size, SECONDS)
                    cpu = 1000 * (process.cpu_seconds - before) / (len(times) * size)
                    load = 1000 * (time.process_time() - own) / (len(times) * size)
                    p50, p95 = percentiles(times)
                    told = f"{rate:.0f}/s"
                    print(
                        f"  {kind} {name}: {told}, p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
                        f"{cpu:.2f} ms of a processor an event, {load:.2f} ms the load's, {process.megabytes:.0f} MB",
                        file=sys.stderr,
                    )
                    rows.append(Row(f"ingest_{kind}_{name}", told, f"{bound}/s", rate / bound, "≥ 1", rate >= bound))
                    if size == 1:
                        name = f"ingest_{kind}_p95"
                        rows.append(Row(name, f"{p95:.0f} ms", "100 ms", p95 / 100, "≤ 1", p95 <= 100))
    return rows


def service_ready() -> list[Row]:
    """From nothing, on SQLite: seconds until the service answers, and the memory that it then has."""
    found = []
    for _ in range(3):
        with TemporaryDirectory() as folder, service(f"sqlite:///{folder}/service.db") as process:
            send(process.port, 1, iter([request_of("GET", "/readyz")]))
            found.append((process.ready_seconds, process.megabytes))
    seconds, megabytes = min(found)
    return [
        Row("service_ready", f"{seconds:.2f} s", "5 s", seconds / 5, "≤ 1", seconds <= 5),
        Row("service_ready_memory", f"{megabytes:.0f} MB", "300 MB", megabytes / 300, "≤ 1", megabytes <= 300),
    ]


def percentiles(times: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile of seconds, in milliseconds."""
    return 1000 * statistics.median(times), 1000 * statistics.quantiles(times, n=20)[-1]


def _event(dice: random.Random) -> bytes:
    job = int(JOBS * dice.random() ** 2)
    schema = {
        "_producer": "urn:bench",
        "_schemaURL": "https://openlineage.io/spec/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
        "fields": [{"name": f"column_{number}", "type": "string"} for number in range(5)],
    }
    tables = [
        {"namespace": "bench", "name": f"t{(job * 7 + n * n * 3) % TABLES}", "facets": {"schema": schema}}
        for n in range(10)
    ]
    event = {
        "eventType": dice.choice(["START", "COMPLETE"]),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime()) + f"{dice.randrange(10**6):06}Z",
        "producer": "urn:bench",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid.UUID(int=dice.getrandbits(128))), "facets": {}},
        "job": {"namespace": "bench", "name": f"job{job}"},
        "inputs": tables[:5],
        "outputs": tables[5:],
    }
    return json.dumps(event).encode()


def ingest_load(
    port: int, connections: int, size: int, seconds: float, most: int = 10**9, seed: int = 0
) -> tuple[float, list[float]]:
    """Send for some seconds, or ``most`` requests; returns events a second, and the seconds of each request."""
    requests = itertools.islice(_requests(random.Random(f"{size} {seed}"), size), most)
    ahead = list(itertools.islice(requests, min(int(seconds * 6_000 / size), 1_000)))  # made before: the cores are two
    began = time.perf_counter()
    times = send(port, connections, itertools.chain(ahead, requests), seconds)
    return len(times) * size / (time.perf_counter() - began), times


def _requests(dice: random.Random, size: int) -> Iterator[bytes]:
    """Yield requests of new events: of some thousands, each with a run id of its own."""
    prepared = [_event(dice) for _ in range(2_000)]
    path = "/api/v1/lineage" if size == 1 else "/api/v1/lineage/batch"
    while True:
        made = []
        for _ in range(size):
            event = prepared[dice.randrange(len(prepared))]
            at = event.index(b'"runId": "') + 10
            made.append(event[:at] + str(uuid.UUID(int=dice.getrandbits(128))).encode() + event[at + 36 :])
        yield request_of("POST", path, made[0] if size == 1 else b"[" + b",".join(made) + b"]")
