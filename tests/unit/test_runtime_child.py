"""One task in a process that another one watches: its order, its records, its lifeline; and what tasks agree on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from aiflow_sdk.channel import RecordReader
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import compile_project
from aiflow_sdk.plan import Run, make_run, read_plan
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.runtime import join_execution

PIPELINE = """
from aiflow_sdk import pipeline, resources, sink, source

@pipeline(id="orders_daily", schedule="0 3 * * *")
def orders_daily(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    first = orders.transform(id="first", engine="python", fn="etl:first", fuse=False)
    second = first.transform(id="second", engine="python", fn="etl:second", fuse=False)
    p.write(second, sink.onelake(id="out", table="mart.orders", partition_by=["dt"]))
"""
CODE = """
import logging, os, sys, time
import polars as pl

def first(orders: pl.DataFrame) -> pl.DataFrame:
    print("printed", os.environ.get("AIFLOW_SECRET_KEY", ""), flush=True)
    logging.getLogger("shop").warning("logged")
    return orders.drop("dt").with_columns(made=pl.lit(os.environ.get("MADE", "0")))

def second(first: pl.DataFrame) -> pl.DataFrame:
    if os.environ.get("SLEEP"):
        print("sleeping", os.getpid(), flush=True)
        if not os.fork():
            time.sleep(600)
        time.sleep(600)
    if os.environ.get("EXIT"):
        sys.exit(3)
    if os.environ.get("CRASH"):
        os._exit(9)
    return first
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("")
    (tmp_path / "pipelines" / "orders.py").write_text(PIPELINE)
    (tmp_path / "etl.py").write_text(CODE)
    (tmp_path / "aiflow.toml").write_text('project = "shop"\n')
    orders = pl.DataFrame({"id": [1, 2, 3], "dt": ["2026-11-20", "2026-11-20", "2026-11-21"]})
    (tmp_path / ".aiflow/lake/raw/orders").mkdir(parents=True)
    orders.write_delta(tmp_path / ".aiflow/lake/raw/orders", delta_write_options={"partition_by": ["dt"]})
    return load_project(tmp_path)


@pytest.fixture
def plan_file(project) -> Path:
    (compiled,) = compile_project(project, project.environment(), installed_registry()).pipelines
    return compiled.path


class Child:
    def __init__(self, project, plan_file: Path, task: str, run: Run, *, told: bytes = b"", **options) -> None:
        reading, writing = os.pipe()
        variables = {**os.environ, **options.pop("variables", {})}
        order = {
            "plan": str(plan_file),
            "task": task,
            "run": run.to_json(),
            "project": str(project.root),
            "folder": str(project.root),
            **options,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aiflow_sdk.runtime.child", str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            env=variables,
            start_new_session=True,
        )
        os.close(writing)
        self.reader = RecordReader(reading)
        os.set_blocking(reading, True)
        self.process.stdin.write(told)
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str, list[dict]]:
        output = self.process.stdout.read().decode()
        lines, _ = self.reader.lines()
        code = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        os.close(self.reader.handle)
        return code, output, [json.loads(line) for line in lines]


def run_of(plan_file: Path, **options) -> Run:
    return make_run(read_plan(plan_file.read_bytes()), partition="2026-11-20", **options)


def rows_of(project) -> list[dict]:
    return DeltaTable(project.root / ".aiflow/lake/mart/orders").to_pyarrow_table().to_pylist()


def test_a_child_says_what_it_does_and_gives_its_result(project, plan_file):
    run = run_of(plan_file)
    code, output, records = Child(project, plan_file, "first", run).end()
    assert (code, output) == (0, "printed \n")
    kinds = [record["record"] for record in records]
    assert kinds[0] == "task-began"
    assert kinds[-1] == "result"
    assert {"node-started", "node-finished"} <= set(kinds)
    (logged,) = [record for record in records if record["record"] == "log"]
    assert (logged["level"], logged["logger"], logged["message"]) == ("warning", "shop", "logged")
    code, _, records = Child(project, plan_file, "second", run).end()
    assert code == 0
    facts = {node["node_id"]: node for node in records[-1]["result"]["nodes"]}
    assert (facts["out"]["rows"], facts["out"]["table_version"]) == (2, 0)
    assert len(rows_of(project)) == 2


