"""The list of 200,000 runs, as somebody of one team sees it, over HTTP on both databases."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Row

from cases.service import percentiles
from cases.service_process import filled_databases, request_of, send, service

RUNS = int(os.environ.get("SERVICE_RUNS", "200_000"))
TEAMS, PIPELINES = 10, 200
FIRST = 1_760_000_000_000_000
MINUTE = 60_000_000
BOUND_MS = 20
ASKED = 200


def service_runs() -> list[Row]:
    """95th percentile of a page of 50 of a team's runs: the newest, narrowed, and from any place on."""
    rows = []
    with filled_databases(f"runs_{RUNS}", _fill) as databases, TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.toml"
        settings.write_text("[sign_in]\n")
        for kind, address, _ in databases:
            secret = _token(address)
            with service(address, "--settings", str(settings)) as process:
                for name, paths in _questions(random.Random(1)):
                    asked = [request_of("GET", path, b"", f"Authorization: Bearer {secret}") for path in paths]
                    send(process.port, 1, iter(asked[:20]))
                    p50, p95 = percentiles(send(process.port, 1, iter(asked)))
                    print(f"  {kind} {name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms", file=sys.stderr)
                    told = f"{p95:.1f} ms", f"{BOUND_MS} ms", p95 / BOUND_MS
                    rows.append(Row(f"runs_{kind}_{name}", *told, "≤ 1", p95 <= BOUND_MS))
    return rows


def _questions(dice: random.Random) -> Iterator[tuple[str, list[str]]]:
    from aiflow_service.database import moment_text

    newest = "/api/v1/runs?limit=50"
    yield "newest", [newest] * ASKED
    yield "pipeline", [f"{newest}&pipeline=pipeline{dice.randrange(PIPELINES)}" for _ in range(ASKED)]
    yield "state", [f"{newest}&state={dice.choice(STATES)}" for _ in range(ASKED)]
    yield "environment", [f"{newest}&environment={dice.choice(ENVIRONMENTS)}" for _ in range(ASKED)]
    yield "two", [f"{newest}&environment={dice.choice(ENVIRONMENTS)}&state={dice.choice(STATES)}" for _ in range(ASKED)]
    deep = [moment_text(FIRST + dice.randrange(RUNS) * MINUTE) for _ in range(ASKED)]
    yield "deep", [f"{newest}&until={moment}" for moment in deep]


STATES = ("succeeded", "failed", "cancelled", "running")
ENVIRONMENTS = ("prod", "staging", "dev")


def _token(address: str) -> str:
    """Return the secret of a token of the team that has most runs."""
    from aiflow_service.access import EVERYTHING, Role
    from aiflow_service.access.tokens import Narrowing, make_token
    from aiflow_service.database import now, open_database

    database = open_database(address)
    with database.writing() as writing:
        wanted = Narrowing("bench", 2, Role.VIEWER, None, now() + 3_600_000_000)
        secret = make_token(writing, EVERYTHING, wanted, "bench").secret
    database.close()
    return secret


def _fill(address: str) -> None:
    """Write runs of some teams, most of one."""
    from aiflow_service.database import open_database
    from aiflow_service.database import tables as t
    from aiflow_service.database.bulk import insert_rows
    from aiflow_service.database.migration import migrate
    from aiflow_service.runs import RunFold

    dice = random.Random(5)
    database = open_database(address)
    migrate(database)
    with database.writing() as writing:
        teams = range(2, 2 + TEAMS)
        insert_rows(writing, t.teams, ("id", "name", "created_at"), [(team, f"team{team}", 1) for team in teams])
        insert_rows(writing, t.namespaces, ("id", "name"), [(1, "bench")])
        jobs = [(team * PIPELINES + n, team, 1, f"pipeline{n}", b"") for team in teams for n in range(PIPELINES)]
        insert_rows(writing, t.jobs, ("id", "team_id", "namespace_id", "name", "facts"), jobs)
        names = (
            *("id", "uid", "team_id", "job_id", "pipeline", "environment", "state"),
            *("started_at", "ended_at", "changed", "fold"),
        )
        made = []
        for number in range(1, RUNS + 1):
            team = 2 if dice.random() < 0.5 else dice.choice(teams)
            job = team * PIPELINES + int(PIPELINES * dice.random() ** 2)
            start = FIRST + number * MINUTE
            state = dice.choices(STATES, (96, 3, 0.1, 0.9))[0]
            fold = RunFold(first=start, start=start, job=([1, 0, start, 1, "0"], ["bench", "x"]))
            made.append(
                (
                    *(number, f"{dice.getrandbits(128):032x}", team, job, f"pipeline{job % PIPELINES}"),
                    *(dice.choices(ENVIRONMENTS, (90, 9, 1))[0], state),
                    *(start, start + MINUTE, number, fold.to_bytes()),
                )
            )
        for begin in range(0, RUNS, 50_000):
            insert_rows(writing, t.runs, names, made[begin : begin + 50_000])
        if writing.is_postgres:
            writing.connection.exec_driver_sql("ANALYZE")
    database.close()
