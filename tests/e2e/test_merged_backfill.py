"""A backfill of a pipeline that adds or merges rows: once made, a day is up to date whatever other days did."""

from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

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


def project(folder: Path, mode: str) -> None:
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "__init__.py").write_text("", "utf-8")
    (folder / "pipelines" / "users.py").write_text(PIPELINE.replace("MODE", mode), "utf-8")


@pytest.mark.parametrize("mode", ['mode="append"', 'mode="upsert", keys=["user_id"]'], ids=["append", "upsert"])
def test_a_second_backfill_has_nothing_to_do(tmp_path: Path, mode: str) -> None:
    project(tmp_path, mode)
    days = ["2026-11-20", "2026-11-21", "2026-11-21", "2026-11-22"]
    lay(tmp_path, "raw/seen", {"dt": days, "user_id": [1, 1, 2, 2]}, "dt")
    first = aiflow(tmp_path, "backfill", "users", *DAYS)
    again = aiflow(tmp_path, "backfill", "users", *DAYS)
    assert "3 runs, 0 up to date" in first.out
    assert "0 runs, 3 up to date" in again.out or "3 up to date" in again.out, again.out
    assert "never made" not in again.out


def test_a_day_whose_rows_another_one_replaced_and_took_back_is_made_again(tmp_path: Path) -> None:
    project(tmp_path, 'mode="upsert", keys=["user_id"], withdrawn="delete"')
    lay(tmp_path, "raw/seen", {"dt": ["2026-11-20", "2026-11-21", "2026-11-22"], "user_id": [1, 1, 3]}, "dt")
    aiflow(tmp_path, "backfill", "users", *DAYS)
    DeltaTable(tmp_path / ".aiflow/lake/raw/seen").delete("dt = '2026-11-21'")
    lay(tmp_path, "raw/seen", {"dt": ["2026-11-21"], "user_id": [2]}, "dt")
    aiflow(tmp_path, "run", "users", "--date", "2026-11-21")
    assert users(tmp_path) == [(2, "2026-11-21"), (3, "2026-11-22")]
    again = aiflow(tmp_path, "backfill", "users", *DAYS)
    assert "1 run, 2 up to date" in again.out, again.out
    assert users(tmp_path) == [(1, "2026-11-20"), (2, "2026-11-21"), (3, "2026-11-22")]
    assert "3 up to date" in aiflow(tmp_path, "backfill", "users", *DAYS).out


def test_a_day_after_the_one_that_took_rows_back_is_not_made_again(tmp_path: Path) -> None:
    project(tmp_path, 'mode="upsert", keys=["user_id"], withdrawn="delete"')
    days = ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    four = ("--from", days[0], "--to", days[-1])
    lay(tmp_path, "raw/seen", {"dt": days, "user_id": [1, 1, 2, 2]}, "dt")
    aiflow(tmp_path, "backfill", "users", *four)
    DeltaTable(tmp_path / ".aiflow/lake/raw/seen").delete("dt = '2026-11-21'")
    lay(tmp_path, "raw/seen", {"dt": ["2026-11-21"], "user_id": [3]}, "dt")
    aiflow(tmp_path, "run", "users", "--date", "2026-11-21")
    assert users(tmp_path) == [(2, "2026-11-23"), (3, "2026-11-21")]
    # Of day 22, too, a row was replaced; it cannot stand beneath one of day 21.
    again = aiflow(tmp_path, "backfill", "users", *four)
    assert "1 run, 3 up to date" in again.out, again.out
    assert users(tmp_path) == [(1, "2026-11-20"), (2, "2026-11-23"), (3, "2026-11-21")]
    assert "4 up to date" in aiflow(tmp_path, "backfill", "users", *four).out


def users(folder: Path) -> list[tuple[int, str]]:
    return sorted(pl.read_delta(str(folder / ".aiflow/lake/mart/users")).select("user_id", "last_seen").rows())