def test_an_error_is_told_with_the_users_traceback_and_place(project, plan_file):
    run = run_of(plan_file)
    Child(project, plan_file, "first", run).end()
    code, _, records = Child(project, plan_file, "second", run, variables={"EXIT": "1"}).end()
    error = records[-1]["error"]
    assert code == 1
    assert error["code"] == "user-code-failed"
    assert "SystemExit" in error["message"]
    assert any("sys.exit(3)" in note for note in error["notes"])
    assert error["where"]["path"] == "etl.py"


def test_an_error_of_the_definition_is_placed_where_it_was_written(project, plan_file):
    run = Run.model_validate({**dict(run_of(plan_file)), "partition_key": "2026-11-25"})
    places = {"orders": ["pipelines/orders.py", 6]}
    _, _, records = Child(project, plan_file, "first", run, places=places).end()
    error = records[-1]["error"]
    assert error["code"] == "input-absent"
    assert (error["where"]["path"], error["where"]["line"]) == ("pipelines/orders.py", 6)


def test_a_child_that_dies_says_no_word(project, plan_file):
    run = run_of(plan_file)
    Child(project, plan_file, "first", run).end()
    code, _, records = Child(project, plan_file, "second", run, variables={"CRASH": "1"}).end()
    assert code == 9
    assert all(record["record"] not in ("result", "error") for record in records)


def test_with_the_lifeline_ends_whatever_the_task_started(project, plan_file):
    run = run_of(plan_file)
    Child(project, plan_file, "first", run).end()
    child = Child(project, plan_file, "second", run, variables={"SLEEP": "1"})
    assert child.process.stdout.readline().startswith(b"sleeping")
    child.process.stdin.close()
    assert child.process.wait(60) == -signal.SIGKILL
    assert child.process.stdout.read() == b""  # the one that it forked held the pipe too
    child.process.stdout.close()
    os.close(child.reader.handle)


def test_secrets_that_were_handed_over_are_found_and_hidden(project, plan_file, tmp_path):
    (tmp_path / "aiflow.toml").write_text(
        'project = "shop"\n[environments.dev.secrets]\nprovider = "airflow"\n', encoding="utf-8"
    )
    text = (tmp_path / "pipelines" / "orders.py").read_text()
    (tmp_path / "pipelines" / "orders.py").write_text(
        text.replace('fn="etl:first"', 'fn="etl:told", password="secret://warehouse/password"')
    )
    (tmp_path / "etl.py").write_text(
        CODE
        + "\ndef told(orders: pl.DataFrame, password):\n    print(f'is {password}')\n    return orders.drop('dt')\n"
    )
    project = load_project(tmp_path)
    report = compile_project(project, project.environment(), installed_registry())
    assert not report.problems
    run = run_of(plan_file)
    code, output, records = Child(project, plan_file, "first", run, secrets={"warehouse/password": "hunter22"}).end()
    assert (code, output) == (0, "is ***\n")
    assert {"record": "secret", "value": "hunter22"} in records
    _, _, records = Child(project, plan_file, "first", run).end()
    assert records[-1]["error"]["code"] == "unknown-secret"
    assert "Airflow" in "".join(records[-1]["error"]["notes"])


