"""What an attempt uses of the machine: measured by the kernel, told apart where it can be, else unknown."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from aiflow_sdk import usage
from aiflow_sdk.usage import Meter

SPIN = """
import sys, time
data = bytearray(int(sys.argv[2]))
until = time.process_time() + float(sys.argv[1])
while time.process_time() < until:
    pass
print("done", flush=True)
sys.stdin.read()
"""
MB = 1_000_000


def spin(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def start(seconds: float, size: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SPIN, str(seconds), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test in a process of its own: what this one did before, and its other threads do, would be measured too."""

    @functools.wraps(test)
    def run() -> None:
        code = f"import runpy; runpy.run_path({__file__!r})[{test.__name__!r}].__wrapped__()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(autouse=True)
def only_ours():
    """Let no process of an earlier test count."""
    yield
    usage._servers.clear()


@alone
def test_processor_time_and_memory_of_the_attempt_alone_are_measured():
    block = bytearray(80 * MB)  # from before: it counts as held, as it is
    spin(0.2)
    began = time.process_time()
    meter = Meter().start()
    spin(0.3)
    more = bytearray(100 * MB)
    time.sleep(0.5)
    held = len(block) + len(more)
    del more
    told = meter.stop()
    # The kernel's two counts of one process differ by ticks at the most.
    assert 0.3 <= told["cpu_seconds"] <= time.process_time() - began + 0.02
    assert told["peak_memory_bytes"] >= held
    assert told["memory_byte_seconds"] >= 0.5 * 80 * MB
    assert told["attempts_at_once"] == 1
    json.dumps(told)


@alone
def test_a_peak_that_was_before_the_attempt_is_not_its_own():
    block = bytearray(300 * MB)
    del block
    told = Meter().start().stop()
    assert told["peak_memory_bytes"] < 300 * MB


@alone
def test_a_peak_between_two_looks_is_seen():
    meter = Meter().start()
    before = meter._process.peak
    block = bytearray(200 * MB)
    del block
    assert meter.stop()["peak_memory_bytes"] >= before + 190 * MB


@pytest.mark.parametrize("is_over", [True, False])
def test_processes_that_it_starts_count_ended_or_alive(is_over):
    meter = Meter().start()
    process = start(0.4, 60 * MB)
    process.stdout.readline()
    if is_over:
        end(process)
    told = meter.stop()
    end(process)
    assert 0.4 <= told["cpu_seconds"] < 5


@alone
def test_memory_of_a_process_that_it_starts_counts():
    alone = Meter().start().stop()["peak_memory_bytes"]
    meter = Meter().start()
    process = start(0.1, 200 * MB)
    process.stdout.readline()
    time.sleep(usage._SCAN_SECONDS + 3 * usage.SAMPLE_SECONDS)
    told = meter.stop()
    end(process)
    assert told["peak_memory_bytes"] > alone + 190 * MB


@alone
def test_a_process_from_before_counts_for_what_it_does_meanwhile_alone():
    process = start(1)
    process.stdout.readline()
    told = Meter().start().stop()
    end(process)
    assert told["cpu_seconds"] < 0.8


def test_of_several_at_once_nothing_is_known_but_what_the_process_used():
    first = Meter().start()
    second = Meter().start()
    spin(0.2)
    told = second.stop(), first.stop()
    for one in told:
        assert (one["cpu_seconds"], one["peak_memory_bytes"], one["memory_byte_seconds"]) == (None, None, None)
        assert one["attempts_at_once"] == 2
        assert one["process"]["cpu_seconds"] >= 0.2
        assert one["process"]["peak_memory_bytes"] > MB
    assert Meter().start().stop()["attempts_at_once"] == 1


@alone
def test_a_server_is_measured_apart():
    server = start(1, 100 * MB)
    usage.note_server(server.pid)
    server.stdout.readline()
    meter = Meter().start()
    meter.follow(server.pid)
    spin(0.1)
    time.sleep(3 * usage.SAMPLE_SECONDS)
    told = meter.stop()
    end(server)
    assert told["cpu_seconds"] < 0.8
    assert told["server"]["cpu_seconds"] < 0.5  # what it did before is somebody else's
    assert told["server"]["peak_memory_bytes"] > 100 * MB
    assert told["server"]["memory_byte_seconds"] > 0.3 * 100 * MB


