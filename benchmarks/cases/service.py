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
EDGES = int(os.environ.get("SERVICE_EDGES", "100_000"))
"""How large the graph of ``service_lineage`` is; ten edges a dataset, ten a job."""
JOBS, TABLES = 1_000, 2_000


def service_ingest() -> list[Row]:
    """Events of 4 kB with ten datasets, durable when acknowledged: one a request on 32 connections, and 100 on four."""
    rows = []
    with fresh_databases() as databases:
        for kind, address in databases:
            with service(address) as process:
                for name, connections, size, bound in (("single", 32, 1, 1_000), ("batches", 4, 100, 3_000)):
                    ingest_load(process.port, connections, size, 2.0)  # to warm up
                    before = process.cpu_seconds
                    rate, times = ingest_load(process.port, connections, size, SECONDS)
                    cpu = 1000 * (process.cpu_seconds - before) / (len(times) * size)
                    p50, p95 = percentiles(times)
                    told = f"{rate:.0f}/s"
                    print(
                        f"  {kind} {name}: {told}, p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
                        f"{cpu:.2f} ms of a processor an event, {process.megabytes:.0f} MB",
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


def service_lineage() -> list[Row]:
    """Lineage in a graph whose fan-out follows a power law, answers of up to 1,000 nodes with their names."""
    rows = []
    with fresh_databases() as databases:
        for kind, address in databases:
            starts = _fill(address, EDGES)
            with service(address) as process:
                for depth in (3, 10, 1000):
                    paths = [
                        f"/api/v1/lineage/tables?namespace=bench&dataset=t{number}&depth={depth}&limit=1000&direction={way}"
                        for number in starts
                        for way in ("up", "down")
                    ]
                    asked = [request_of("GET", path) for path in paths]
                    send(process.port, 1, iter(asked[:10]))
                    p50, p95 = percentiles(send(process.port, 1, iter(asked)))
                    bound = 50 if kind == "postgresql" else 80
                    print(
                        f"  {kind} {EDGES} edges, depth {depth}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
                        f"{process.megabytes:.0f} MB",
                        file=sys.stderr,
                    )
                    name = f"lineage_{kind}_{depth}"
                    rows.append(Row(name, f"{p95:.1f} ms", f"{bound} ms", p95 / bound, "≤ 1", p95 <= bound))
    return rows


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


def _fill(address: str, edges: int) -> list[int]:
    """Write a graph and return datasets to start from: 20 layers, popular datasets are read by thousands of jobs."""
    from aiflow_service.database import open_database
    from aiflow_service.database import tables as t
    from aiflow_service.database.bulk import insert_rows
    from aiflow_service.database.migration import migrate

    dice = random.Random(7)
    nodes, layers = edges // 10, 20
    width = nodes // layers
    database = open_database(address)
    migrate(database)
    with database.writing() as writing:
        insert_rows(writing, t.namespaces, ("id", "name"), [(1, "bench")])
        jobs = [(n, 1, 1, f"job{n}", b"") for n in range(1, nodes + 1)]
        insert_rows(writing, t.jobs, ("id", "team_id", "namespace_id", "name", "facts"), jobs)
        made = [(n, 1, 1, f"t{n}", b"") for n in range(1, nodes + 1)]
        insert_rows(writing, t.datasets, ("id", "team_id", "namespace_id", "name", "facts"), made)
        names = [(1, f"t{n}", n) for n in range(1, nodes + 1)]
        insert_rows(writing, t.dataset_names, ("namespace_id", "name", "dataset_id"), names)
        found: set[tuple[int, int, int]] = set()
        for job in range(1, nodes + 1):
            layer = (job - 1) // width % layers
            for _ in range(8):  # the lower the number within a layer, the more are reading it
                found.add((job, 0, 1 + (layer * width + int(width * dice.random() ** 4)) % nodes))
            for _ in range(2):
                found.add((job, 1, 1 + ((layer + 1) % layers * width + dice.randrange(width)) % nodes))
        ordered = sorted(found)
        for begin in range(0, len(ordered), 200_000):
            part = [(*edge, 1, 1) for edge in ordered[begin : begin + 200_000]]
            insert_rows(writing, t.edges, ("job_id", "is_write", "dataset_id", "first_seen", "last_seen"), part)
        if writing.is_postgres:
            writing.connection.exec_driver_sql("ANALYZE")
        for name in ("jobs", "datasets"):
            for _ in range(nodes):
                writing.number(name)
        writing.number("namespaces")
    database.close()
    return [dice.randrange(1, nodes + 1) for _ in range(100)]
