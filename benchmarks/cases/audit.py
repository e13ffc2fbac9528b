"""The audit: a chain of a million rows is verified by the service that runs on it, on both databases."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time

from measure import Row

from cases.service_process import Running, filled_databases, service

ROWS = int(os.environ.get("AUDIT_ROWS", "1_000_000"))
_BLOCK = 10_000
_BOUND_SECONDS = 30
"""For a million rows."""


def service_audit() -> list[Row]:
    """Rows as changes of variables make them, the whole chain checked over HTTP."""
    rows = []
    with filled_databases(f"audit_{ROWS}", _fill) as databases:
        for kind, address, _ in databases:
            with service(address) as process:
                before, began = process.cpu_seconds, time.perf_counter()
                told = _verify(process)
                seconds = time.perf_counter() - began
                cpu = process.cpu_seconds - before
                assert told["is_sound"], told
                used = f"{cpu:.1f} s of a processor, {process.megabytes:.0f} MB"
                print(f"  {kind} {told['rows']} rows: {seconds:.1f} s, {used}", file=sys.stderr)
                bound = _BOUND_SECONDS * ROWS / 1_000_000
                rows.append(
                    Row(f"audit_{kind}", f"{seconds:.1f} s", f"{bound:.0f} s", seconds / bound, "≤ 1", seconds <= bound)
                )
    return rows


def _verify(process: Running) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", process.port)
    connection.request("GET", "/api/v1/audit/verify")
    found: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def _fill(address: str) -> None:
    """Write the rows as :func:`aiflow_service.audit.record` does, many at once."""
    from aiflow_sdk.audit import GENESIS, AuditRow, chained_hash
    from aiflow_service.database import moment_text, now, open_database
    from aiflow_service.database.bulk import insert_rows
    from aiflow_service.database.migration import migrate
    from aiflow_service.database.tables import audit

    names = ("seq", "moment", *AuditRow._fields[2:])
    database = open_database(address)
    migrate(database)
    previous, moment = GENESIS, now()
    for begin in range(1, ROWS + 1, _BLOCK):
        with database.writing() as writing:
            made = []
            for _ in range(min(_BLOCK, ROWS + 1 - begin)):
                seq = writing.number("audit")
                about = ("user:ana", "variable.set", "variable", f"name-{seq % 997}", 1, "default", "prod", "done")
                details = f'{{"by":{{"principal":5}},"version":{seq}}}'
                row = AuditRow(
                    seq, moment_text(moment) or "", *about, "127.0.0.1", f"{seq:032x}", details, previous, b""
                )
                previous = chained_hash(row)
                made.append((seq, moment, *row[2:14], previous))
                moment += 1
            insert_rows(writing, audit, names, made)
    database.close()
