"""The partition ledger: random schedules against what really lies there, and real runs repaired by one command."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.cli import main
from extent import WHOLE
from schedule_trial import CHANGES, Tally, World, try_schedule
from service_trial import Service, dataset, run_event, unique

SCHEDULES = 200 if WHOLE else 80

PIPELINES = """
import polars as pl
from aiflow_sdk import pipeline, sink, source

def made(rows: pl.DataFrame, context) -> pl.DataFrame:
    return rows.with_columns(dt=pl.lit(context.ds))

@pipeline(id="first", schedule="@daily", owner="ana", start_date="2026-11-01")
def first(p):
    rows = p.read(source.files(id="rows", path="rows.csv"))
    p.write(rows.transform(id="made", fn="pipelines.flows:made"),
            sink.onelake(id="out", table="{table}", partition_by=["dt"]))

@pipeline(id="second", schedule="@daily", owner="ana", start_date="2026-11-01")
def second(p):
    rows = p.read(source.onelake(id="rows", table="{table}", partitions={{"dt": p.vars["run_date"]}}))
    p.write(rows.sql("select sum(n) as n, dt from {{rows}} group by dt", id="sums"),
            sink.onelake(id="out", table="{table}_sums", partition_by=["dt"]))
"""


@pytest.mark.parametrize("part", range(4))
def test_random_schedules_leave_nothing_stale_and_repair_nothing_needlessly(part: int) -> None:
    tally = Tally()
    size = SCHEDULES // 4
    for seed in range(part * size, (part + 1) * size):
        try_schedule(seed, tally)
    assert (tally.schedules, tally.stale, tally.needless, tally.misjudged) == (size, 0, 0, 0)
    assert tally.repaired > size


def typed(capsys: Any, root: Path, *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["-C", str(root), *words, "--json"]) == code
    out = capsys.readouterr().out
    return json.loads(out) if out.startswith("[") else [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def table() -> str:
    return unique("raw.t").replace("-", "_")


@pytest.fixture
def root(tmp_path: Path, service: Service, table: str, monkeypatch: Any) -> Path:
    """A project of two pipelines, the second of which reads what the first writes; it tells the service."""
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    (root / "pipelines").mkdir(parents=True)
    settings = (
        f'project = "{unique("shop")}"\n\n[environments.dev]\nlake = ".aiflow/lake"\nservice = "{service.address}"\n'
    )
    (root / "aiflow.toml").write_text(settings)
    (root / "rows.csv").write_text("n\n1\n2\n")
    (root / "pipelines" / "flows.py").write_text(PIPELINES.format(table=table))
    return root


def states(capsys: Any, root: Path, table: str) -> list[tuple[str, str | None]]:
    """Return the state of each partition of a table, and why, in their order."""
    return [(one["state"], one["reason"]) for one in typed(capsys, root, "status", table)]


def test_a_table_is_repaired_by_one_command_with_what_follows(capsys: Any, root: Path, table: str) -> None:
    today = datetime.now(UTC).date()
    first, last = (str(today - timedelta(days=days)) for days in (2, 1))
    sums = f"{table}_sums"
    for pipeline in ("first", "second"):
        typed(capsys, root, "backfill", pipeline, "--from", first, "--to", last)
    assert states(capsys, root, sums) == [("current", None)] * 2
    made = typed(capsys, root, "status", sums)[0]["made"]
    assert [(one["dataset"]["name"], one["partitions"]) for one in made["inputs"]] == [(table, [f"dt={first}"])]
    assert typed(capsys, root, "repair", table, "--down", "--dry-run") == []

    typed(capsys, root, "run", "first", "--date", first)
    assert states(capsys, root, sums) == [("stale", "input 'rows' was restated"), ("current", None)]
    (root / "pipelines" / "flows.py").write_text(
        (root / "pipelines" / "flows.py").read_text().replace("return rows", "return rows.head(1)", 1)
    )
    typed(capsys, root, "run", "first", "--date", last)
    # The code of the first is another now, so what it made before is stale, and what the second made of either.
    due = typed(capsys, root, "repair", table, "--down", "--dry-run")
    assert [(one["pipeline"], one["partition"], one["state"]) for one in due] == [
        ("first", first, "stale"),
        ("second", first, "stale"),
        ("second", last, "stale"),
    ]
    assert due[0]["reason"] == "the code of 'made' changed"
    done = typed(capsys, root, "repair", table, "--down")
    assert (done[-1]["record"], done[-1]["made"], done[-1]["left"]) == ("repair-finished", 3, [])
    assert sum(one["record"] == "run-finished" for one in done) == 3
    assert states(capsys, root, sums) == states(capsys, root, table) == [("current", None)] * 2


def test_a_repair_ends_when_nobody_reads_on(capsys: Any, root: Path, table: str) -> None:
    flows = root / "pipelines" / "flows.py"
    today = datetime.now(UTC).date()
    first = str(today - timedelta(days=60))
    flows.write_text(flows.read_text().replace('start_date="2026-11-01"', f'start_date="{first}"'))
    typed(capsys, root, "run", "first", "--date", first)
    due = len(typed(capsys, root, "repair", table, "--dry-run"))
    assert due == 59
    command = f"{sys.executable} -m aiflow_sdk.cli -C {root} repair {table} | head -2; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (130, "")
    states = [run["state"] for run in typed(capsys, root, "runs", "--limit", "200")]
    assert 1 < len(states) < due // 2
    assert set(states) <= {"succeeded", "cancelled"}


def test_what_a_repair_cannot_make_current_is_told_with_the_reason(capsys: Any, root: Path, table: str) -> None:
    day = str(datetime.now(UTC).date() - timedelta(days=1))
    flows, settings = root / "pipelines" / "flows.py", root / "aiflow.toml"
    settings.write_text(f'lock = "requirements.txt"\n{settings.read_text()}bundles = "bundles"\n')
    (root / "requirements.txt").touch()
    flows.write_text(flows.read_text().replace('start_date="2026-11-01"', f'start_date="{day}"'))
    typed(capsys, root, "deploy")
    flows.write_text(flows.read_text().replace('id="made"', 'id="made_otherwise"'))
    typed(capsys, root, "run", "first", "--date", day)
    capsys.readouterr()
    assert main(["-C", str(root), "repair", table]) == 1
    said = capsys.readouterr().out
    assert "0 runs, 1 up to date" in said
    assert "0 partitions made again, 1 left\n  1 partition: the definition of the pipeline changed" in said
    assert "what lies here may differ from what is deployed: aiflow" in said


def test_a_repair_that_fails_says_what_it_made_and_how_to_go_on(capsys: Any, root: Path, table: str) -> None:
    flows = root / "pipelines" / "flows.py"
    today = datetime.now(UTC).date()
    first, last = (str(today - timedelta(days=days)) for days in (2, 1))
    flows.write_text(flows.read_text().replace('start_date="2026-11-01"', f'start_date="{first}"'))
    typed(capsys, root, "run", "first", "--date", first)
    flows.write_text(
        flows.read_text().replace(
            "return rows", f"if context.ds == {last!r}: raise ValueError('no such day')\n    return rows"
        )
    )
    capsys.readouterr()
    assert main(["-C", str(root), "repair", table]) == 1
    told = capsys.readouterr()
    assert "0 runs, 1 failed, 0 up to date" in told.out
    assert "no such day" in told.err
    assert f"0 partitions made again; what is done stays done   go on with: aiflow -C {root} repair {table}" in told.out


def test_partitions_that_were_never_made_are_told_together(capsys: Any, root: Path, table: str) -> None:
    today = datetime.now(UTC).date()
    days = [str(today - timedelta(days=days)) for days in (5, 4, 3, 2, 1)]
    for made in (days[0], days[3]):
        typed(capsys, root, "run", "first", "--date", made)
    capsys.readouterr()
    assert main(["-C", str(root), "status", table]) == 0
    _, *rows, count = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows] == [
        [f"{days[1]}..{days[2]}", "absent", "never", "made", "(2", "partitions)"],
        [days[4], "absent", "never", "made"],
    ]
    assert count.startswith("2 current, 3 absent")
    assert main(["-C", str(root), "status", table, "--state", "absent"]) == 0
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()[1:4]] == [days[1], days[2], days[4]]


def test_what_is_asked_of_a_table_that_nobody_knows_or_without_a_service_is_said(
    capsys: Any, root: Path, service: Service
) -> None:
    assert typed_error(capsys, root, "status", "raw.nowhere") == "unknown-table"
    assert typed_error(capsys, root, "repair", "raw.nowhere", "--down") == "unknown-table"
    table = unique("feature.near")
    service.send(run_event(job=unique("job"), inputs=[dataset(table)]))
    for command in ("status", "repair"):
        main(["-C", str(root), command, table[:-1]])
        said = capsys.readouterr().err
        assert "that you may see" in said
        assert f"did you mean '{table}'" in said
    assert main(["-C", str(root), "status", table]) == 0
    assert f"no partition of {table} is known in dev, or none that you may see" in capsys.readouterr().out
    (root / "aiflow.toml").write_text('project = "shop"\n')
    assert typed_error(capsys, root, "status", "raw.nowhere") == "no-service"


def typed_error(capsys: Any, root: Path, *words: str) -> str:
    capsys.readouterr()
    assert main(["-C", str(root), *words, "--json"]) != 0
    said = capsys.readouterr()
    return json.loads(said.out)["error"]["code"]


def test_a_pipeline_without_a_schedule_lacks_only_what_it_was_run_for() -> None:
    world = World(random.Random(1), CHANGES[0])
    for hour in (world.hours[0], world.hours[5]):
        list(world.run("hours", hour))
    (hours, *_) = world.ledger().pipelines
    assert len(hours.expected(world.now)) == len(world.hours)
    hours = replace(hours, made=[replace(one, is_scheduled=False) for one in hours.made])
    assert hours.expected(world.now) == [world.hours[0], world.hours[5]]
