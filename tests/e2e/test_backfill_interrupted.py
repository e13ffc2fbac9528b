"""A backfill that is stopped in its middle and typed again ends in the table that one clean backfill makes."""

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import projects
from aiflow_sdk.partitions import due_partitions
from projects import AIFLOW, lay, left_in

DAYS = [f"2026-11-{day:02}" for day in range(16, 28)]
"""Twelve days, Monday to Friday of the next week but one."""

JOBS = """
import os, time
from pathlib import Path
import polars as pl

def enrich(numbers: pl.DataFrame, context) -> pl.DataFrame:
    with open("calls", "a") as file:
        file.write(f"{context.ds}\\n")
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    return numbers.with_columns(doubled=pl.col("n") * 2)

def total(enrich: pl.LazyFrame) -> pl.LazyFrame:
    return enrich.group_by("kind").agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("doubled").sum())
"""
PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="work", schedule="0 3 * * 1-5", concurrency=2{more})
def work(p):
    numbers = p.read(source.onelake(id="numbers", table="raw.numbers", partitions={{"dt": "{{{{ ds }}}}"}}))
    enriched = numbers.transform(id="enrich", fn="jobs:enrich")
    p.write(enriched, sink.onelake(id="rows", table="mart.rows", partition_by=["dt"]))
    totals = enriched.transform(id="total", fn="jobs:total", fuse=False)
    p.write(totals, sink.onelake(id="totals", table="mart.totals", partition_by=["dt"]))
"""


def make_project(root: Path, more: str = "") -> Path:
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines/work.py").write_text(PIPELINE.format(more=more))
    (root / "jobs.py").write_text(JOBS)
    (root / "aiflow.toml").write_text("")
    numbers = [{"n": n * at, "kind": "ab"[n % 2], "dt": day} for at, day in enumerate(DAYS) for n in range(5)]
    lay(root, "raw/numbers", numbers, "dt")
    return root


def aiflow(root: Path, *words: str, code: int | None = 0, **variables: str) -> list[dict[str, Any]]:
    """Run a command with ``--json`` and return what it says."""
    return projects.aiflow(root, *words, "--json", code=code, **variables).records


def runs(root: Path) -> list[dict[str, Any]]:
    found: Any = aiflow(root, "runs")[0]
    return list(found)


def backfill(root: Path, first: str = DAYS[0], last: str = DAYS[-1]) -> list[dict[str, Any]]:
    return aiflow(root, "backfill", "work", "--from", first, "--to", last)


def partitions(root: Path, table: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each partition."""
    frame = pl.read_delta(str(root / ".aiflow/lake" / table))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(frame.to_dicts(), key=repr):
        found.setdefault(row["dt"], []).append(row)
    return dict(sorted(found.items()))