def test_all_tasks_and_attempts_of_an_execution_share_one_generation(project, plan_file):
    plan, run = read_plan(plan_file.read_bytes()), run_of(plan_file)
    found: list[int] = []

    def join(attempt: int) -> None:
        tried = Run.model_validate({**dict(run), "attempt": attempt})
        found.append(join_execution(plan, "first", tried, project.root).run.generation)

    threads = [threading.Thread(target=join, args=(1 + number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    again = Run.model_validate({**dict(run), "execution": 2})
    assert join_execution(plan, "first", again, project.root).run.generation > found[0]
    assert join_execution(plan, "first", run, project.root).run.generation == found[0]


def test_a_task_that_died_after_it_had_claimed_is_still_the_first(project, plan_file):
    plan, run = read_plan(plan_file.read_bytes()), run_of(plan_file)
    tried = Run.model_validate({**dict(run), "attempt": 2})
    joined = [
        join_execution(plan, task, one, project.root).is_first
        for task, one in (("first", run), ("second", run), ("second", tried), ("first", tried))
    ]
    assert joined == [True, False, False, True]


def test_a_part_that_is_cleared_reads_what_the_tasks_before_it_staged(project, plan_file):
    run = run_of(plan_file)
    Child(project, plan_file, "first", run, variables={"MADE": "1"}).end()
    Child(project, plan_file, "second", run).end()
    again = Run.model_validate({**dict(run), "execution": 2})
    code, _, records = Child(project, plan_file, "second", again).end()
    assert (code, records[-1]["record"]) == (0, "result")
    assert [row["made"] for row in rows_of(project)] == ["1", "1"]
    third = Run.model_validate({**dict(run), "execution": 3})
    Child(project, plan_file, "first", third, variables={"MADE": "3"}).end()
    Child(project, plan_file, "second", third).end()
    assert [row["made"] for row in rows_of(project)] == ["3", "3"]


def test_it_is_told_whether_a_sink_has_made_the_partition_before(project, plan_file):
    def told(run: Run, *tasks: str) -> list[list[str]]:
        return [Child(project, plan_file, task, run).end()[2][0]["again"] for task in tasks]

    first = run_of(plan_file)
    assert told(first, "first") == [[]]  # what did not get to its sink has made nothing
    cleared = Run.model_validate({**dict(first), "execution": 2})
    assert told(cleared, "first", "second", "second") == [[], [], []]
    assert told(run_of(plan_file), "first", "second") == [["out"], ["out"]]


def test_standard_input_is_not_the_users(project, plan_file, tmp_path):
    (tmp_path / "etl.py").write_text(CODE.replace('print("printed"', 'print(repr(sys.stdin.read()), "printed"'))
    began = time.monotonic()
    _, output, _ = Child(project, plan_file, "first", run_of(plan_file)).end()
    assert output.startswith("'' printed")
    assert time.monotonic() - began < 60


# Before its order it may be told which task it will be.


def told_of(plan_file: Path, task: str) -> bytes:
    return json.dumps({"plan": str(plan_file), "task": task}).encode() + b"\n"


def test_a_process_that_waits_for_its_order_loads_what_the_task_needs(project, plan_file):
    reading, writing = os.pipe()
    waiting = subprocess.Popen(
        [sys.executable, "-P", "-m", "aiflow_sdk.runtime.child", str(writing)],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
    )
    os.close(writing)
    maps = Path(f"/proc/{waiting.pid}/maps")
    waiting.stdin.write(told_of(plan_file, "first"))
    waiting.stdin.flush()
    deadline = time.monotonic() + 60
    while not ("polars" in (text := maps.read_text()) and "deltalake" in text):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "sail" not in text  # another engine's
    waiting.stdin.close()
    assert waiting.wait(60) == 0
    os.close(reading)


def test_what_it_is_told_before_its_order_changes_nothing(project, plan_file, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    plan = json.loads(plan_file.read_text())
    plan["tasks"][0]["engine_plugin"] = "this:attribute"  # its module prints a poem, and has no such attribute
    (tmp_path / "odd.json").write_text(json.dumps(plan))
    tellings = [
        told_of(plan_file, "first"),
        told_of(plan_file, "first") * 2,
        told_of(plan_file, "second"),
        told_of(plan_file, "nowhere"),
        told_of(tmp_path / "absent.json", "first"),
        told_of(tmp_path / "broken.json", "first"),
        told_of(tmp_path / "odd.json", "first"),
    ]
    run = run_of(plan_file)
    for told in tellings:
        code, output, records = Child(project, plan_file, "first", run, told=told).end()
        assert (code, records[-1]["record"]) == (0, "result")
        assert output.endswith("printed \n")


def test_a_plugin_of_the_project_itself_is_loaded_with_its_order(project, plan_file):
    plan = json.loads(plan_file.read_text())
    source = next(node for node in plan["nodes"] if node["type"] == "source")
    (project.root / "own.py").write_text(
        "from aiflow_sdk.connectors.onelake import OneLakeSource\n"
        "class Own(OneLakeSource, kind='onelake'):\n    drivers = ('nowhere_at_all',)\n"
    )
    source["plugin"] = "own:Own"
    plan_file.write_text(json.dumps(plan))
    run = run_of(plan_file)
    code, _, records = Child(project, plan_file, "first", run, told=told_of(plan_file, "first")).end()
    assert (code, records[-1]["record"]) == (0, "result")
