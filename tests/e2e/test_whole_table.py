"""A backfill into a table that each run replaces whole: runs overtake each other, and all count as made."""

from pathlib import Path

import polars as pl

from aiflow_sdk.local import BackfillRequest, backfill
from projects import lay

DAYS = [f"2026-11-{day}" for day in range(16, 22)]

PIPELINE = """
from aiflow_sdk import pipeline, source

@pipeline(id="work", schedule="@daily", concurrency=3)
def work(p):
    numbers = p.read(source.onelake("numbers", table="raw.numbers", partitions={"dt": "{{ ds }}"}))
    numbers.transform(id="newest", engine="python", fn="jobs:newest", output_table="mart.newest")
"""

JOBS = """
import time
import polars as pl

def newest(numbers: pl.DataFrame, context) -> pl.DataFrame:
    with open("calls", "a") as calls:
        calls.write(context.ds + "\\n")
    time.sleep(0.5 if int(context.ds[-1]) % 2 == 0 else 0)  # the days after it come first
    return numbers
"""


def test_days_that_were_overtaken_are_not_made_again(tmp_path: Path) -> None:
    lay(tmp_path, "raw/numbers", {"n": range(6), "dt": DAYS}, "dt")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/work.py").write_text(PIPELINE)
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "aiflow.toml").write_text("")
    request = BackfillRequest(str(tmp_path), "work", first=DAYS[0], last=DAYS[-1])
    first = backfill(request)
    assert first.succeeded, [run.errors for run in first.runs]
    assert any(run.node("newest_output").superseded for run in first.runs), "no run was overtaken: nothing is tested"
    again = backfill(request)
    assert again.runs == ()
    assert again.skipped == tuple(DAYS)
    assert sorted((tmp_path / "calls").read_text().split()) == DAYS
    assert pl.read_delta(str(tmp_path / ".aiflow/lake/mart/newest"))["dt"].to_list() == [DAYS[-1]]
