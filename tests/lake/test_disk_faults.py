"""A disk that fills, a lake that cannot be written, a clock that is wrong: what the run is told, and what is left."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write
from harness.disks import read_only, small_disk
from harness.shim import Faults, run_with_faults

DAY, NEXT = "2026-11-20", "2026-11-21"
FULL = {"store-full", "store-not-writable"}
PAGE = 4096


def write(lake: Path, ids: Sequence[int], generation: int, mode: str = "overwrite", day: str = DAY) -> None:
    keys = {"keys": ["id"]} if mode == "upsert" else {}
    options = {"table": "raw.t", "partition_by": ["dt"], "mode": mode, **keys}
    run = Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id="x",
        partition_key=day,
        partition_grain="day",
        execution=generation,
        generation=generation,
    )
    frame = pl.DataFrame({"id": list(ids)}, schema={"id": pl.Int64})
    sink = OneLakeSink.load(options, Environment(lake=str(lake)))
    sink.write(frame.to_arrow().to_reader(), Write("out", run, {"dt": day}, "dt" if mode == "overwrite" else None))


def rows(lake: Path) -> list[tuple[int, str]]:
    source = OneLakeSource.load({"table": "raw.t"}, Environment(lake=str(lake)))
    return sorted(source.to_polars(Scan()).select("id", "dt").collect().rows())


def write_and_tell(lake: str, ids: list[int], generation: int, mode: str) -> None:
    """In a child: write, and print the error as JSON."""
    try:
        write(Path(lake), ids, generation, mode)
    except AiflowError as error:
        print("TOLD", json.dumps(error.to_dict()))
    else:
        print("TOLD null")


def in_child(faults: Faults, *arguments: Any) -> tuple[dict[str, Any] | None, int]:
    """Return the error that a child tells of, and how many bytes it wrote."""
    command = [sys.executable, "-m", "harness.job", __file__, "write_and_tell", json.dumps(arguments)]
    path = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    done, steps = run_with_faults(command, faults, environment=path, timeout_seconds=200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout
    return json.loads(lines[-1].removeprefix("TOLD ")), sum(step.size for step in steps if step.call == "write")


@pytest.mark.parametrize("mode", ["overwrite", "append", "upsert"])
def test_a_disk_that_fills_at_any_point_leaves_the_table_as_it_was(tmp_path, mode):
    lake = tmp_path / "disk"
    before = [(1, DAY), (2, NEXT)]
    # The later day's row has the same key, and stays.
    after = [(2, NEXT), (7, DAY)] if mode == "upsert" else [(2, DAY), (2, NEXT), (7, DAY)]
    with small_disk(lake, 64 * PAGE):
        write(lake, [1], 1, "append")
        write(lake, [2], 1, "append", NEXT)
        used = pages_used(lake)
        failures = 0
        for free in range(40):
            subprocess.run(["mount", "-o", f"remount,size={(used + free) * PAGE}", str(lake)], check=True)
            error = failure_of(lambda: write(lake, [2, 7], 3, mode))
            if error is None:
                break
            failures += 1
            assert error.code in FULL, (free, error, error.notes)
            assert error.hint
            assert rows(lake) == before
            used = max(used, pages_used(lake))  # what could not be removed
        assert failures >= 2, "it was full at some points"
        assert rows(lake) == after
        subprocess.run(["mount", "-o", f"remount,size={256 * PAGE}", str(lake)], check=True)
        write(lake, [2, 7], 3, mode)
        assert rows(lake) == after


def failure_of(action: Callable[[], object]) -> AiflowError | None:
    try:
        action()
    except AiflowError as error:
        return error
    return None


def pages_used(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_blocks - stat.f_bfree


def test_a_write_in_the_middle_of_which_the_disk_is_full(tmp_path):
    """The same without the right to mount: bytes are counted, and then there is no room."""
    lake = tmp_path / "lake"
    write(lake, [1], 1)
    failed, size = in_child(Faults(lake), str(lake), [1], 2, "overwrite")
    assert failed is None
    for part in (0, 1, size // 2, size - 1):
        failed, _ = in_child(Faults(lake, disk_bytes=part), str(lake), [7], 3, "overwrite")
        assert failed is not None, part
        assert failed["code"] in FULL, failed
        assert failed["hint"]
        assert rows(lake) == [(1, DAY)]
    write(lake, [7], 3)
    assert rows(lake) == [(7, DAY)]


def check_not_writable(lake: Path, attempt: Callable[[], object]) -> None:
    with pytest.raises(AiflowError) as caught:
        attempt()
    assert caught.value.code == "store-not-writable", caught.value
    assert caught.value.hint
    assert rows(lake) == [(1, DAY)]


@pytest.mark.parametrize("mode", ["overwrite", "upsert"])
def test_a_read_only_lake_can_be_read(tmp_path, mode):
    lake = tmp_path / "lake"
    write(lake, [1], 1)
    with read_only(lake):
        check_not_writable(lake, lambda: write(lake, [7], 2, mode))
    write(lake, [7], 2)
    assert rows(lake) == [(7, DAY)]


@pytest.mark.parametrize("denied", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_lake_whose_changes_are_denied_can_be_read(tmp_path, denied):
    lake = tmp_path / "lake"
    write(lake, [1], 1)
    failed, _ = in_child(Faults(lake, denied=denied), str(lake), [7], 2, "overwrite")
    assert failed is not None
    assert failed["code"] == "store-not-writable"
    assert rows(lake) == [(1, DAY)]


def test_generations_decide_and_never_the_clock(tmp_path):
    lake = tmp_path / "lake"
    hour = 3600
    for clock, ids, generation, wanted in (
        (+hour, [1], 1, [1]),
        (-hour, [2], 2, [2]),
        (+hour, [3], 1, [2]),
        (-hour, [4], 2, [4]),
    ):
        failed, _ = in_child(Faults(lake, clock_seconds=clock), str(lake), ids, generation, "append")
        assert failed is None
        assert [number for number, _ in rows(lake)] == wanted
    write(lake, [5], 3, "append")
    assert rows(lake) == [(5, DAY)]
