"""Lineage asked for over HTTP by somebody who sees one team's things, in graphs that grow, on both databases."""

from __future__ import annotations

import gc
import http.client
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from measure import Row

from cases.service import percentiles
from cases.service_process import Running, filled_databases, service

if TYPE_CHECKING:
    from aiflow_service.database import Database

SIZES = [int(size) for size in os.environ.get("SERVICE_EDGES", "10_000 100_000").split()]
"""How many edges the graphs have, those of tables and those of columns each."""
DEPTHS = (3, 10, 1000)
LAYERS = 20
NODES = 1000
ASKED = 100
OURS, THEIRS, DEFAULT = 2, 3, 1
SLOT = 300_000_000
"""Microseconds: when an edge was seen is kept to five minutes."""


def service_lineage() -> list[Row]:
    """Answers of up to 1,000 nodes with names, teams and owners, in graphs whose fan-out follows a power law."""
    rows = []
    for size in SIZES:
        with filled_databases(f"lineage_{size}", partial(fill, edges=size)) as databases:
            for kind, address, (tables, columns) in databases:
                with TemporaryDirectory() as folder:
                    settings = Path(folder, "service.toml")
                    settings.write_text("[sign_in]\n")
                    with service(address, "--settings", str(settings)) as process:
                        token = _token(process, address)
                        rows += [_measure(process, token, kind, size, depth, "tables", tables) for depth in DEPTHS]
                        rows.append(_measure(process, token, kind, size, 1000, "columns", columns))
    return rows


def _measure(process: Running, token: str, kind: str, size: int, depth: int, what: str, starts: Sequence[str]) -> Row:
    paths = [
        f"/api/v1/lineage/{what}?namespace=bench&{start}&depth={depth}&limit={NODES}&direction={way}"
        for start in starts
        for way in ("up", "down")
    ]
    ask_all(process.port, token, paths[:10])
    cpu = process.cpu_seconds
    times, nodes, edges = ask_all(process.port, token, paths)
    cpu = 1000 * (process.cpu_seconds - cpu) / len(paths)
    p50, p95 = percentiles(times)
    bound = 100 if size > 1_000_000 else 50 if kind == "postgresql" else 80
    print(
        f"  {kind} {size:,} edges of {what}, depth {depth}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, {cpu:.1f} ms of a "
        f"processor; {nodes:.0f} nodes, {edges:.0f} edges on average; {process.megabytes:.0f} MB",
        file=sys.stderr,
    )
    name = f"lineage_{'pg' if kind == 'postgresql' else kind}_{what[:3]}_{size // 1000}k_{depth}"
    return Row(name, f"{p95:.1f} ms", f"{bound} ms", p95 / bound, "≤ 1", p95 <= bound)


