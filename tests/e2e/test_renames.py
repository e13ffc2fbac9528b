"""A pipeline that adds rows, its sink or itself renamed: nothing stands double, and what is to be written is told."""

from pathlib import Path

import polars as pl
import pytest

from projects import aiflow, lay

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="PIPELINE", schedule="@daily", owner="team", start_date="2026-11-01")
def seen(p):
    seen = p.read(source.onelake(id="seen", table="raw.seen", partitions={"dt": "{{ ds }}"}))
    p.write(seen, sink.onelake(id="SINK", table="{{ params.table }}", mode="append", partition_by=["dt"]OPTIONS))
    p.write(seen, sink.onelake(id="copy", table="mart.log", mode="append", partition_by=["dt"]))
"""
DAY = "2026-11-20"


def write(folder: Path, pipeline: str, node: str, options: str = "") -> None:
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "__init__.py").write_text("", "utf-8")
    text = PIPELINE.replace("PIPELINE", pipeline).replace("SINK", node).replace("OPTIONS", options)
    text = text.replace('schedule="@daily"', 'schedule="@daily", params={"table": "mart.log"}')
    (folder / "pipelines" / "seen.py").write_text(text, "utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    lay(tmp_path, "raw/seen", {"dt": [DAY, DAY], "id": [1, 2]}, "dt")
    write(tmp_path, "seen", "old")
    aiflow(tmp_path, "run", "seen", "--date", DAY)
    aiflow(tmp_path, "run", "seen", "--date", DAY)
    assert ids(tmp_path) == [1, 1, 2, 2]  # by its two sinks
    return tmp_path


def ids(folder: Path) -> list[int]:
    return sorted(pl.read_delta(str(folder / ".aiflow/lake/mart/log"))["id"].to_list())


def test_a_sink_of_another_name_says_what_its_name_was(project: Path) -> None:
    write(project, "seen", "new")
    refused = aiflow(project, "backfill", "seen", "--from", DAY, "--to", DAY, code=1)
    said = refused.out + refused.err
    assert "earlier-name" in said
    assert 'renamed_from=["old"]' in said
    assert ids(project) == [1, 1, 2, 2]
    write(project, "seen", "new", ', renamed_from=["old"]')
    aiflow(project, "backfill", "seen", "--from", DAY, "--to", DAY)
    assert ids(project) == [1, 1, 2, 2]
    assert "1 up to date" in aiflow(project, "backfill", "seen", "--from", DAY, "--to", DAY).out


def test_a_pipeline_of_another_name_is_told_whose_rows_stand_beside_its_own(project: Path) -> None:
    write(project, "viewed", "old")
    ran = aiflow(project, "run", "viewed", "--date", DAY)
    said = ran.out + ran.err
    assert "earlier-name" in said, said
    assert 'renamed_from=["seen/copy"]' in said
    assert 'renamed_from=["seen/old"]' in said
    assert ids(project) == [1, 1, 1, 1, 2, 2, 2, 2]
