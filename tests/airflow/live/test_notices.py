"""Whoever a pipeline notifies hears of runs that are late, however they began, and of tasks that failed for good."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project

CONNECTION = "live_hook"
TARGETS = ("/secret", "/plain")
"""The first is the password of an Airflow connection, the second stands in the pipeline."""
PIPELINES = f"""
from aiflow_sdk import dataset, pipeline, sink, source

TOLD = dict(notify=["webhook:{CONNECTION}", "HOOK/plain"], owner="team_eyes")
LATE = dict(sla_minutes=0.02, **TOLD)

def reads(p, table, target, fn):
    rows = p.read(source.onelake(id="rows", table=table, partitions={{"dt": "{{{{ ds }}}}"}}))
    done = rows.transform(id="work", engine="python", fn=fn)
    p.write(done, sink.onelake(id="out", table=target, partition_by=["dt"]))

@pipeline(id="makes", partition="day", **TOLD)
def makes(p):
    reads(p, "raw.rows", "TABLE.made", "etl:pass_on")

@pipeline(id="fails", partition="day", retries=1, retry_delay_minutes=0.02, **TOLD)
def fails(p):
    reads(p, "raw.rows", "TABLE.failed", "etl:fail")

@pipeline(id="by_clock", schedule="@daily", **LATE)
def by_clock(p):
    reads(p, "raw.rows", "TABLE.by_clock", "etl:hold")

@pipeline(id="by_input", schedule=dataset("TABLE.made"), partition="day", **LATE)
def by_input(p):
    reads(p, "TABLE.made", "TABLE.by_input", "etl:hold")

@pipeline(id="by_hand", partition="day", **LATE)
def by_hand(p):
    reads(p, "raw.rows", "TABLE.by_hand", "etl:hold")
"""
CODE = """
import pathlib, time

def pass_on(rows):
    return rows

def fail(rows):
    raise RuntimeError("no luck")

def hold(rows):
    while pathlib.Path("HOLD").exists():
        time.sleep(0.05)
    return rows
"""


class Hook:
    """A server on this machine that notices are posted to."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        posts = self.posts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self, event: str) -> Counter[tuple[str, str]]:
        """Return how often each target heard such an event of each run."""
        return Counter((path, notice["run_id"]) for path, notice in self.posts if notice["event"] == event)


@pytest.fixture
def hook(airflow: LiveAirflow) -> Iterator[Hook]:
    found = Hook()
    secret = {"connection_id": CONNECTION, "conn_type": "http", "password": f"{found.url}{TARGETS[0]}"}
    airflow.call("POST", "connections", secret)
    yield found
    airflow.call("DELETE", f"connections/{CONNECTION}")
    found.server.shutdown()
    found.server.server_close()


def day(ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


def test_late_runs_are_told_of_but_for_a_backfills_and_so_is_what_failed_for_good(
    project: Project, airflow: LiveAirflow, hook: Hook, tmp_path: Path
):
    held = tmp_path / "hold"
    held.touch()
    project.write("pipelines/late.py", PIPELINES.replace("HOOK", hook.url).replace("TABLE", project.name))
    project.write("etl.py", CODE.replace("HOLD", str(held)))
    raw = project.lakes[0] / "raw" / "rows"
    raw.mkdir(parents=True)
    rows = pl.DataFrame({"n": range(6), "dt": [day(ago) for ago in range(6)]})
    rows.write_delta(raw, delta_write_options={"partition_by": ["dt"]})
    project.deploy()

    def dag_of(pipeline: str) -> str:
        return f"{project.name}.{pipeline}"

    def run_of(pipeline: str, kind: str) -> str:
        runs = airflow.until(
            lambda: [run for run in airflow.runs(dag_of(pipeline)) if run["run_type"] == kind], f"{kind} of {pipeline}"
        )
        assert len(runs) == 1
        return str(runs[0]["dag_run_id"])

    for pipeline in ("makes", "fails", "by_clock", "by_input", "by_hand"):
        airflow.await_dag(dag_of(pipeline))
        airflow.unpause(dag_of(pipeline))
    moment = f"{day(4)}T00:00:00Z"
    airflow.call("POST", "backfills", {"dag_id": dag_of("by_clock"), "from_date": moment, "to_date": moment})
    failed = airflow.trigger(dag_of("fails"), day(2))
    made = airflow.trigger(dag_of("makes"), day(2))
    airflow.await_run(dag_of("makes"), made)
    airflow.await_run(dag_of("fails"), failed, "failed")  # before as many are held as there are workers
    late = {
        "by_clock": run_of("by_clock", "scheduled"),
        "by_input": run_of("by_input", "asset_triggered"),
        "by_hand": airflow.trigger(dag_of("by_hand"), day(3)),
    }
    backfilled = run_of("by_clock", "backfill")
    expected = Counter((target, run_id) for target in TARGETS for run_id in late.values())
    airflow.until(lambda: hook.told("deadline-missed") >= expected, "the notices")
    airflow.until(lambda: airflow.task(dag_of("by_clock"), backfilled, "work")["state"] == "running", "the backfill")
    held.unlink()
    for pipeline, run_id in (*late.items(), ("by_clock", backfilled)):
        airflow.await_run(dag_of(pipeline), run_id)
    assert hook.told("deadline-missed") == expected  # each once, and none of the backfill nor of who was in time
    for pipeline, run_id in late.items():
        notices = [notice for _, notice in hook.posts if notice["run_id"] == run_id]
        facts = {"pipeline": f"{project.name}/{pipeline}", "owner": "team_eyes", "sla_minutes": 0.02}
        facts["partition"] = airflow.run(dag_of(pipeline), run_id)["partition_key"]
        assert facts["partition"]
        assert all(facts.items() <= notice.items() for notice in notices)
    assert hook.told("task-failed") == Counter((target, failed) for target in TARGETS)
    assert {(notice["task_id"], notice["attempt"]) for _, notice in hook.posts if "task_id" in notice} == {("work", 2)}