def ask_all(port: int, token: str, paths: Sequence[str]) -> tuple[list[float], float, float]:
    """Return the seconds of each answer, and how many nodes and edges they have on average."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times, nodes, edges = [], 0, 0
    for path in paths:
        began = time.perf_counter()
        answer = _ask(connection, token, "GET", path)
        times.append(time.perf_counter() - began)
        told = json.loads(answer)
        nodes += len(told.get("datasets") or told["columns"]) + len(told["jobs"])
        edges += len(told["edges"])
    connection.close()
    return times, nodes / len(times), edges / len(times)


def _ask(connection: http.client.HTTPConnection, token: str, method: str, path: str, data: object = None) -> bytes:
    body = None if data is None else json.dumps(data).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status in (200, 201), content
    return content


def _token(process: Running, address: str) -> str:
    """Return a token of somebody who may look at what is ours."""
    command = [sys.executable, "-m", "aiflow_service", "--database", address, "--admin-token"]
    admin = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    wanted = {"name": "bench", "team": "ours", "role": "viewer", "account": "bench"}
    connection = http.client.HTTPConnection("127.0.0.1", process.port)
    made: dict[str, str] = json.loads(_ask(connection, admin, "POST", "/api/v1/tokens", wanted))
    connection.close()
    return made["secret"]


def fill(address: str, edges: int) -> tuple[list[str], list[str]]:
    """Write a graph, and return what to ask of it: datasets, and columns.

    Ten edges a dataset, ten a job, in a circle of layers; popular datasets are read by thousands of jobs. One thing in
    fifty is another team's, of one of whose datasets in two there is a grant; a job in ten is deployed and declares its
    edges. Ten columns a dataset, of which as many as there are edges, by five, have five sources.
    """
    from aiflow_service.database import open_database
    from aiflow_service.database.migration import migrate

    dice = random.Random(7)
    gc.freeze()
    nodes = edges // 10
    width = nodes // LAYERS
    database = open_database(address)
    migrate(database)
    now = time.time_ns() // 1000 // SLOT * SLOT

    def seen() -> tuple[int, int]:
        first = now - SLOT * dice.randrange(288, 8640)
        return first, first + SLOT * dice.randrange(288)

    def popular(layer: int) -> int:
        """The lower the number within a layer, the more read it."""
        return 1 + (layer * width + int(width * dice.random() ** 4)) % nodes

    def table_edges() -> Iterator[tuple[int, ...]]:
        for job in range(1, nodes + 1):
            layer = (job - 1) // width % LAYERS
            for dataset in sorted({popular(layer) for _ in range(8)}):
                yield (job, 0, dataset, *seen())
            behind = {1 + ((layer + 1) % LAYERS * width + dice.randrange(width)) % nodes for _ in range(2)}
            for dataset in sorted(behind):
                yield (job, 1, dataset, *seen())

    def column_edges() -> Iterator[tuple[Any, ...]]:
        """Column N of dataset D has the id 10 D + N."""
        for target in range(10, 10 + edges // 5):
            layer = (target // 10 - 1) // width % LAYERS
            for source in sorted({10 * popular(layer - 1) + dice.randrange(10) for _ in range(5)}):
                yield (target, source, dice.randrange(1, nodes + 1), "DIRECT/IDENTITY", *seen())

    def team(number: int) -> int:
        return THEIRS if number % 50 == 7 else OURS

    owner = {"ownership": [now, "0" * 16, {"owners": [{"name": "team:growth", "type": "MAINTAINER"}]}]}
    facts = json.dumps(owner, separators=(",", ":")).encode()
    every = range(1, nodes + 1)
    with closing(_Bulk(database)) as bulk:
        bulk.load("teams", ("id", "name", "created_at"), [(OURS, "ours", now), (THEIRS, "theirs", now)])
        bulk.load("namespaces", ("id", "name"), [(1, "bench")])
        of_nodes = ("id", "team_id", "namespace_id", "name", "facts")
        bulk.load("jobs", of_nodes, ((n, team(n), 1, f"job{n}", facts) for n in every))
        bulk.load("datasets", of_nodes, ((n, team(n), 1, f"schema{n % 100}.t{n}", facts) for n in every))
        names = ((1, f"schema{n % 100}.t{n}", n) for n in every)
        bulk.load("dataset_names", ("namespace_id", "name", "dataset_id"), names)
        bulk.load(
            "grants",
            ("id", "from_team_id", "to_team_id", "name", "is_prefix", "writes", "created_at", "created_by"),
            [(n, THEIRS, OURS, f"schema{3 * n}.", 1, 0, now, "bench") for n in range(1, 50)],
        )
        of_edges = ("job_id", "is_write", "dataset_id", "first_seen", "last_seen")
        declared = []

        def noting(found: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
            for edge in found:
                if edge[0] % 10 == 0:
                    declared.append((*edge[:3], edge[3] - SLOT))
                yield edge

        bulk.load("edges", of_edges, noting(table_edges()))
        bulk.load("declared_edges", ("job_id", "is_write", "dataset_id", "since"), declared)
        deployed = ((n, now - SLOT * 9000, 1, 1) for n in every if n % 10 == 0)
        bulk.load("declared_jobs", ("job_id", "since", "knows_reads", "knows_writes"), deployed)
        of_columns = ((10 * d + n, d, f"c{n}", n, "string") for d in every for n in range(10))
        bulk.load("columns", ("id", "dataset_id", "name", "ordinal", "type"), of_columns)
        of_pairs = ("target_id", "source_id", "job_id", "kind", "first_seen", "last_seen")
        bulk.load("column_edges", of_pairs, column_edges())
        bulk.commit()
    with database.writing() as writing:
        for name, last in (("jobs", nodes), ("datasets", nodes), ("namespaces", 1), ("teams", THEIRS), ("grants", 49)):
            while writing.number(name) < last:
                pass
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if database.is_postgres else "ANALYZE")
    database.close()
    ours = [n for n in (dice.randrange(1, nodes + 1) for _ in range(2 * ASKED)) if team(n) == OURS][:ASKED]
    tables = [f"dataset=schema{n % 100}.t{n}" for n in ours]
    return tables, [f"{table}&column=c{n % 10}" for table, n in zip(tables, ours, strict=True)]


class _Bulk:
    """Loads rows straight into tables, as quickly as the database takes them; they are what ingest would write."""

    def __init__(self, database: Database) -> None:
        self._is_postgres = database.is_postgres
        if database.is_postgres:  # what refers to what is right, and need not be looked up row by row
            self._connection: Any = cast("Any", database.engine.raw_connection())
            self._connection.cursor().execute("SET LOCAL session_replication_role = replica")
        else:
            self._connection = sqlite3.connect(str(database.engine.url.database))
            for pragma in ("synchronous=OFF", "cache_size=-1000000"):
                self._connection.execute(f"PRAGMA {pragma}")

    def load(self, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows whose values stand in the order of the names."""
        columns = ", ".join(names)
        if not self._is_postgres:
            places = ", ".join("?" * len(names))
            self._connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)
            return
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def commit(self) -> None:
        """Make it last."""
        self._connection.commit()

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
