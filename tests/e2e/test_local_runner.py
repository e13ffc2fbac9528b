"""The local runner with real processes: user code that prints, raises, hangs, dies, and a person who presses Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.local import BackfillRequest, RunRequest, backfill, list_runs, read_log, read_run, run_pipeline_locally
from aiflow_sdk.local.ends import tell_ends
from aiflow_sdk.local.store import RunFolder
from projects import lay, left_in, processes_in

DAY = "2026-11-20"

JOBS = '''
import logging, os, signal, subprocess, sys, time
from pathlib import Path
import polars as pl

def keep(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers

def first(numbers: pl.DataFrame, context) -> pl.DataFrame:
    note("first", context)
    return numbers.with_columns(once=pl.lit(context.attempt))

def note(name, context):
    """Leave a mark of each call, which outlives the process."""
    with open(f"calls-{name}", "a") as file:
        file.write(f"{context.attempt}\\n")
'''

HEAD = """
from aiflow_sdk import pipeline, source, sink

def numbers(p):
    return p.read(source.onelake("numbers", table="raw.numbers", partitions={"dt": "{{ ds }}"}))

def write(p, dataset, table="out.result"):
    p.write(dataset, sink.onelake("result", table=table, partition_by=["dt"]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes a project of one pipeline, ``work``, over a table with three days of numbers."""

    def make(body: str, jobs: str = "", days: int = 3, **settings: Any) -> Path:
        days_of = [f"2026-11-{20 + day:02}" for day in range(min(days, 11))] if days <= 11 else _days(days)
        numbers = {"n": list(range(4)) * len(days_of), "dt": [day for day in days_of for _ in range(4)]}
        lay(tmp_path, "raw/numbers", numbers, "dt")
        (tmp_path / "aiflow.toml").write_text("")
        (tmp_path / "pipelines").mkdir()
        (tmp_path / "pipelines/__init__.py").touch()
        (tmp_path / "jobs.py").write_text(JOBS + textwrap.dedent(jobs))
        arguments = {"schedule": "@daily", "retry_delay_minutes": 0, **settings}
        decorator = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        code = (
            f'{HEAD}\n@pipeline(id="work", {decorator})\ndef work(p):\n{textwrap.indent(textwrap.dedent(body), "    ")}'
        )
        (tmp_path / "pipelines/work.py").write_text(code)
        return tmp_path

    yield make
    assert not left_in(tmp_path), "a process of the run was left behind"


def _days(count: int) -> list[str]:
    import datetime

    return [(datetime.date(2026, 1, 1) + datetime.timedelta(days=day)).isoformat() for day in range(count)]


def run(project: Path, **request: Any) -> tuple[Any, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    summary = run_pipeline_locally(RunRequest(str(project), "work", **{"date": DAY, **request}), records.append)
    return summary, records


def rows(project: Path, table: str = "out/result") -> list[dict[str, Any]]:
    import polars as pl

    frame = pl.read_delta(str(project / ".aiflow/lake" / table))
    return frame.sort(*frame.columns).to_dicts()


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [record["record"] for record in records if record["record"] not in ("log", "node-started", "node-finished")]


def messages(project: Path, run_id: str, *arguments: Any) -> list[str]:
    return [line["message"] for line in read_log(project, run_id, *arguments)]


def ends_of(project: Path) -> dict[str, str]:
    """How each START of the journal ended, by job; a START without an end is a failure."""
    ends: dict[str, str] = {}
    open_ids: dict[str, str] = {}
    (spool,) = project.glob(".aiflow/runs/*/events.jsonl")
    for event in map(json.loads, spool.read_text().splitlines()):
        job = event["job"]["name"].removeprefix("default/")
        if event["eventType"] == "START":
            open_ids[event["run"]["runId"]] = job
        else:
            assert open_ids.pop(event["run"]["runId"]) == job
            ends[job] = event["eventType"]
    assert not open_ids
    return ends


TWO_TASKS = """
first = numbers(p).transform(id="first", engine="python", entrypoint="jobs:first", fuse=False)
second = first.transform(id="second", engine="python", entrypoint="jobs:second", fuse=False, retries=1)
write(p, second)
"""


def test_a_run_writes_its_table_and_tells_what_it_did(project) -> None:
    folder = project('write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))')
    summary, records = run(folder)
    assert summary.state == "succeeded", summary.errors
    assert summary.exit_code == 0
    assert [row["n"] for row in rows(folder)] == [0, 1, 2, 3]
    assert summary.node("result").rows == 4
    assert (summary.table("result") or "").endswith("out/result")
    assert kinds(records) == ["run-started", "task-started", "task-finished", "run-finished"]
    ids = {"pipeline_id": "work", "run_id": summary.run_id, "execution": 1, "trace_id": summary.trace_id}
    assert all(ids.items() <= record.items() for record in records)
    assert all(
        (record["task_id"], record["attempt"]) == ("keep", 1) for record in records if "run-" not in record["record"]
    )
    record, state = read_run(folder, summary.run_id[:13])
    assert (record.state, record.partition, state.tasks["keep"].state) == ("succeeded", DAY, "succeeded")
    json.dumps([records, summary.to_dict(), record.to_dict()])


def test_generations_grow_from_run_to_run(project) -> None:
    folder = project('write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))')
    assert [run(folder)[0].generation for _ in range(2)] == [1, 2]


def test_everything_that_user_code_says_is_in_its_log(project) -> None:
    folder = project(
        TWO_TASKS,
        """
        def second(first: pl.DataFrame, context) -> pl.DataFrame:
            print("to stdout")
            print("to stderr", file=sys.stderr)
            logging.getLogger("mine").info("to a logger")
            context.logger.warning("to the context")
            os.write(1, b"to the descriptor\\n")
            subprocess.run(["echo", "from a child"])
            return first
        """,
    )
    summary, records = run(folder)
    assert summary.succeeded, summary.errors
    said = {line["message"]: line for line in read_log(folder, summary.run_id, "second")}
    assert set(said) == {
        "to stdout",
        "to stderr",
        "to a logger",
        "to the context",
        "to the descriptor",
        "from a child",
    }
    assert said["to the context"]["node_id"] == "second"
    assert said["to the context"]["level"] == "warning"
    for line in said.values():
        assert (line["task_id"], line["attempt"], line["run_id"]) == ("second", 1, summary.run_id)
    assert {record["message"] for record in records if record["record"] == "log"} >= set(said)


def test_what_a_task_prints_is_its_own_although_the_supervisor_is_late(project) -> None:
    folder = project(
        TWO_TASKS,
        """
        def first(numbers: pl.DataFrame) -> pl.DataFrame:
            os.write(1, b"of the first\\n")
            return numbers

        def second(first: pl.DataFrame) -> pl.DataFrame:
            os.write(1, b"of the second\\n")
            return first
        """,
    )

    def listen(record: dict[str, Any]) -> None:
        if record["record"] == "task-started" and record["task_id"] == "first":
            time.sleep(2)

    summary = run_pipeline_locally(RunRequest(str(folder), "work", date=DAY), listen)
    assert summary.succeeded, summary.errors
    assert [messages(folder, summary.run_id, task) for task in ("first", "second")] == [
        ["of the first"],
        ["of the second"],
    ]


def test_a_failure_is_retried_as_often_as_the_plan_allows(project) -> None:
    folder = project(
        TWO_TASKS,
        """
        def second(first: pl.DataFrame, context) -> pl.DataFrame:
            note("second", context)
            if context.attempt == 1:
                raise ValueError("not yet")
            return first
        """,
    )
    summary, records = run(folder)
    assert summary.succeeded
    assert (folder / "calls-first").read_text() == "1\n"
    assert (folder / "calls-second").read_text() == "1\n2\n"
    assert summary.tasks["second"].attempt == 2
    (retried,) = [record for record in records if record["record"] == "task-retried"]
    assert "not yet" in retried["error"]["message"]
    assert "ValueError: not yet" in "\n".join(messages(folder, summary.run_id, "second", 1))


def test_a_failed_run_keeps_its_generation_and_does_only_the_rest_when_it_is_resumed(project) -> None:
    folder = project(
        TWO_TASKS,
        """
        def second(first: pl.DataFrame, context) -> pl.DataFrame:
            note("second", context)
            if not Path("mended").exists():
                raise ValueError("not yet")
            return first
        """,
    )
    failed, records = run(folder)
    assert (failed.state, failed.exit_code) == ("failed", 1)
    assert failed.errors[0]["code"] == "user-code-failed"
    assert "second" in failed.errors[0]["where"]["about"]
    assert records[-1]["record"] == "run-finished"
    with pytest.raises(AiflowError):
        failed.raise_if_failed()
    (folder / "mended").touch()
    summary, records = run(folder, resume=failed.run_id)
    assert summary.succeeded
    assert (summary.run_id, summary.generation) == (failed.run_id, failed.generation)
    assert (folder / "calls-first").read_text() == "1\n"
    assert (folder / "calls-second").read_text() == "1\n2\n3\n"
    assert records[0]["resumed"]
    with pytest.raises(AiflowError) as caught:
        run(folder, resume=failed.run_id)
    assert caught.value.code == "run-succeeded"


def test_a_task_over_its_time_is_ended_and_its_sibling_starts_again_uncounted(project) -> None:
    folder = project(
        """
        start = numbers(p)
        slow = start.transform(id="slow", engine="python", entrypoint="jobs:slow", fuse=False, retries=1,
                               timeout_minutes=4 / 60, external=True)
        sibling = start.transform(id="sibling", engine="python", entrypoint="jobs:sibling", fuse=False)
        write(p, sibling)
        """,
        """
        def slow(numbers: pl.DataFrame, context):
            note("slow", context)
            if context.attempt == 1:
                Path("first").write_text(str(os.getpid()))
                subprocess.Popen(["sleep", "60"])
                import re
                re.match(r"(a|aa)+$", "a" * 60 + "b")  # holds Python's lock for ages

        def sibling(numbers: pl.DataFrame, context) -> pl.DataFrame:
            note("sibling", context)
            while not Path("first").exists() or Path("first").read_text() == str(os.getpid()):
                time.sleep(0.01)
            return numbers
        """,
    )
    summary, records = run(folder)
    assert summary.succeeded, summary.errors
    assert (folder / "calls-slow").read_text() == "1\n2\n"
    assert set((folder / "calls-sibling").read_text()) == {"1", "\n"}
    assert {task.task_id: task.attempt for task in summary.tasks.values()} == {"slow": 2, "sibling": 1}
    (retried,) = [record for record in records if record["record"] == "task-retried"]
    assert (retried["task_id"], retried["error"]["code"]) == ("slow", "task-timeout")
    assert "worker-restarted" in kinds(records)
    assert kinds(records).count("run-started") == 1


def test_a_second_process_still_knows_where_the_node_was_written(project) -> None:
    folder = project(
        'write(p, numbers(p).transform(id="made", engine="python", entrypoint="jobs:made", retries=1))',
        """
        def made(numbers: pl.DataFrame, context):
            if context.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    (error,) = run(folder)[0].errors
    assert error["code"] == "returned-nothing"
    line = next(
        n for n, text in enumerate((folder / "pipelines/work.py").read_text().splitlines(), 1) if "made" in text
    )
    assert error["where"]["path"] == "jobs.py"
    assert error["where"]["about"] == f"pipeline 'work', node 'made' of pipelines/work.py:{line}"


def test_a_run_whose_process_is_being_replaced_is_nobody_elses_to_end_or_to_go_on_with(project) -> None:
    folder = project(
        'write(p, numbers(p).transform(id="made", engine="python", entrypoint="jobs:made", retries=1))',
        """
        def made(numbers: pl.DataFrame, context):
            if context.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return numbers
        """,
    )
    seen: list[str] = []

    def look(record: dict[str, Any]) -> None:
        if record["record"] == "worker-restarted":  # the next one is not there yet
            tell_ends(folder)
            (known,) = list_runs(folder)
            seen.append(known.state)
            with pytest.raises(AiflowError, match="is being done by another process"):
                RunFolder(folder, known.run_id).own()

    assert run_pipeline_locally(RunRequest(str(folder), "work", date=DAY), look).succeeded
    assert seen == ["running"]
    (spool,) = folder.glob(".aiflow/runs/*/events.jsonl")
    told = [(event["job"]["name"], event["eventType"]) for event in map(json.loads, spool.read_text().splitlines())]
    assert told == [
        ("default/work", "START"),
        ("default/work/made", "START"),
        ("default/work/made", "FAIL"),
        ("default/work/made", "START"),
        ("default/work/made", "COMPLETE"),
        ("default/work", "COMPLETE"),
    ]


HANG = 'subprocess.Popen(["sleep", "60"]); import re; re.match(r"(a|aa)+$", "a" * 60 + "b")  # holds Python\'s lock'


@pytest.mark.parametrize(
    ("body", "code"), [(HANG, "module-timeout"), ("os._exit(3)", "module-crashed"), ("os.abort()", "module-crashed")]
)
@pytest.mark.parametrize("how", ["run", "backfill"])
def test_a_module_whose_import_hangs_or_dies_is_named_and_nothing_is_left(project, how, body, code) -> None:
    folder = project("write(p, numbers(p))")
    (folder / "aiflow.toml").write_text("discovery_timeout_seconds = 4\n")
    file = folder / "pipelines/work.py"
    file.write_text(f"import os, subprocess\n{body}\n{file.read_text()}")
    words = ["run", "work", "--date", DAY] if how == "run" else ["backfill", "work", "--from", DAY, "--to", DAY]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "aiflow_sdk.cli", *words], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert f"error[{code}]: module 'pipelines.work'" in done.stderr
    # The line is told where the process could still be asked for it.
    assert "--> pipelines/work.py" in done.stderr
    assert not list_runs(folder)


def test_a_task_that_is_always_too_slow_fails(project) -> None:
    folder = project(
        TWO_TASKS.replace("retries=1", "timeout_minutes=1 / 60"),
        "def second(first: pl.DataFrame) -> pl.DataFrame:\n    time.sleep(60)\n    return first\n",
    )
    began = time.monotonic()
    summary, records = run(folder)
    assert time.monotonic() - began < 50
    assert summary.state == "failed"
    assert [error["code"] for error in summary.errors] == ["task-timeout"]
    assert summary.tasks["first"].state == "succeeded"
    assert kinds(records)[-1] == "run-finished"


def test_a_run_over_its_time_ends(project) -> None:
    folder = project(
        TWO_TASKS,
        "def second(first: pl.DataFrame) -> pl.DataFrame:\n    time.sleep(60)\n    return first\n",
        timeout_minutes=1.5 / 60,
    )
    summary, _ = run(folder)
    assert summary.state == "failed"
    assert summary.errors[0]["code"] == "run-timeout"
    assert summary.tasks["second"].attempt == 1
    assert ends_of(folder) == {"work": "FAIL", "work/first": "COMPLETE", "work/second": "FAIL"}


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os._exit(3)", "exited with code 3"),
        ("os._exit(0)", "exited with code 0"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
def test_a_task_that_kills_its_process_is_found_and_counted(project, death: str, said: str) -> None:
    folder = project(
        """
        start = numbers(p)
        for name in ("one", "two", "killer"):
            start.transform(id=name, engine="python", entrypoint=f"jobs:{name}", fuse=False, external=True)
        """,
        f"""
        def one(numbers: pl.DataFrame, context): note("one", context); time.sleep(0.5)
        two = one
        def killer(numbers: pl.DataFrame, context):
            note("killer", context)
            {death}
        """,
        retries=1,
        concurrency=3,
    )
    summary, _ = run(folder)
    assert summary.state == "failed"
    states = {task.task_id: (task.state, task.attempt) for task in summary.tasks.values()}
    assert states == {"one": ("succeeded", 1), "two": ("succeeded", 1), "killer": ("failed", 2)}
    (error,) = summary.errors
    assert error["code"] == "worker-died"
    assert said in error["message"]
    if said == "SIGSEGV":
        assert "killer" in "\n".join(error["notes"])  # faulthandler's traceback


def test_user_code_that_exits_or_interrupts_fails_its_task_alone(project) -> None:
    folder = project(
        """
        start = numbers(p)
        for name in ("exits", "interrupts", "fine"):
            start.transform(id=name, engine="python", entrypoint=f"jobs:{name}", fuse=False, external=True)
        """,
        """
        def exits(numbers: pl.DataFrame): sys.exit(0)
        def interrupts(numbers: pl.DataFrame): raise KeyboardInterrupt
        def fine(numbers: pl.DataFrame): pass
        """,
    )
    summary, _ = run(folder)
    states = {task.task_id: task.state for task in summary.tasks.values()}
    assert states == {"exits": "failed", "interrupts": "failed", "fine": "succeeded"}


def test_a_module_that_dies_while_it_is_imported_is_an_error_and_no_run(project) -> None:
    folder = project("import os; os._exit(7)")
    with pytest.raises(AiflowError, match="with exit code 7") as caught:
        run(folder)
    assert caught.value.code == "module-crashed"
    assert list_runs(folder) == []


def test_many_independent_tasks_run_at_once_and_no_more_than_allowed(project) -> None:
    folder = project(
        """
        start = numbers(p)
        for number in range(60):
            start.transform(id=f"t{number}", engine="python", entrypoint="jobs:busy", fuse=False, external=True)
        """,
        """
        import threading
        lock, all_there, at_once, most = threading.Lock(), threading.Event(), 0, 0
        def busy(numbers: pl.DataFrame, context):
            global at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
                Path("most").write_text(str(most))
                if at_once == 5:
                    all_there.set()
            all_there.wait(60)  # on a busy machine the fifth comes late
            print("I am", context.node_id)
            time.sleep(0.02)
            with lock:
                at_once -= 1
        """,
        concurrency=5,
    )
    summary, _ = run(folder)
    assert summary.succeeded, summary.errors
    assert (folder / "most").read_text() == "5"
    for number in range(60):
        assert messages(folder, summary.run_id, f"t{number}") == [f"I am t{number}"]


def test_one_node_runs_on_what_an_earlier_run_staged(project) -> None:
    folder = project(
        TWO_TASKS,
        """
        def second(first: pl.DataFrame, context) -> pl.DataFrame:
            note("second", context)
            return first
        """,
    )
    with pytest.raises(AiflowError, match="'first'") as caught:
        run(folder, only="second")
    assert caught.value.code == "no-earlier-run"
    until, _ = run(folder, until_node="first")
    assert {task.task_id: task.state for task in until.tasks.values()} == {"first": "succeeded", "second": "skipped"}
    only, _ = run(folder, only="second")
    assert only.succeeded, only.errors
    assert len(rows(folder)) == 4
    again, _ = run(folder, from_node="first")
    assert {task.state for task in again.tasks.values()} == {"succeeded"}
    assert (folder / "calls-first").read_text() == "1\n1\n"
    with pytest.raises(AiflowError) as caught:
        run(folder, only="secnod")
    assert "second" in str(caught.value)
    import shutil

    shutil.rmtree(folder / ".aiflow/lake/_staging")
    gone, _ = run(folder, only="second")
    assert gone.errors[0]["code"] == "staged-frame-gone"
    assert "'first'" in gone.errors[0]["message"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"date": "2026-11-20T05"}, "bad-date"),
        ({"date": "yesterday"}, "bad-date"),
        ({"date": "2026-11-20..2026-11-21"}, "no-ranges"),
        ({"params": {"limt": 3}}, "unknown-param"),
        ({"params": {"limit": "many"}}, "bad-param"),
        ({"only": "keep", "from_node": "keep"}, "bad-selection"),
        ({"only": "nothing"}, "unknown-node"),
        ({"resume": "0193"}, "unknown-run"),
        ({"environment": "prdo"}, "unknown-environment"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(project, request_, code: str) -> None:
    folder = project(
        'write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))', params={"limit": 3}
    )
    with pytest.raises(AiflowError) as caught:
        run(folder, **request_)
    assert caught.value.code == code
    assert list_runs(folder) == []


def test_an_unknown_pipeline_is_guessed(project) -> None:
    folder = project('write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))')
    with pytest.raises(AiflowError, match="did you mean 'work'"):
        run_pipeline_locally(RunRequest(str(folder), "wrok"))


def start_in_background(folder: Path, program: str) -> subprocess.Popen[str]:
    head = (
        "import sys\nfrom aiflow_sdk.local import *\n"
        "def show(record): print(record['record'], record.get('task_id', ''), flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )


SLOW_SECOND = """
def second(first: pl.DataFrame, context) -> pl.DataFrame:
    note("second", context)
    if not Path("mended").exists():
        subprocess.Popen(["sleep", "60"])
        time.sleep(60)
    return first
"""
RUN_PROGRAM = (
    f"summary = run_pipeline_locally(RunRequest(sys.argv[1], 'work', date={DAY!r}), show)\n"
    "print(summary.run_id); sys.exit(summary.exit_code)"
)


def await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for got in process.stdout:
        if got.strip() == line:
            return
    raise AssertionError(f"{line!r} never came")


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_and_the_run_can_be_resumed(project, number: signal.Signals) -> None:
    folder = project(TWO_TASKS, SLOW_SECOND)
    process = start_in_background(folder, RUN_PROGRAM)
    await_file(folder / "calls-second")
    began = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 130, out
    assert left_in(folder) == []
    (record,) = list_runs(folder)
    assert record.state == "cancelled"
    assert ends_of(folder) == {"work": "ABORT", "work/first": "COMPLETE", "work/second": "ABORT"}
    (folder / "mended").touch()
    summary, _ = run(folder, resume=record.run_id)
    assert summary.succeeded
    assert (folder / "calls-first").read_text() == "1\n"
    assert (folder / "calls-second").read_text() == "1\n1\n"
    assert len(rows(folder)) == 4


DIES_ONCE_IT_IS_SAVED = """
def second(first: pl.DataFrame, context) -> pl.DataFrame:
    from aiflow_sdk.local.store import RunFolder
    save = RunFolder.save
    def dying(folder, state, **facts):
        save(folder, state, **facts)
        if state.state != "running":
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
    RunFolder.save = dying
    return first
"""
BREAKS_OFF = """
import os, signal
from aiflow_sdk.local import supervisor
def show(record):
    if record["record"] == "task-started" and record["task_id"] == "second":
        {}
"""
KILLS_THE_CHILD = "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)"
DIES_ONCE_IT_IS_SETTLED = f"""
{BREAKS_OFF.format(KILLS_THE_CHILD)}
settle = supervisor.settle_end
def dying(*arguments, **how):
    settle(*arguments, **how)
    os.kill(os.getpid(), signal.SIGKILL)
supervisor.settle_end = dying  # the true one, and then the kill
"""


@pytest.mark.parametrize(
    ("job", "program", "code", "ends"),
    [
        (DIES_ONCE_IT_IS_SAVED, "", -9, ("succeeded", "COMPLETE", "COMPLETE")),
        (SLOW_SECOND, DIES_ONCE_IT_IS_SETTLED, -9, ("cancelled", "ABORT", "ABORT")),
        (SLOW_SECOND, BREAKS_OFF.format("raise ValueError"), 1, ("cancelled", "ABORT", "ABORT")),
    ],
)
def test_an_end_that_was_written_and_not_told_is_told_by_the_next_who_looks(project, job, program, code, ends) -> None:
    folder = project(TWO_TASKS, job)
    process = start_in_background(folder, f"{program}\n{RUN_PROGRAM}")
    process.communicate(timeout=60)
    assert process.returncode == code
    (known,) = list_runs(folder)
    assert known.state == ends[0]
    (spool,) = folder.glob(".aiflow/runs/*/events.jsonl")
    deadline = time.monotonic() + 30
    before = spool.read_text()
    while spool.read_text() == before and time.monotonic() < deadline:  # who did it is only just going
        tell_ends(folder)
    assert ends_of(folder) == {"work": ends[1], "work/first": "COMPLETE", "work/second": ends[2]}
    told = spool.read_text()
    tell_ends(folder)
    assert spool.read_text() == told
    last = json.loads(told.splitlines()[-1])
    assert last["job"]["name"] == "default/work"
    assert ("outputStatistics" in last["outputs"][0].get("outputFacets", {})) == (ends[1] == "COMPLETE")
    if ends[0] == "cancelled":
        (folder / "mended").touch()
        assert run(folder, date=None, resume=known.run_id)[0].succeeded


def test_an_end_that_somebody_told_meanwhile_is_not_told_again(project) -> None:
    folder = project(TWO_TASKS, SLOW_SECOND)
    program = f"""
from aiflow_sdk.events import Spool
{BREAKS_OFF.format(KILLS_THE_CHILD)}
settle = supervisor.settle_end
def settled(folder, *arguments, **how):
    told = settle(folder, *arguments, **how)
    Spool(folder.events_path).append({{"eventType": "ABORT", "run": {{"runId": folder.run_id}}}})  # the other's
    return told
supervisor.settle_end = settled
{RUN_PROGRAM}
"""
    process = start_in_background(folder, program)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (spool,) = folder.glob(".aiflow/runs/*/events.jsonl")
    assert spool.read_text().count('"ABORT"') == 1


def test_a_second_ctrl_c_kills_what_does_not_listen(project) -> None:
    folder = project(
        TWO_TASKS,
        "import re\ndef second(first: pl.DataFrame) -> pl.DataFrame:\n"
        '    re.match(r"(a|aa)+$", "a" * 60 + "b")\n    return first\n',
    )
    patient = "import aiflow_sdk.local.supervisor as supervisor\nsupervisor.CANCEL_GRACE_SECONDS = 100.0\n"
    process = start_in_background(folder, patient + RUN_PROGRAM)
    await_line(process, "task-started second")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=50)
    assert process.returncode == 130
    (record,) = list_runs(folder)
    assert record.state == "cancelled"
    assert ends_of(folder) == {"work": "ABORT", "work/first": "COMPLETE", "work/second": "ABORT"}


def test_ctrl_c_before_the_run_has_begun_is_a_keyboard_interrupt(project) -> None:
    folder = project("import time, pathlib; pathlib.Path('importing').touch(); time.sleep(60)")
    process = start_in_background(
        folder,
        "try: run_pipeline_locally(RunRequest(sys.argv[1], 'work'), show)\nexcept KeyboardInterrupt: sys.exit(99)",
    )
    await_file(folder / "importing")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 99
    assert list_runs(folder) == []


def test_nothing_outlives_a_supervisor_that_was_killed(project) -> None:
    folder = project(TWO_TASKS, SLOW_SECOND)
    process = start_in_background(folder, RUN_PROGRAM)
    await_file(folder / "calls-second")
    time.sleep(0.2)
    assert len(processes_in(folder)) >= 2
    process.kill()
    process.communicate(timeout=60)
    assert left_in(folder) == []
    deadline = time.monotonic() + 30
    while (record := list_runs(folder)[0]).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert record.state == "interrupted"
    (folder / "mended").touch()
    assert run(folder, resume=record.run_id)[0].succeeded


def fill(folder: Path, first: str, last: str, **request: Any) -> tuple[Any, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    return backfill(BackfillRequest(str(folder), "work", first, last, **request), records.append), records


KEEP = 'write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))'


def test_a_backfill_makes_every_day_and_the_next_one_none(project) -> None:
    folder = project(KEEP, schedule="0 3 * * 1-5")  # weekdays only: the days of the range count all the same
    summary, records = fill(folder, "2026-11-20", "2026-11-22")
    assert summary.state == "succeeded", [run.errors for run in summary.runs]
    assert [run.partition for run in summary.runs] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert set(summary.reasons.values()) == {"never made"}
    assert len(rows(folder)) == 12
    assert (kinds(records)[0], kinds(records)[-1]) == ("backfill-started", "backfill-finished")
    again, records = fill(folder, "2026-11-20", "2026-11-22")
    assert (again.runs, again.skipped) == ((), ("2026-11-20", "2026-11-21", "2026-11-22"))
    assert again.exit_code == 0
    forced, _ = fill(folder, "2026-11-20", "2026-11-20", force=True)
    assert len(forced.runs) == 1
    assert len(rows(folder)) == 12


def test_a_backfill_says_why_each_day_is_made_again(project) -> None:
    import polars as pl

    folder = project(KEEP, params={"limit": 1})
    fill(folder, "2026-11-20", "2026-11-22")

    def why(**request: Any) -> dict[str, str]:
        return dict(fill(folder, "2026-11-20", "2026-11-22", dry=True, **request)[0].reasons)

    assert why() == {}
    assert set(why(params={"limit": 2}).values()) == {"the param 'limit' was 1 and is 2"}
    pl.DataFrame({"n": [7], "dt": ["2026-11-21"]}).write_delta(str(folder / ".aiflow/lake/raw/numbers"), mode="append")
    assert why() == {"2026-11-21": "input 'numbers' was restated"}
    pl.DataFrame({"n": [7], "dt": ["2026-11-22"]}).write_delta(str(folder / ".aiflow/lake/out/result"), mode="append")
    assert why()["2026-11-22"] == "output 'result' was changed by someone else"
    summary, _ = fill(folder, "2026-11-20", "2026-11-22")
    assert [run.partition for run in summary.runs] == ["2026-11-21", "2026-11-22"]
    assert len(rows(folder)) == 13
    jobs = (folder / "jobs.py").read_text()
    (folder / "jobs.py").write_text(jobs.replace("    return numbers\n", "    return numbers.head(2)\n"))
    assert set(why().values()) == {"the code of 'keep' changed"}
    (folder / "jobs.py").write_text(jobs)
    assert why() == {}
    pipeline = (folder / "pipelines/work.py").read_text()
    (folder / "pipelines/work.py").write_text(pipeline.replace('id="work"', 'id="work", description="new"'))
    assert why() == {}  # no row depends on it
    (folder / "pipelines/work.py").write_text(pipeline.replace('["dt"])', '["dt"], mode="overwrite_partitions")'))
    assert set(why().values()) == {"the definition of the pipeline changed"}


def test_a_run_by_hand_counts_for_the_backfill(project) -> None:
    folder = project(KEEP)
    run(folder)
    assert fill(folder, "2026-11-20", "2026-11-21", dry=True)[0].skipped == ("2026-11-20",)


def test_a_pipeline_that_takes_ranges_is_filled_by_one_run(project) -> None:
    folder = project(KEEP, ranges=True)
    run(folder, date="2026-11-21")
    summary, _ = fill(folder, "2026-11-20", "2026-11-22")
    assert [one.partition for one in summary.runs] == ["2026-11-20", "2026-11-22"]
    forced, _ = fill(folder, "2026-11-20", "2026-11-22", force=True)
    assert forced.succeeded, forced.runs[0].errors
    assert [one.partition for one in forced.runs] == ["2026-11-20..2026-11-22"]
    assert len(rows(folder)) == 12
    assert fill(folder, "2026-11-20", "2026-11-22")[0].runs == ()


def test_one_bad_day_does_not_stop_the_others(project) -> None:
    folder = project(KEEP)
    summary, _ = fill(folder, "2026-11-20", "2026-11-24", params={})
    assert (summary.state, summary.exit_code) == ("failed", 1)
    states = {run.partition: run.state for run in summary.runs}
    assert [day for day, state in states.items() if state == "succeeded"] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert len(states) == 5


def test_ctrl_c_in_a_backfill_and_again_ends_in_the_same_table(project) -> None:
    folder = project(
        KEEP.replace("jobs:keep", "jobs:slowly"),
        "def slowly(numbers: pl.DataFrame) -> pl.DataFrame:\n    time.sleep(0.3)\n    return numbers\n",
        days=11,
    )
    process = start_in_background(
        folder,
        "summary = backfill(BackfillRequest(sys.argv[1], 'work', '2026-11-20', '2026-11-30'), show)\n"
        "sys.exit(summary.exit_code)",
    )
    for _ in range(3):
        await_line(process, "run-finished")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cancelled" in {record.state for record in list_runs(folder)}
    summary, _ = fill(folder, "2026-11-20", "2026-11-30")
    assert summary.succeeded
    assert 3 <= len(summary.skipped) < 11
    assert [(row["n"], row["dt"]) for row in sorted(rows(folder), key=lambda row: (row["dt"], row["n"]))] == [
        (number, f"2026-11-{day}") for day in range(20, 31) for number in range(4)
    ]


def test_a_process_that_dies_in_a_backfill_fails_its_own_day_alone(project) -> None:
    folder = project(
        KEEP.replace("jobs:keep", "jobs:deadly"),
        "def deadly(numbers: pl.DataFrame, context) -> pl.DataFrame:\n"
        "    time.sleep(0.2)\n"
        '    if context.ds == "2026-11-21": os.kill(os.getpid(), signal.SIGKILL)\n'
        "    return numbers\n",
    )
    summary, records = fill(folder, "2026-11-20", "2026-11-22")
    assert {run.partition: run.state for run in summary.runs} == {
        "2026-11-20": "succeeded",
        "2026-11-21": "failed",
        "2026-11-22": "succeeded",
    }
    assert kinds(records).count("backfill-started") == 1
    assert len(rows(folder)) == 8


def test_a_pipeline_without_a_time_partition_takes_no_date(project) -> None:
    folder = project(
        'p.write(p.read(source.onelake("numbers", table="raw.numbers")), sink.onelake("result", table="out.result"))',
        schedule=None,
    )
    with pytest.raises(AiflowError) as caught:
        run(folder)
    assert caught.value.code == "no-time-partition"
    with pytest.raises(AiflowError) as caught:
        fill(folder, "2026-11-20", "2026-11-21")
    assert caught.value.code == "no-time-partition"
    assert run(folder, date=None)[0].succeeded


def test_old_staging_is_swept_when_a_run_starts(project) -> None:
    folder = project(KEEP)
    old = folder / ".aiflow/lake/_staging/0193c0de-0000-7000-8000-000000000000/1/task"
    old.mkdir(parents=True)
    for path in (old, old.parent, old.parent.parent):
        os.utime(path, (0, 0))
    run(folder)
    assert not old.exists()


def test_a_definition_runs_in_this_process_with_functions_that_exist_only_here(project) -> None:
    import polars as pl

    from aiflow_sdk import pipeline, sink, source
    from aiflow_sdk.local import run_definition

    folder = project(KEEP)
    calls: list[int] = []

    def here(numbers: pl.DataFrame, limit: int) -> pl.DataFrame:
        calls.append(os.getpid())
        return numbers.head(limit)

    @pipeline(id="notebook", schedule="@daily", params={"limit": 2})
    def notebook(p: Any) -> None:
        numbers = p.read(source.onelake("numbers", table="raw.numbers", partitions={"dt": "{{ ds }}"}))
        kept = numbers.transform(id="keep", engine="python", fn=here, limit=3)
        p.write(kept, sink.onelake("result", table="out.here", partition_by=["dt"]))

    records: list[dict[str, Any]] = []
    summary = run_definition(notebook, date=DAY, params={"limit": 3}, root=folder, on_record=records.append)
    assert summary.succeeded, summary.errors
    assert calls == [os.getpid()]
    assert len(rows(folder, "out/here")) == 3
    assert kinds(records) == ["run-started", "task-started", "task-finished", "run-finished"]
    assert read_run(folder, summary.run_id)[0].state == "succeeded"


def test_the_end_of_a_run_is_nobody_elses_to_tell_before_it_is_told(project, monkeypatch) -> None:
    from aiflow_sdk import pipeline, sink, source
    from aiflow_sdk.local import run_definition
    from aiflow_sdk.local.journal import Journal

    folder = project(KEEP)
    record_of = Journal.record

    def looked(journal: Journal, live: Any, record: dict[str, Any]) -> None:
        if record["record"] == "run-finished":
            assert json.loads((live.folder.path / "run.json").read_text())["state"] == "succeeded"
            tell_ends(folder)
        record_of(journal, live, record)

    monkeypatch.setattr(Journal, "record", looked)  # the true one, and before it somebody who looks

    @pipeline(id="notebook", schedule="@daily")
    def notebook(p: Any) -> None:
        numbers = p.read(source.onelake("numbers", table="raw.numbers", partitions={"dt": "{{ ds }}"}))
        p.write(numbers, sink.onelake("result", table="out.here", partition_by=["dt"]))

    assert run_definition(notebook, date=DAY, root=folder).succeeded
    (spool,) = folder.glob(".aiflow/runs/*/events.jsonl")
    told = [(event["job"]["name"], event["eventType"]) for event in map(json.loads, spool.read_text().splitlines())]
    assert [kind for name, kind in told if name == "default/notebook"] == ["START", "COMPLETE"]
    assert tell_ends(folder).keys() == {spool.parent.name}


def sparks() -> list[str]:
    """The embedded Spark servers that were told of a session of this process."""
    servers = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_text()
        except OSError:
            continue
        if "engines.spark.server" in command and f"aiflow-{os.getpid()}-" in command:
            servers.append(command)
    return servers


def test_one_spark_serves_all_tasks_outlives_a_killed_process_and_ends_with_the_run(project) -> None:
    folder = project(
        """
        start = numbers(p)
        one = start.transform(id="one", engine="spark", entrypoint="jobs:one", fuse=False)
        two = one.transform(id="two", engine="spark", entrypoint="jobs:two", fuse=False, retries=1)
        write(p, two)
        """,
        """
        def server(spark):
            import glob
            (file,) = glob.glob(os.environ["AIFLOW_SESSION_DIR"] + "/spark.json")
            with open("servers", "a") as seen:
                seen.write(Path(file).read_text() + "\\n")

        def one(numbers, spark):
            server(spark)
            return numbers

        def two(one, spark, context):
            server(spark)
            if context.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return one
        """,
    )
    summary, _ = run(folder)
    assert summary.succeeded, summary.errors
    seen = (folder / "servers").read_text().splitlines()
    assert len(seen) == 3
    assert len(set(seen)) == 1
    deadline = time.monotonic() + 30
    while sparks() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sparks() == []
    assert len(rows(folder)) == 4


def test_a_lambda_runs_here_and_goes_on_after_its_process_was_lost(project) -> None:
    folder = project(
        """
        kept = numbers(p).transform(id="keep", engine="python", fn=lambda numbers: numbers)
        deadly = kept.transform(id="deadly", engine="python", entrypoint="jobs:deadly", fuse=False, retries=1)
        write(p, deadly.transform(id="last", engine="python", fn=lambda deadly: deadly.head(1), fuse=False))
        """,
        """
        def deadly(keep: pl.DataFrame, context) -> pl.DataFrame:
            if context.attempt == 1:
                os._exit(1)
            return keep
        """,
    )
    summary, _ = run(folder)
    assert summary.succeeded, summary.errors
    assert len(rows(folder)) == 1
    assert fill(folder, DAY, DAY, dry=True)[0].reasons == {
        DAY: "never made"
    }  # nobody can tell whether a lambda changed


def test_an_interpreter_that_is_not_there_is_said(project) -> None:
    folder = project(KEEP)
    (folder / "aiflow.toml").write_text('python = "venv/bin/python"\n')
    with pytest.raises(AiflowError, match="venv/bin/python") as caught:
        run(folder)
    assert caught.value.code == "broken-interpreter"


def test_a_run_that_is_being_done_is_not_done_twice(project) -> None:
    folder = project(TWO_TASKS, SLOW_SECOND)
    process = start_in_background(folder, RUN_PROGRAM)
    await_file(folder / "calls-second")
    with pytest.raises(AiflowError) as caught:
        run(folder, resume=list_runs(folder)[0].run_id)
    assert caught.value.code == "run-in-progress"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


KEEP = 'write(p, numbers(p).transform(id="keep", engine="python", entrypoint="jobs:keep"))'


def test_a_run_without_any_memory_writes_over_what_earlier_runs_wrote(project) -> None:
    folder = project(KEEP)
    for _ in range(3):
        run(folder)
    for name in ("lake/_generations", "lake/_ledger", "runs"):
        shutil.rmtree(folder / ".aiflow" / name)
    (folder / "jobs.py").write_text(
        "import polars as pl\ndef keep(numbers: pl.DataFrame) -> pl.DataFrame:\n"
        "    return numbers.with_columns(n=pl.col('n') * 100)\n"
    )
    summary, records = run(folder)
    assert summary.superseded == ()
    assert summary.generation > 3
    assert [row["n"] for row in rows(folder)] == [0, 100, 200, 300]
    assert records[-1]["superseded"] == []


def test_a_run_that_a_newer_one_overtook_says_that_it_changed_nothing(project) -> None:
    folder = project(TWO_TASKS, SLOW_SECOND.replace("time.sleep(60)", "raise ValueError('not yet')"))
    failed, _ = run(folder)
    (folder / "mended").touch()
    newer, _ = run(folder)
    older, records = run(folder, resume=failed.run_id)
    assert (newer.superseded, older.superseded) == ((), ("result",))
    assert older.to_dict()["superseded"] == ["result"]
    assert records[-1]["superseded"] == ["result"]
    command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(folder), "run", "work", "--date", DAY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "done in" in done.stdout
    assert "superseded" not in done.stdout


def test_a_task_of_a_cluster_that_is_elsewhere_does_not_run_here(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from aiflow_sdk.errors import RunError
    from aiflow_sdk.local.preparation import check_clusters

    task = SimpleNamespace(cluster="emr-prod")
    environment = SimpleNamespace(name="prod", clusters={})
    plan: Any = SimpleNamespace(environment=environment, task=lambda task_id: task)
    check_clusters(plan, ["a"])
    environment.clusters = {"emr-prod": {"kind": "local"}}
    check_clusters(plan, ["a"])
    environment.clusters = {"emr-prod": {"kind": "emr"}}
    with pytest.raises(RunError, match="'emr-prod', which is 'emr' in the environment 'prod'") as caught:
        check_clusters(plan, ["a"])
    assert caught.value.code == "cluster-not-local"


def test_a_new_owner_makes_no_partition_again_and_a_new_option_does(project) -> None:
    folder = project(KEEP)
    fill(folder, DAY, DAY)
    path = folder / "pipelines/work.py"
    code = path.read_text()
    path.write_text(
        code.replace('@pipeline(id="work",', '@pipeline(id="work", owner="ana", tags=["x"], sla_minutes=9,')
    )
    summary, _ = fill(folder, DAY, DAY, dry=True)
    assert summary.reasons == {}
    path.write_text(code.replace('partition_by=["dt"]', 'partition_by=["dt"], mode="overwrite_partitions"'))
    summary, _ = fill(folder, DAY, DAY, dry=True)
    assert summary.reasons == {DAY: "the definition of the pipeline changed"}


HOSTILE = {
    "closed descriptors": "    import os\n    os.closerange(3, 256)\n",
    "an exception that cannot be shown": (
        "    class Mute(Exception):\n        def __str__(self):\n            raise SystemExit(3)\n    raise Mute()\n"
    ),
    "a file name that is no UTF-8": "    raise FileNotFoundError('no file caf\\udce9.csv')\n",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_user_code_makes_a_run_wait_for_ever(tmp_path, body):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "numbers.csv").write_text("n\n1\n")
    (tmp_path / "pipelines" / "p.py").write_text(
        "from aiflow_sdk import pipeline, sink, source\n\n"
        f"def main(numbers):\n{body}\n"
        "@pipeline(id='p', schedule=None, owner='o')\n"
        "def p(p):\n"
        "    numbers = p.read(source.files(id='numbers', path='numbers.csv'))\n"
        "    p.write(numbers.transform(id='main', fn='pipelines.p:main'), sink.onelake(id='out', table='a.b'))\n"
    )
    command = [sys.executable, "-m", "aiflow_sdk.cli", "run", "p"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"this is a fault of aiflow" not in done.stdout + done.stderr
