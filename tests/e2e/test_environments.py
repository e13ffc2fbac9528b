"""Environments over production's tables: what was made there is not made again here, and no byte is copied."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.local import BackfillRequest, RunRequest, backfill, run_pipeline_locally
from aiflow_sdk.stores import FolderStore

DAYS = ["2026-11-20", "2026-11-21"]
SETTINGS = """
lock = "aiflow.toml"

[environments.prod]
lake = "production"

[environments.dev]
lake = "development"
reads_from = "prod"
"""
PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="step_{number}", schedule="@daily")
def step(p):
    numbers = p.read(source.onelake("numbers", table="{source}", partitions={{"dt": "{{{{ ds }}}}"}}))
    changed = numbers.transform(id="changed", engine="python", entrypoint="jobs.step_{number}:change")
    p.write(changed, sink.onelake("result", table="{table}", partition_by=["dt"]))
"""
JOB = """
import polars as pl

def change(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers.with_columns(n=pl.col("n") + {by})
"""


def make_project(folder: Path, pipelines: int) -> Path:
    """Pipelines of which each reads what the one before it writes."""
    frame = pl.DataFrame({"n": [1, 2] * len(DAYS), "dt": [day for day in DAYS for _ in range(2)]})
    frame.write_delta(str(folder / "production/raw/numbers"), delta_write_options={"partition_by": ["dt"]})
    (folder / "aiflow.toml").write_text(SETTINGS)
    for package in ("pipelines", "jobs"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for number in range(1, pipelines + 1):
        table = "raw.numbers" if number == 1 else f"mart.step_{number - 1}"
        text = PIPELINE.format(number=number, source=table, table=f"mart.step_{number}")
        (folder / f"pipelines/step_{number}.py").write_text(text)
        (folder / f"jobs/step_{number}.py").write_text(JOB.format(by=number))
    return folder


def fill(project: Path, number: int, environment: str, **request: Any) -> Any:
    said = BackfillRequest(str(project), f"step_{number}", DAYS[0], DAYS[-1], environment=environment, **request)
    summary = backfill(said)
    assert summary.succeeded, [run.errors for run in summary.runs]
    return summary


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sums(lake: Path, number: int) -> dict[str, int]:
    frame = pl.read_delta(str(lake / f"mart/step_{number}"))
    return dict(frame.group_by("dt").agg(pl.col("n").sum()).sort("dt").iter_rows())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of five pipelines, all of whose tables production has made."""
    project = make_project(tmp_path_factory.mktemp("made"), 5)
    for number in range(1, 6):
        assert len(fill(project, number, "prod").runs) == len(DAYS)
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


def test_of_pipelines_that_feed_each_other_only_the_changed_one_runs_and_no_byte_is_copied(project: Path) -> None:
    before = content(project / "production")
    (project / "jobs/step_5.py").write_text(JOB.format(by=100))
    for number in range(1, 6):
        summary = fill(project, number, "dev")
        if number < 5:
            assert not summary.runs
            assert summary.made_in == dict.fromkeys(DAYS, "prod")
            assert content(project / "development") == {}
        else:
            assert set(summary.reasons.values()) == {"the code of 'changed' changed"}
            assert len(summary.runs) == len(DAYS)
    tables = {
        path.parent.relative_to(project / "development").as_posix()
        for path in project.glob("development/*/*/_delta_log")
    }
    assert tables == {"mart/step_5"}
    assert sums(project / "development", 5) == dict.fromkeys(DAYS, 3 + 2 * (1 + 2 + 3 + 4 + 100))
    assert content(project / "production") == before
    # What was made here is known here; the others are still production's.
    assert fill(project, 5, "dev").made_in == dict.fromkeys(DAYS, "dev")
    assert fill(project, 4, "dev").made_in == dict.fromkeys(DAYS, "prod")


def test_what_is_made_here_shadows_what_was_made_there(project: Path) -> None:
    one = BackfillRequest(str(project), "step_1", DAYS[0], DAYS[0], environment="dev", force=True)
    assert backfill(one).reasons == {DAYS[0]: "forced"}
    # The table lies here now, whole: its other days are nowhere.
    assert fill(project, 1, "dev", dry=True).reasons == dict.fromkeys(DAYS[1:], "never made")
    # And whoever reads it reads other files than production did.
    reasons = fill(project, 2, "dev", dry=True).reasons
    assert set(reasons.values()) == {"input 'numbers' was restated"}
    assert set(reasons) == set(DAYS)


def test_what_production_made_anew_since_is_up_to_date_as_it_is_now(project: Path) -> None:
    fill(project, 1, "prod", force=True)
    assert not fill(project, 1, "dev").runs
    (project / "jobs/step_1.py").write_text(JOB.format(by=7))
    fill(project, 1, "prod")
    assert fill(project, 1, "dev").made_in == dict.fromkeys(DAYS, "prod")


def test_a_partition_that_somebody_else_changed_in_production_is_made_here(project: Path) -> None:
    pl.DataFrame({"n": [9], "dt": [DAYS[1]]}).write_delta(str(project / "production/mart/step_1"), mode="append")
    summary = fill(project, 1, "dev", dry=True)
    assert summary.reasons == {DAYS[1]: "output 'result' was changed by someone else"}
    assert summary.made_in == {DAYS[0]: "prod"}


def test_a_dry_backfill_and_the_screen_say_where_it_was_made(project: Path) -> None:
    command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(project), "backfill", "step_1"]
    done = subprocess.run([*command, "--from", DAYS[0], "--to", DAYS[-1]], capture_output=True, text=True, check=True)
    assert "up to date (made in prod), skipped" in done.stdout
    assert "2 up to date" in done.stdout


def test_a_run_that_ends_after_a_newer_one_does_not_take_its_place_in_the_ledger(project: Path) -> None:
    store = FolderStore(project / "production/_ledger")
    (key,) = [key for key in store.list("default/step_1") if DAYS[0] in key]
    known = json.loads(store.read(key) or b"")
    store.put(key, json.dumps({**known, "generation": 99, "lock": "of the newer one"}).encode())
    run_pipeline_locally(RunRequest(str(project), "step_1", date=DAYS[0], environment="prod"))
    assert json.loads(store.read(key) or b"")["lock"] == "of the newer one"


def test_a_damaged_ledger_remembers_nothing(project: Path) -> None:
    entries = sorted(project.glob("production/_ledger/default/step_1/*.json"))
    for path, damage in zip(entries, (b"[]", b'{"x\xff'), strict=True):
        path.write_bytes(damage)
    for environment in ("prod", "dev"):
        assert set(fill(project, 1, environment, dry=True).reasons.values()) == {"never made"}
