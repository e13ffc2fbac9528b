"""A job dies at just the step that was asked for, in every process it has, and its steps are all that strace sees."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from harness.killing import Job, kill_at, kill_at_request, run, trace, trace_requests
from harness.proxy import fault_proxy
from harness.shim import Faults

JOBS = Path(__file__).with_name("jobs.py")
PLAIN = ["mkdir", "open", "write", "fsync", "close", "rename"]


@pytest.fixture(params=["fresh", "forked"])
def start(request):
    """The zygote or none."""
    return {"zygote": request.getfixturevalue("zygote") if request.param == "forked" else None}


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_steps_are_counted_below_the_root_alone(tmp_path, start):
    root = tmp_path / "root"
    root.mkdir()
    steps = trace(Job(JOBS, "write_plainly", [str(root)]), root, **start)
    assert [step.call for step in steps] == PLAIN
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.size for step in steps} == {0, 10}
    assert Path(steps[-1].path) == root / "d" / "file"
    (tmp_path / "root2").mkdir()
    assert trace(Job(JOBS, "write_plainly", [str(tmp_path / "root2")]), root, **start) == ()


def test_a_root_is_found_through_links_and_relative_names(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    program = "import os; os.chdir('link'); os.mkdir('d'); os.mkdir('d/../e'); open(os.path.abspath('f'), 'w').close()"
    steps = trace(["sh", "-c", f'cd "{tmp_path}" && "{sys.executable}" -c "{program}"'], tmp_path / "link")
    assert [(step.call, step.path) for step in steps] == [
        ("mkdir", f"{root}/d"),
        ("mkdir", f"{root}/e"),
        ("open", f"{root}/f"),
        ("close", f"{root}/f"),
    ]


@pytest.mark.parametrize(
    ("step", "when", "left"),
    [
        (1, "before", set()),
        (1, "after", {"d"}),
        (2, "before", {"d"}),
        (2, "after", {"d", "d/new"}),
        (6, "before", {"d", "d/new"}),
        (6, "after", {"d", "d/file"}),
        (7, "before", {"d", "d/file"}),
    ],
)
def test_death_comes_before_or_after_just_that_step(tmp_path, start, step, when, left):
    outcome = kill_at(Job(JOBS, "write_plainly", [str(tmp_path)]), tmp_path, step, when, **start)
    assert outcome.was_killed is (step < 7)
    assert len(outcome.steps) == min(step, 6)
    assert names(tmp_path) == left


def test_a_write_is_torn(tmp_path, start):
    assert kill_at(Job(JOBS, "write_plainly", [str(tmp_path)]), tmp_path, 3, "torn", **start).was_killed
    assert (tmp_path / "d" / "new").read_bytes() == b"01234"


def test_a_child_dies_alone_or_with_all(tmp_path, start):
    job = Job(JOBS, "write_in_a_child", [str(tmp_path)])
    assert kill_at(job, tmp_path, 1, **start).was_killed
    alone = kill_at(job, tmp_path, 1, whole_group=False, **start)
    assert alone.returncode == 0
    assert "child ended with -9" in alone.output


def test_what_hangs_is_ended_with_its_children(tmp_path, start):
    outcome = run(Job(JOBS, "hang", [str(tmp_path)]), timeout_seconds=5, **start)
    assert outcome.returncode is None
    child = int((tmp_path / "child").read_text())
    while os.path.exists(f"/proc/{child}"):  # as long as nobody has reaped it; the test's time-out ends this
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.01)


def test_what_fails_says_why(tmp_path, start):
    with pytest.raises(RuntimeError, match="ValueError: no luck in"):
        trace(Job(JOBS, "fail", [str(tmp_path)]), tmp_path, **start)


def test_polars_and_delta_die_at_every_step_and_the_table_stays_readable(tmp_path, start):
    root = tmp_path / "traced"
    root.mkdir()
    steps = trace(Job(JOBS, "write_delta", [str(root), {}]), root, **start)
    assert {"open", "write", "rename", "link", "unlink"} <= {step.call for step in steps}
    numbers = range(1, len(steps) + 1) if start["zygote"] else [len(steps) // 2]
    for number in numbers:
        root = tmp_path / str(number)
        root.mkdir()
        outcome = kill_at(Job(JOBS, "write_delta", [str(root), {}, number]), root, number, "torn", **start)
        assert outcome.was_killed, outcome
        assert len(outcome.steps) >= number
        linked = any(step.call == "link" for step in outcome.steps[: number - 1])
        assert DeltaTable.is_deltatable(str(root / "t")) is linked
        if linked:
            assert pl.read_delta(str(root / "t")).height == 1000


def test_sail_dies_at_a_step_too(tmp_path, spark_zygote):
    steps = trace(Job(JOBS, "write_with_sail", [str(tmp_path)]), tmp_path, zygote=spark_zygote)
    assert [step.call for step in steps] == ["open", "mkdir", "open", "write", "close", "rename"]
    again = tmp_path / "again"
    again.mkdir()
    assert kill_at(Job(JOBS, "write_with_sail", [str(again)]), again, 6, zygote=spark_zygote).was_killed
    assert [path.suffix for path in (again / "p").iterdir()] == [".parquet#1"]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_steps_are_all_that_strace_sees(tmp_path):
    """Rust's and C++'s calls go through libc: nothing is missed by looking there."""
    root = tmp_path / "root"
    root.mkdir()
    job = Job(JOBS, "write_delta", [str(root), {}])
    calls = (
        "open,openat,creat,write,pwrite64,writev,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
    )
    watched = ["strace", "-f", "-y", "-e", f"trace={calls},fsync,fdatasync,ftruncate,copy_file_range,fallocate"]
    environment = {**os.environ, "PYTHONPATH": str(JOBS.parents[1] / "lib")}
    done = subprocess.run([*watched, *job.command()], env=environment, capture_output=True, text=True, check=True)
    seen = [line for line in done.stderr.splitlines() if str(root) in line and "resumed>" not in line]
    changing = [line for line in seen if not re.search(r"open(at)?\(.*O_RDONLY", line)]
    shutil.rmtree(root)
    root.mkdir()
    changing = [line for line in changing if "ERESTART" not in line]  # a signal came: the kernel begins the call again
    assert len(changing) == len([step for step in trace(job, root) if step.call != "close"]), "\n".join(changing)


@pytest.mark.parametrize("kind", ["s3", "azure", "onelake"])
def test_death_at_every_request_of_a_store(make_place, kind, zygote):
    place = make_place(kind)
    with fault_proxy(place.host) as proxy:
        job = Job(JOBS, "write_delta", [place.address, place.options(proxy.endpoint)])
        steps = trace_requests(job, proxy, zygote=zygote)
        commit = next(step for step in steps if step.method == "PUT" and "_delta_log" in step.path)
        for when in ("before", "after"):
            place = make_place(kind)
            job = Job(JOBS, "write_delta", [place.address, place.options(proxy.endpoint)])
            outcome = kill_at_request(job, proxy, commit.number, when, zygote=zygote)
            assert outcome.was_killed
            assert [request.path.split("/")[-1] for request in outcome.requests][-1] == commit.path.split("/")[-1]
            assert any("_delta_log/" in key for key in place.files()) is (when == "after")


def test_the_disk_fills(tmp_path, start):
    full = run(Job(JOBS, "write_delta", [str(tmp_path), {}]), Faults(tmp_path, disk_bytes=100), **start)
    assert full.returncode == 1
    assert "No space left on device" in full.output
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 100


@pytest.mark.parametrize("error", ["EROFS", "EACCES"])
def test_nothing_can_be_changed(tmp_path, start, error):
    import errno

    refused = run(Job(JOBS, "write_plainly", [str(tmp_path)]), Faults(tmp_path, denied=getattr(errno, error)), **start)
    assert refused.returncode == 1
    assert os.strerror(getattr(errno, error)) in refused.output
    assert names(tmp_path) == set()


def test_the_clock_is_an_hour_off_for_all_but_the_kernel(tmp_path, start):
    told = run(Job(JOBS, "tell_the_clock", [str(tmp_path)]), Faults(tmp_path, clock_seconds=-3600), **start)
    now, _, kernel, date = (float(text) for text in told.output.split())
    assert abs(kernel - now - 3600) < 60
    assert abs(kernel - date - 3600) < 60


def test_reads_are_traced_and_are_no_steps(tmp_path):
    (tmp_path / "f").write_bytes(bytes(1000))
    done = run([sys.executable, "-c", f"open({str(tmp_path / 'f')!r}, 'rb').read()"], Faults(tmp_path, reads=True))
    assert [(step.number, step.call, step.size) for step in done.steps if step.call == "read"] == [(0, "read", 1000)]


def test_signals_other_than_ours_are_told_apart(tmp_path):
    outcome = run(["sh", "-c", "kill -TERM $$"], Faults(tmp_path))
    assert outcome.returncode == -signal.SIGTERM
    assert not outcome.was_killed
