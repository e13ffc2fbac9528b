"""A backfill of a pipeline that adds or merges rows: once made, a day is up to date whatever other days did."""

from pathlib import Path

import pytest

from projects import aiflow, lay

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="users", schedule="@daily", owner="team", start_date="2026-11-01")
def users(p):
    seen = p.read(source.onelake(id="seen", table="raw.seen", partitions={"dt": "{{ ds }}"}))
    kept = seen.sql("select user_id, dt as last_seen from {seen}", id="kept")
    p.write(kept, sink.onelake(id="out", table="mart.users", MODE))
"""
DAYS = ("--from", "2026-11-20", "--to", "2026-11-22")


@pytest.mark.parametrize("mode", ['mode="append"', 'mode="upsert", keys=["user_id"]'], ids=["append", "upsert"])
def test_a_second_backfill_has_nothing_to_do(tmp_path: Path, mode: str) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("", "utf-8")
    (tmp_path / "pipelines" / "users.py").write_text(PIPELINE.replace("MODE", mode), "utf-8")
    days = ["2026-11-20", "2026-11-21", "2026-11-21", "2026-11-22"]
    lay(tmp_path, "raw/seen", {"dt": days, "user_id": [1, 1, 2, 2]}, "dt")
    first = aiflow(tmp_path, "backfill", "users", *DAYS)
    again = aiflow(tmp_path, "backfill", "users", *DAYS)
    assert "3 runs, 0 up to date" in first.out
    assert "0 runs, 3 up to date" in again.out or "3 up to date" in again.out, again.out
    assert "never made" not in again.out
