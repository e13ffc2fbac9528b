"""The embedded Spark server: one a session, found by all its processes, gone when its owner is."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.engines.spark import SparkEngine, embedded, stop_servers
from aiflow_sdk.engines.spark.server import has_ended
from aiflow_sdk.errors import MissingExtraError, RunError
from aiflow_sdk.plan import PlanTask, Run

TASK = PlanTask(
    id="t",
    engine="spark",
    engine_plugin="aiflow_sdk.engines.spark:SparkEngine",
    cluster="local",
    node_ids=("t",),
    retries=0,
    retry_delay_seconds=0,
    timeout_seconds=None,
    bounded=True,
)
RUN = Run(run_id="0193c000-0000-7000-8000-000000000000", environment="dev", project="default", pipeline_id="p")

START = "from aiflow_sdk.engines.spark.embedded import running_server; print(running_server().pid, flush=True)"
USE = f"""
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.config import Environment
from aiflow_sdk.plan import PlanTask, Run
task = PlanTask.model_validate_json({TASK.model_dump_json()!r})
with SparkEngine.load({{}}, Environment()).open(task, Run.model_validate_json({RUN.model_dump_json()!r})) as session:
    print(session._server.pid, session.spark.range(3).count(), flush=True)
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A session folder whose owner is this process."""
    folder = tmp_path / "session"
    monkeypatch.setenv("AIFLOW_SESSION_DIR", str(folder))
    monkeypatch.setenv("AIFLOW_SESSION_OWNER", str(os.getpid()))
    yield folder
    stop_servers(folder)


def python(program: str, **arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **arguments)


def ended(pid: int, seconds: float = 5) -> bool:
    return has_ended(pid, seconds)


def test_a_process_without_a_session_leaves_no_server_and_no_files_behind(tmp_path):
    result = python(USE, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")
    pid, count = map(int, result.stdout.split())
    assert count == 3
    assert ended(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_takes_its_server_and_its_files_along(tmp_path):
    result = python(START + "; import os; os.kill(os.getpid(), 9)", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert result.returncode == -signal.SIGKILL
    assert ended(int(result.stdout))
    assert list(tmp_path.iterdir()) == []


def test_a_task_killed_at_work_does_not_keep_the_server_alive(tmp_path):
    query = "select count(*) from range(3000000) a join range(100000) b on a.id % 7 = b.id % 7"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", USE + f"    session.spark.sql('{query}').collect()\n"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline().split()[0])
        time.sleep(0.5)
        process.kill()
    assert ended(server)


def test_a_session_has_one_server_for_all_its_processes(shared):
    pids = {int(python(START).stdout) for _ in range(2)}
    assert pids == {embedded.running_server().pid}


def test_processes_that_start_at_once_make_one_server(shared):
    started = [subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_threads_that_start_at_once_make_one_server(shared):
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.running_server().pid)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_the_server_of_a_session_outlives_its_workers_and_is_stopped_with_it(shared):
    result = python(USE)
    assert (result.returncode, result.stderr) == (0, "")
    pid = int(result.stdout.split()[0])
    assert not ended(pid, 0.3)
    stop_servers(shared)
    assert ended(pid, 0.1)
    assert not (shared / "spark.json").exists()
    stop_servers(shared)  # nothing is left to stop


def test_the_server_of_a_session_ends_when_the_owner_is_killed(shared, monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as owner:
        monkeypatch.setenv("AIFLOW_SESSION_OWNER", str(owner.pid))
        pid = int(python(START).stdout)
        assert not ended(pid, 0.3)
        owner.kill()
    assert ended(pid)


def test_a_server_whose_owner_is_gone_already_ends_at_once(shared, monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setenv("AIFLOW_SESSION_OWNER", str(gone.pid))
    result = python(START)
    assert result.returncode != 0 or ended(int(result.stdout))


def test_a_server_whose_folder_is_gone_before_it_listens_ends(tmp_path):
    (tmp_path / "spark.lock").touch()
    with (tmp_path / "spark.lock").open() as lock:
        command = [sys.executable, "-m", "aiflow_sdk.engines.spark.server", str(tmp_path / "gone"), str(os.getpid())]
        result = subprocess.run([*command, str(lock.fileno())], pass_fds=[lock.fileno()], timeout=60)
    assert result.returncode == 1


def test_starting_returns_at_once_and_starts_one_server(shared):
    began = time.monotonic()
    embedded.start_server()
    embedded.start_server()
    assert time.monotonic() - began < 10
    assert embedded.running_server().pid == json.loads((shared / "spark.json").read_text())["pid"]


def test_a_dead_server_is_noticed_and_started_again(shared):
    engine = SparkEngine.load({}, Environment())
    with engine.open(TASK, RUN) as session:
        assert session.spark.range(3).count() == 3
    first = embedded.running_server()
    os.kill(first.pid, signal.SIGKILL)
    assert ended(first.pid)
    with engine.open(TASK, RUN) as session:
        assert session.spark.range(4).count() == 4
    assert embedded.running_server().pid != first.pid


def test_a_server_that_dies_during_a_task_is_told_soon_and_may_be_tried_again(shared):
    began = time.monotonic()

    def task() -> None:
        with SparkEngine.load({}, Environment()).open(TASK, RUN) as session:
            frame = session.sql("select 1 as x", {})
            os.kill(embedded.running_server().pid, signal.SIGKILL)
            session.columns(frame.withColumn("y", frame.x))

    with pytest.raises(RunError) as caught:
        task()
    assert caught.value.code == "spark-server-lost"
    assert caught.value.retryable
    assert time.monotonic() - began < 60


def test_a_server_that_cannot_start_says_why(shared, monkeypatch, tmp_path):
    (tmp_path / "pysail").mkdir()
    (tmp_path / "pysail/__init__.py").write_text("raise RuntimeError('broken on purpose')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RunError) as caught:
        embedded.running_server()
    assert caught.value.code == "spark-server-failed"
    assert any("broken on purpose" in line for line in caught.value.notes)


def test_a_missing_pysail_says_what_to_install(shared, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pysail"):
        embedded.running_server()


def test_the_servers_process_imports_nothing_but_what_it_needs():
    heavy = {"pydantic", "pyspark", "polars", "pyarrow", "deltalake", "click"}
    result = python("import sys, aiflow_sdk.engines.spark.server, pysail.spark; print(*sys.modules)")
    assert not heavy & {name.partition(".")[0] for name in result.stdout.split()}
