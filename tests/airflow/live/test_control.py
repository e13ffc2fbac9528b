"""What the command line tells a live Airflow to do, it does; and what is shown of it is what happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project

PIPELINES = """
from aiflow_sdk import dataset, pipeline, sink, source

def doubled(p, table):
    raw = p.read(source.onelake(id="raw", table="raw.numbers", partitions={"dt": p.vars["run_date"]}))
    twice = raw.transform(id="twice", engine="python", fn="etl:twice", factor="{{ params.factor }}")
    p.write(twice, sink.onelake(id="out", table=table, partition_by=["dt"]))

@pipeline(id="cron", schedule="@daily", params={"factor": 2.0})
def cron(p):
    doubled(p, "mart.cron")

@pipeline(id="driven", schedule=dataset("raw.numbers"), partition="day", params={"factor": 2.0})
def driven(p):
    doubled(p, "mart.driven")
"""
CODE = """
import polars as pl

def twice(raw: pl.DataFrame, factor, context) -> pl.DataFrame:
    print("factor", factor, "for", context.ds)
    if raw["n"][0] < 0:
        raise RuntimeError("negative")
    return raw.drop("dt").with_columns(pl.col("n") * float(factor))
"""


def day(ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


@pytest.fixture
def shop(project: Project, airflow: LiveAirflow) -> Project:
    environment = f"[environments.{airflow.environment}]"
    settings = project.root / "aiflow.toml"
    settings.write_text(settings.read_text().replace(environment, f'{environment}\nairflow = "{airflow.url}"'))
    project.write("pipelines/numbers.py", PIPELINES)
    project.write("etl.py", CODE)
    numbers = pl.DataFrame([{"n": float(-1 if ago == 6 else ago), "dt": day(ago)} for ago in range(10)])
    (project.lakes[0] / "raw" / "numbers").mkdir(parents=True)
    numbers.write_delta(project.lakes[0] / "raw" / "numbers", delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    return project


def typed(project: Project, *arguments: str) -> list[str]:
    options = ["-C", str(project.root), "--env", project.airflow.environment]
    return [sys.executable, "-m", "aiflow_sdk.cli", *options, *arguments]


def aiflow(project: Project, *arguments: str, expected: int = 0) -> list[Any]:
    """Return what a command tells with --json, a document a line."""
    done = subprocess.run(typed(project, "--json", *arguments), capture_output=True, text=True)
    assert done.returncode == expected, f"aiflow {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def written(project: Project, table: str) -> dict[str, float]:
    path: Path = project.lakes[0] / "mart" / table
    return {str(row["dt"]): row["n"] for row in pl.read_delta(str(path)).to_dicts()}


def test_trigger_backfill_runs_logs_pause_and_doctor(shop: Project, airflow: LiveAirflow):
    for pipeline in ("cron", "driven"):
        airflow.await_dag(f"{shop.name}.{pipeline}")

    # A pipeline that was never let run is refused; from then on its schedule starts it too.
    (refused,) = aiflow(shop, "trigger", "driven", expected=1)
    assert refused["error"]["code"] == "dag-paused"
    (told,) = aiflow(shop, "unpause", "driven")
    assert (told["is_paused"], told["is_changed"]) == (False, True)
    aiflow(shop, "unpause", f"{shop.name}/cron")

    # A backfill of what an input starts, begun and left alone.
    options_of_driven = ["--from", day(8), "--to", day(8), "--on", "airflow"]
    (left,) = aiflow(shop, "backfill", "driven", *options_of_driven, "--no-wait")
    assert left["partitions"] == [{"partition": day(8), "reason": "no run yet"}]

    # A backfill of what a clock starts, looked at: one of its days fails, with the user's own traceback.
    options = ["--from", day(6), "--to", day(5), "--on", "airflow", "--param", "factor=3"]
    records = aiflow(shop, "backfill", "cron", *options, expected=1)
    ended = {one["partition"]: one for one in records if one["record"] == "run-finished"}
    assert {key: one["state"] for key, one in ended.items()} == {day(6): "failed", day(5): "succeeded"}
    (error,) = ended[day(6)]["errors"]
    assert error["code"] == "user-code-failed"
    assert error["notes"][-1] == "RuntimeError: negative"
    last = records[-1]
    assert (last["record"], last["succeeded"], last["failed"], last["skipped"]) == ("backfill-finished", 1, 1, 0)
    assert written(shop, "cron")[day(5)] == 15.0

    # The same command again looks on, or finds that nothing is to be done: the other backfill has gone on meanwhile.
    looked = aiflow(shop, "backfill", "driven", *options_of_driven)
    assert looked[0]["record"] == "backfill-started"
    (run,) = airflow.runs(f"{shop.name}.driven")
    airflow.await_run(f"{shop.name}.driven", run["dag_run_id"])
    assert written(shop, "driven") == {day(8): 16.0}

    # A run that is waited for; Ctrl-C ends the waiting alone, and the log can be followed.
    with subprocess.Popen(typed(shop, "trigger", "cron", "--wait"), stdout=subprocess.PIPE, text=True) as watched:
        assert watched.stdout
        head = watched.stdout.readline()
        watched.send_signal(signal.SIGINT)
        rest = watched.stdout.read()
    assert (watched.returncode, "no longer watching" in rest) == (130, True)
    assert day(1) in head
    run_id = head.split(" run ")[1].split()[0]
    log = aiflow(shop, "logs", run_id[-8:], "--on", "airflow", "--follow")
    assert f"factor 2.0 for {day(1)}" in [one["message"] for one in log]
    assert {(one["task_id"], one["attempt"]) for one in log} == {("twice", 1)}
    assert airflow.run(f"{shop.name}.cron", run_id)["state"] == "success"

    # Waited for to its end, as a person sees it.
    options = ["--date", day(4).replace("-", ""), "--param", "factor=10", "--wait"]
    done = subprocess.run(typed(shop, "trigger", "cron", *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    out = next(line for line in done.stdout.splitlines() if line.strip().startswith("out"))
    assert (day(4) in out, "1 row" in out) == (True, True)
    assert written(shop, "cron")[day(4)] == 40.0

    # What was run, and how all is.
    (runs,) = aiflow(shop, "runs", "--on", "airflow", "--limit", "100")
    kinds = {(one["run"]["pipeline_id"], one["run"]["cause"]) for one in runs}
    assert kinds >= {("driven", "backfill"), ("cron", "backfill"), ("cron", "manual"), ("cron", "schedule")}
    failed = {one["partition"] for one in runs if one["state"] == "failed"}
    assert failed == {day(6)}
    aiflow(shop, "pause", "cron")
    assert airflow.call("GET", f"dags/{shop.name}.cron")["is_paused"]
    (unknown,) = aiflow(shop, "trigger", "drivn", expected=2)
    assert (unknown["error"]["code"], unknown["error"]["hint"]) == ("not-in-airflow", "did you mean 'driven'?")
    done = subprocess.run(typed(shop, "doctor", "--airflow", "--json"), capture_output=True, text=True)
    findings = {one["what"]: one["state"] for one in json.loads(done.stdout)}
    for what in ("airflow", "database", "scheduler", "triggerer", "dag-processor", "plugin", "bundle", "setting"):
        assert findings[what] == "ok", done.stdout
