"""Writers at once: all land, and who loses goes on from what the winner left or says whom it lost to."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource, commit
from aiflow_sdk.errors import StoreError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write, Written
from extent import WHOLE

WRITERS = 32

PROGRAM = """
import sys
sys.path[:0] = {path!r}
from concurrent.futures import ThreadPoolExecutor
from test_conflicts import Environment, write
lake = Environment(lake={lake!r})
sys.stdin.readline()  # all at once
with ThreadPoolExecutor(4) as pool:
    for done in pool.map(lambda number: write(lake, number, mode={mode!r}), range({first}, {first} + 4)):
        assert not done.superseded
"""


def run_of(number: int, pipeline: str | None = None, generation: int = 1) -> Run:
    return Run(
        run_id=str(uuid.uuid4()),
        environment="dev",
        project="default",
        pipeline_id=pipeline or "p",
        partition_key=f"2026-{number // 28 + 1:02}-{number % 28 + 1:02}",
        partition_grain="day",
        generation=generation,
    )


def write(
    lake: Environment, number: int, *, mode: str = "overwrite", run: Run | None = None, **options: Any
) -> Written:
    """Write one row, for a day of its own."""
    if mode == "upsert":
        options["keys"] = ["id"]
    sink = OneLakeSink.load({"table": "raw.t", "partition_by": ["dt"], "mode": mode, **options}, lake)
    run = run or run_of(number)
    frame = pl.DataFrame({"id": [number]}, schema={"id": pl.Int64}).to_arrow()
    time = "dt" if mode == "overwrite" else None
    return sink.write(frame.to_reader(), Write("out", run, {"dt": run.partition_key or ""}, time))


def ids(lake: Environment) -> list[int]:
    source = OneLakeSource.load({"table": "raw.t"}, lake)
    return sorted(source.to_polars(Scan()).collect().get_column("id").to_list())


@pytest.mark.parametrize("mode", ["overwrite", "append", "upsert"])
def test_thirty_two_writers_of_eight_processes_lose_nothing(tmp_path: Path, mode: str) -> None:
    lake = str(tmp_path / "lake")
    path = [str(Path(__file__).parent), *(entry for entry in sys.path if entry)]
    programs = [PROGRAM.format(path=path, lake=lake, mode=mode, first=first) for first in range(0, WRITERS, 4)]
    writers = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for program in programs
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, said = writer.communicate(timeout=200)
        assert writer.returncode == 0, said
    assert ids(Environment(lake=lake)) == list(range(WRITERS))


# Each loses to all before it, so their number counts twice; and azurite takes seconds a race.
@pytest.mark.parametrize(("kind", "writers"), [("s3", WRITERS if WHOLE else 12), ("azure", 6)])
def test_writers_of_a_store_at_once_lose_nothing(make_place, kind, writers):
    place = make_place(kind)
    lake = Environment(lake=place.address, storage=place.storage())
    with ThreadPoolExecutor(writers) as pool:
        assert not any(done.superseded for done in pool.map(lambda number: write(lake, number), range(writers)))
    assert ids(lake) == list(range(writers))


def test_upserts_of_several_pipelines_at_once_leave_one_row_a_key(tmp_path):
    lake = Environment(lake=str(tmp_path / "lake"))
    runs = [run_of(day, pipeline) for day in range(4) for pipeline in ("a", "b", "c")]
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(lambda run: write(lake, 7, mode="upsert", run=run), runs))
    rows = OneLakeSource.load({"table": "raw.t"}, lake).to_polars(Scan()).collect()
    assert rows.rows() == [(7, "2026-01-04")]


def test_of_two_executions_at_once_the_newer_stands_whoever_is_first(tmp_path):
    lake = Environment(lake=str(tmp_path / "lake"))
    write(lake, 0)
    for generation in range(2, 20, 2):
        runs = [run_of(0, generation=one) for one in (generation, generation + 1)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda run: write(lake, run.generation, run=run), runs))
        assert ids(lake) == [generation + 1]


def test_who_loses_for_ever_says_whom_it_lost_to(tmp_path, monkeypatch):
    lake = Environment(lake=str(tmp_path / "lake"))
    write(lake, 0)
    real, others = commit._decide, iter(range(1, 9))
    monkeypatch.setattr(commit, "_TRIES", 3)  # of 200
    monkeypatch.setattr(commit, "_turn", lambda place: nullcontext())  # writers of other machines take no turns

    def overtaken(change: Any, state: Any) -> Any:
        done = real(change, state)
        if change.request.run.pipeline_id == "slow":  # somebody else is always just faster
            write(lake, next(others), run=run_of(next(others), "fast"))
        return done

    monkeypatch.setattr(commit, "_decide", overtaken)  # a real write of another, each time just before ours
    with pytest.raises(StoreError) as caught:
        write(lake, 20, run=run_of(20, "slow"))
    assert (caught.value.code, caught.value.retryable) == ("commit-conflict", True)
    assert "default/fast for 2026-01-" in caught.value.message
    assert 20 not in ids(lake)
    assert not [path for path in (tmp_path / "lake").rglob("*.parquet") if "dt=2026-01-21" in str(path)]


def test_a_new_column_and_other_writers_at_once_all_land(tmp_path):
    lake = Environment(lake=str(tmp_path / "lake"))
    write(lake, 0, schema_evolution="add_columns")

    def one(number: int) -> None:
        run = run_of(number)
        sink = OneLakeSink.load({"table": "raw.t", "partition_by": ["dt"], "schema_evolution": "add_columns"}, lake)
        frame = pl.DataFrame({"id": [number], "new": [number]}).to_arrow()
        sink.write(frame.to_reader(), Write("out", run, {"dt": run.partition_key or ""}, "dt"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1, 9)))
    rows = OneLakeSource.load({"table": "raw.t"}, lake).to_polars(Scan()).select("id", "new").sort("id").collect()
    assert rows.rows() == [(0, None), *((number, number) for number in range(1, 9))]