@alone
def test_a_server_that_the_attempt_began_is_all_its_own():
    meter = Meter().start()
    server = start(1, 100 * MB)
    server.stdout.readline()
    meter.follow(server.pid)
    told = meter.stop()
    end(server)
    assert 1 <= told["server"]["cpu_seconds"] < 5
    assert told["server"]["peak_memory_bytes"] > 100 * MB
    assert told["cpu_seconds"] < 0.8


@pytest.mark.parametrize("kind", ["elsewhere", "gone", "shared"])
def test_a_server_that_cannot_be_told_apart_is_unknown(kind):
    server = start(0)
    other = Meter().start() if kind == "shared" else None
    meter = Meter().start()
    if kind == "gone":
        meter.follow(server.pid)
    end(server)
    if kind != "gone":
        meter.follow(None)
    told = meter.stop()
    if other:
        other.stop()
    assert told["server"]["cpu_seconds"] is None
    assert kind == "gone" or set(told["server"].values()) == {None}


def test_of_a_process_made_for_the_attempt_all_counts():
    program = (
        "import json, time\nwhile time.process_time() < 0.3: pass\nfrom aiflow_sdk.usage import Meter\n"
        "print(json.dumps(Meter(is_whole_process=True).start().stop()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 0.3 <= json.loads(done.stdout)["cpu_seconds"] < 5


def test_where_the_kernel_has_no_such_files_memory_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "_PROC", tmp_path)  # this kernel has them
    told = Meter().start().stop()
    assert told["cpu_seconds"] >= 0
    assert (told["peak_memory_bytes"], told["memory_byte_seconds"]) == (None, None)


def test_a_cgroup_of_its_own_is_told_as_what_it_is(tmp_path, monkeypatch):
    # Not every machine has the unified hierarchy: its files are made here as cgroups(7) describes them.
    proc, group = tmp_path / "proc", tmp_path / "cgroup" / "pod" / "main"
    group.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("1:name=systemd:/\n0::/pod/main\n")
    (group / "memory.current").write_text("5000\n")
    (group / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 7\n")
    monkeypatch.setattr(usage, "_PROC", proc)  # this kernel has no cgroup of the second version
    monkeypatch.setattr(usage, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(usage, "_cgroup_is_there", None)
    meter = Meter().start()
    (group / "cpu.stat").write_text("usage_usec 3500000\nuser_usec 7\n")
    (group / "memory.current").write_text("9000\n")
    told = meter.stop()["cgroup"]
    monkeypatch.setattr(usage, "_cgroup_is_there", None)
    assert (told["cpu_seconds"], told["peak_memory_bytes"]) == (2.5, 9000)


@alone
def test_measuring_costs_next_to_nothing():
    began = time.process_time()
    for _ in range(50):
        Meter().start().stop()
    each = (time.process_time() - began) / 50
    children = os.times()
    subprocess.run([sys.executable, "-c", "import subprocess"], check=True)
    bare = sum(os.times()[2:4]) - sum(children[2:4])
    assert each < bare  # a task is an interpreter and its imports at the least
    meter = Meter().start()
    began = time.process_time()
    time.sleep(2)
    share = (time.process_time() - began) / 2
    meter.stop()
    assert share < 0.1


def test_nobody_looks_when_nobody_measures():
    Meter().start().stop()
    time.sleep(0.05)
    assert [thread for thread in threading.enumerate() if thread.name == "usage"] == []


def test_user_code_may_fork_while_it_is_measured():
    code = (
        "import multiprocessing, json\nfrom aiflow_sdk.usage import Meter\n"
        "def work(n):\n    return sum(range(n))\n"
        "meter = Meter().start()\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n    pool.map(work, [3_000_000] * 4)\n"
        "print(json.dumps(meter.stop()))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["cpu_seconds"] > 0.02