def made(root: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    return {table: partitions(root, table) for table in ("mart/rows", "mart/totals")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one backfill makes that nobody disturbs."""
    root = make_project(tmp_path_factory.mktemp("clean") / "project")
    assert backfill(root)[-1]["state"] == "succeeded"
    tables = made(root)
    assert [list(table) for table in tables.values()] == [DAYS, DAYS]
    return tables


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    root = make_project(tmp_path / "project")
    yield root
    assert not left_in(root), "a process of the backfill was left behind"


def start_and_stop(root: Path, number: signal.Signals, record: str, after: int, slowly_seconds: float = 0.15) -> int:
    """Start a backfill, send it the signal once it has told so many records of the kind, and return how it ended."""
    process = subprocess.Popen(
        [*AIFLOW, "backfill", "work", "--from", DAYS[0], "--to", DAYS[-1], "--json"],
        cwd=root,
        env={**os.environ, "SLOWLY": str(slowly_seconds)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    told = 0
    for line in process.stdout:
        told += json.loads(line)["record"] == record
        if told == after:
            break
    else:
        raise AssertionError(f"it told {record} only {told} times")
    if number is signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: the whole foreground group
    else:
        process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


STOPS = [
    (signal.SIGINT, "run-started", 1),
    (signal.SIGINT, "task-finished", 3),
    (signal.SIGINT, "run-finished", 5),
    (signal.SIGTERM, "run-finished", 2),
    (signal.SIGKILL, "run-started", 1),
    (signal.SIGKILL, "task-started", 4),
    (signal.SIGKILL, "run-finished", 5),
]


@pytest.mark.parametrize(("number", "record", "after"), STOPS, ids=lambda part: getattr(part, "name", str(part)))
def test_a_backfill_that_was_stopped_ends_in_the_same_table_when_it_is_typed_again(
    project, clean, number, record, after
):
    code = start_and_stop(project, number, record, after)
    assert code == (-9 if number is signal.SIGKILL else 130)
    assert {run["state"] for run in runs(project)} <= {"succeeded", "cancelled", "interrupted", "running"}
    before = {run["partition"] for run in runs(project) if run["state"] == "succeeded"}
    again = backfill(project)
    assert again[-1]["state"] == "succeeded"
    assert made(project) == clean
    # What was done is not done again, and the rest is.
    done_again = [one["partition"] for one in again if one["record"] == "run-started"]
    assert not before & set(done_again)
    assert before | set(done_again) == set(DAYS)
    assert [one for one in backfill(project) if one["record"] == "run-started"] == []


def test_stopped_again_and_again_it_still_gets_there(project, clean):
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        start_and_stop(project, number, "run-finished", 1)
    backfill(project)
    assert made(project) == clean


def test_two_backfills_at_once_end_in_the_same_table(project, clean):
    """Somebody types it in a second window before the first has ended."""
    command = [*AIFLOW, "backfill", "work", "--from", DAYS[0], "--to", DAYS[-1], "--json"]
    both = [
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, out + error
    assert made(project) == clean


# A schedule that fires more seldom than its periods complete.


def test_without_a_date_a_run_is_for_the_last_complete_day(project):
    lay_days(project)
    before = dt.datetime.now(dt.UTC).date()
    (finished,) = [one for one in aiflow(project, "run", "work") if one["record"] == "run-finished"]
    after = dt.datetime.now(dt.UTC).date()
    assert finished["partition"] in {(day - dt.timedelta(days=1)).isoformat() for day in (before, after)}
    assert list(partitions(project, "mart/rows")) == [finished["partition"]]


def lay_days(root: Path) -> None:
    """Add today and the days before it, whatever day it is."""
    today = dt.datetime.now(dt.UTC).date()
    days = [(today - dt.timedelta(days=ago)).isoformat() for ago in range(4)]
    frame = pl.DataFrame([{"n": 1, "kind": "a", "dt": day} for day in days if day not in DAYS])
    if frame.height:
        frame.write_delta(str(root / ".aiflow/lake/raw/numbers"), mode="append")


def test_a_schedule_of_weekdays_makes_the_weekend_too(project, clean):
    """On Monday the cron fires for Friday, Saturday and Sunday; a backfill of the week makes every day of it."""
    friday, monday = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC), dt.datetime(2026, 11, 23, 3, tzinfo=dt.UTC)
    due = due_partitions("0 3 * * 1-5", "day", "UTC", after=friday, now=monday)
    assert [one.key for one in due] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    for one in due:
        aiflow(project, "run", "work", "--date", one.key)
    assert list(partitions(project, "mart/rows")) == [one.key for one in due]
    again = backfill(project, "2026-11-16", "2026-11-22")
    ran = sorted(one["partition"] for one in again if one["record"] == "run-started")
    assert ran == ["2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19"]
    assert partitions(project, "mart/totals") == {day: clean["mart/totals"][day] for day in DAYS[:7]}


# A pipeline that takes ranges.

RANGES = """
import os, time
import polars as pl

def enrich(numbers: pl.DataFrame, context) -> pl.DataFrame:
    with open("calls", "a") as file:
        file.write(f"{context.data_interval_start:%Y-%m-%d} {context.data_interval_end:%Y-%m-%d}\\n")
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    return numbers.with_columns(doubled=pl.col("n") * 2)

def total(enrich: pl.LazyFrame) -> pl.LazyFrame:
    return enrich.group_by("kind", "dt").agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("doubled").sum())
"""


@pytest.fixture
def ranges(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "ranges", ", ranges=True")
    (root / "jobs.py").write_text(RANGES)
    return root


def test_a_pipeline_that_takes_ranges_is_filled_by_one_job(ranges, clean):
    records = backfill(ranges)
    assert [one["partition"] for one in records if one["record"] == "run-started"] == [f"{DAYS[0]}..{DAYS[-1]}"]
    assert (ranges / "calls").read_text() == "2026-11-16 2026-11-28\n"
    assert made(ranges) == clean
    assert [one for one in backfill(ranges) if one["record"] == "run-started"] == []


def test_of_a_range_only_what_is_not_made_is_made(ranges, clean):
    aiflow(ranges, "run", "work", "--date", "2026-11-20")
    aiflow(ranges, "run", "work", "--date", "2026-11-23", "--last-date", "2026-11-24")
    records = backfill(ranges)
    assert [one["partition"] for one in records if one["record"] == "run-started"] == [
        "2026-11-16..2026-11-19",
        "2026-11-21..2026-11-22",
        "2026-11-25..2026-11-27",
    ]
    assert made(ranges) == clean


def test_a_range_replaces_its_days_and_no_other(ranges, clean):
    backfill(ranges)
    numbers = pl.DataFrame([{"n": 1000, "kind": "a", "dt": day} for day in ("2026-11-18", "2026-11-19")])
    numbers.write_delta(str(ranges / ".aiflow/lake/raw/numbers"), mode="append")
    records = backfill(ranges)
    assert [one["partition"] for one in records if one["record"] == "run-started"] == ["2026-11-18..2026-11-19"]
    found = made(ranges)
    for table, days in found.items():
        changed = {day for day in DAYS if days[day] != clean[table][day]}
        assert changed == {"2026-11-18", "2026-11-19"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_job_of_a_range_that_was_stopped_leaves_nothing_of_it(ranges, clean, number):
    assert start_and_stop(ranges, number, "task-started", 1, slowly_seconds=30) != 0
    assert not (ranges / ".aiflow/lake/mart/rows/_delta_log").exists()
    backfill(ranges)
    assert made(ranges) == clean


# Plugins of the project's own.

PLUGINS = '''
import json
from aiflow_sdk.plugins import DatasetName, Sink, Source, Written, register_sink, register_source


@register_source("letters")
class Letters(Source):
    """The first letters of the alphabet."""

    count: int = 3

    def dataset(self):
        return DatasetName("memory", "letters")

    def schema(self):
        import pyarrow as pa

        return pa.schema({"letter": pa.string()})

    def scan(self, request):
        import pyarrow as pa

        yield pa.RecordBatch.from_pylist([{"letter": chr(97 + n)} for n in range(self.count)], schema=self.schema())


@register_source("vowels")
def vowels():
    class Vowels(Letters):
        """The vowels."""

        def scan(self, request):
            import pyarrow as pa

            yield pa.RecordBatch.from_pylist([{"letter": one} for one in "aeiou"], schema=self.schema())

    return Vowels


@register_sink("lines")
class Lines(Sink):
    """A file of JSON lines beside the project."""

    file: str

    def dataset(self):
        return DatasetName("file", self.file)

    def write(self, batches, request):
        rows = batches.read_all().to_pylist()
        with open(self.file, "w") as file:
            file.writelines(json.dumps(row) + "\\\\n" for row in rows)
        return Written(rows=len(rows))
'''.replace("\\\\n", "\\n")
SPELLED = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="spelled", params={"count": 2})
def spelled(p):
    letters = p.read(source.letters(id="letters", count=2))
    vowels = p.read(source.vowels(id="vowels"))
    joined = p.sql("select letter from {letters} union all select letter from {vowels}", letters, vowels, id="joined",
                   engine="ENGINE")
    p.write(joined, sink.lines(id="lines", file="letters.jsonl"))
    p.write(joined, sink.onelake(id="table", table="mart.letters"))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "own")
    (root / "plugins").mkdir()
    (root / "plugins/letters.py").write_text(PLUGINS)
    return root


@pytest.mark.parametrize("engine", ["python", "spark"])
def test_a_plugin_of_the_projects_own_is_used_by_its_name(own, engine):
    (own / "pipelines/spelled.py").write_text(SPELLED.replace("ENGINE", engine))
    assert aiflow(own, "check")[0]["problems"] == []
    for _ in range(2):  # discovered, then from the cache
        assert aiflow(own, "run", "spelled")[-1]["state"] == "succeeded"
        written = [json.loads(line)["letter"] for line in (own / "letters.jsonl").read_text().splitlines()]
        assert sorted(written) == sorted("ab" + "aeiou")
        (own / "letters.jsonl").unlink()
    assert sorted(pl.read_delta(str(own / ".aiflow/lake/mart/letters"))["letter"]) == sorted("abaeiou")
    shutil.copytree(own, own.parent / "elsewhere")
    (report,) = aiflow(own.parent / "elsewhere", "compile", "--out", "plans")
    plan = json.loads(Path(next(one["path"] for one in report["pipelines"] if one["id"] == "spelled")).read_text())
    assert {node["plugin"] for node in plan["nodes"] if node["type"] == "source"} == {
        "plugins.letters:Letters",
        "plugins.letters:vowels",
    }


def test_its_options_are_checked_like_those_of_any_plugin(own):
    (own / "pipelines/spelled.py").write_text(
        SPELLED.replace("ENGINE", "python").replace("count=2))", 'count="two"))').replace('file="', 'fiel="')
    )
    problems = aiflow(own, "check", code=1)[0]["problems"]
    assert {(one["code"], one["where"]["line"]) for one in problems} == {
        ("bad-option", 6),
        ("unknown-option", 10),
        ("missing-option", 10),
    }
    assert any(one["hint"] == "did you mean 'file'?" for one in problems)


@pytest.mark.parametrize(("mark", "name"), [("register_source", "onelake"), ("register_sink", "files")])
def test_a_name_that_is_taken_is_an_error_that_names_both(own, mark, name):
    (own / "plugins/taken.py").write_text(
        f"from aiflow_sdk.plugins import {mark}\nfrom plugins.letters import Letters, Lines\n\n"
        f'@{mark}("{name}")\nclass Mine({"Letters" if mark == "register_source" else "Lines"}):\n    "Mine."\n'
    )
    (own / "pipelines/copied.py").write_text(
        "from aiflow_sdk import pipeline, sink, source\n\n@pipeline(id='copied')\ndef copied(p):\n"
        "    p.write(p.read(source.onelake(id='a', table='raw.numbers')), sink.files(id='b', path='b.csv'))\n"
    )
    problems = aiflow(own, "check", "copied", code=1)[0]["problems"]
    assert [one["code"] for one in problems] == ["duplicate-plugin"]
    assert "plugins.taken:Mine" in problems[0]["message"]
    assert "aiflow-sdk" in problems[0]["message"]
    assert problems[0]["where"]["path"] == "pipelines/copied.py"
    (record,) = aiflow(own, "run", "copied", code=1)
    assert record["error"]["code"] == "duplicate-plugin"


def test_two_of_the_project_that_claim_one_name_are_an_error(own):
    (own / "plugins/other.py").write_text(PLUGINS)
    (own / "pipelines/spelled.py").write_text(SPELLED.replace("ENGINE", "python"))
    problems = aiflow(own, "check", "spelled", code=1)[0]["problems"]
    assert {one["code"] for one in problems} == {"duplicate-plugin"}
    assert len(problems) == 3
    for one in problems:
        assert "plugins.letters:" in one["message"]
        assert "plugins.other:" in one["message"]
