"""A database of the service with rows in every table that events and people fill, without a process around it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiflow_service.access import EVERYTHING
from aiflow_service.access.roles import Role
from aiflow_service.access.tokens import Narrowing, make_token
from aiflow_service.audit import Caller, Entry, record
from aiflow_service.database import Database, now, open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import configuration_items, documents
from aiflow_service.events import RefusedEvent
from aiflow_service.ingest import GroupWriter, Outcome, Submission
from aiflow_service.keeping.contents import read_blocks, read_header
from aiflow_service.openlineage import read_event
from service_trial import dataset, facet, run_event


def write_events(database: Database, events: Iterable[Mapping[str, Any]], team_id: int = 1) -> Outcome:
    """Write events as the service does, and something that was refused."""
    submissions = [Submission(read_event(json.dumps(one).encode()), team_id, now()) for one in events]
    raw = b'{"broken": true}'
    refused = RefusedEvent(team_id, hashlib.sha256(raw).digest(), "event-invalid", "no run", None, now(), len(raw), raw)
    return GroupWriter(database).write(submissions, [refused])


def some_events(count: int = 6, at: str = "2026-11-20T10:00:00Z") -> list[dict[str, Any]]:
    """Return runs of tasks that read and write, with columns and a dataset under two names."""
    events = []
    for index in range(count):
        schema = facet("SchemaDatasetFacet", "1-1-1", fields=[{"name": f"c{n}", "type": "long"} for n in range(3)])
        links = [{"namespace": "hive", "name": f"out{index}", "type": "TABLE"}]
        out = dataset(f"out{index}", schema=schema, symlinks=facet("SymlinksDatasetFacet", "1-0-1", identifiers=links))
        billed = [{"cluster": "emr-serverless", "unit": "vcpu-hours", "amount": 0.5}]
        usage = {"_producer": "urn:test", "_schemaURL": "urn:test", "seconds": 2.5, "cpu_seconds": 1.25}
        usage["billed"] = billed
        facts = {"project": "shop", "pipeline_id": "orders", "task_id": f"t{index}", "environment": "dev"}
        told = {"_producer": "urn:test", "_schemaURL": "urn:test", **facts}
        facets = {"aiflow_run": told, "aiflow_usage": usage}
        events.append(run_event(job=f"shop/orders.t{index}", at=at, inputs=["raw"], outputs=[out], run_facets=facets))
    return events


def fill(address: str, revision: str | None = None) -> Database:
    """Return an open database with rows in it; ``revision``: taken back to that migration."""
    database = open_database(address)
    migrate(database)
    write_events(database, some_events())
    with database.writing() as writing:
        body = b"\0\xff\x80"
        writing.connection.execute(documents.insert().values(team_id=1, digest="d", size=3, body=body))
        item = {"environment": "dev", "kind": "variable", "name": "x", "version": 1, "value": b'"1"', "changed_at": 5}
        writing.connection.execute(configuration_items.insert().values(id=1, team_id=1, **item))
        make_token(writing, EVERYTHING, Narrowing("first", None, Role.ADMIN, None, now() + 10**12), "first")
        record(writing, *(Entry(Caller("ana"), "thing.made", "thing", f"x{number}") for number in range(20)))
    if revision is not None:
        migrate(database, revision)
    return database


def all_rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    with database.reading() as connection:
        header = read_header(connection)
        for block in read_blocks(connection, header):
            rows.setdefault(block.table, []).extend(block.rows)
    return rows
