"""A secret that user code prints, raises with, or passes to another program stands in no file of the run."""

from pathlib import Path

import pytest

from aiflow_sdk.local import RunRequest, run_pipeline_locally

SECRET = "hunter2-in-the-clear"

PIPELINE = """
from aiflow_sdk import pipeline, source, sink

@pipeline(id="work", schedule=None, params={"fail": False})
def work(p):
    rows = p.read(source.files("rows", path="in.csv", format="csv"))
    params = {"fail": "{{ params.fail }}"}
    kept = rows.transform(id="kept", engine="python", fn="jobs:kept", password="secret://db", params=params)
    p.write(kept, sink.onelake("out", table="mart.out"))
"""

JOBS = """
import logging, os, sys
import polars as pl

def kept(rows: pl.DataFrame, password: str, fail: bool, context) -> pl.DataFrame:
    print("printed", password)
    sys.stdout.write("half " + password[:7])
    sys.stdout.write(password[7:] + "\\n")
    print(password, file=sys.stderr)
    logging.warning("logged %s", password)
    context.logger.info("carried %s", password)
    context.count(password)
    os.system("echo shouted " + password)
    if fail:
        raise ValueError("cannot log in with " + password)
    return rows
"""


@pytest.mark.parametrize("fail", [False, True])
def test_no_file_of_a_run_holds_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: bool) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_DB", SECRET)
    (tmp_path / "aiflow.toml").write_text("")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").touch()
    (tmp_path / "pipelines/work.py").write_text(PIPELINE)
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "in.csv").write_text("a\n1\n")
    told: list[dict] = []
    summary = run_pipeline_locally(RunRequest(str(tmp_path), "work", params={"fail": str(fail)}), told.append)
    assert summary.succeeded is not fail, summary
    held = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert held == []
    assert SECRET not in str(told)
    messages = [record["message"] for record in told if record["record"] == "log"]
    for line in ("printed ***", "half ***", "logged ***", "carried ***", "shouted ***"):
        assert line in messages, messages
    if fail:
        assert "cannot log in with ***" in str(summary.errors)
