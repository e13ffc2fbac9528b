"""A run on Airflow tells what a local run of the same pipeline tells: the same events, datasets and facets."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.environments import child_environment
from aiflow_airflow.operator import AiflowOperator
from aiflow_airflow.run import run_of
from aiflow_airflow.supply import Ready
from aiflow_airflow.telling import Telling
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiflow_sdk.errors import RunError, Where
from aiflow_sdk.plan import Plan, Run, TaskResult, read_plan
from aiflow_sdk.redaction import Redactor

PYTHON = Path(__file__).parents[2] / ".venv" / "bin" / "python"
LISTENER = '''
import json, os, time
from aiflow_sdk.plugins import Listener


class Recorder(Listener, kind="recorder"):
    """Appends events to a file."""

    path: str
    url: str = ""

    def model_post_init(self, context):
        if os.path.exists(self.path + ".hangs"):
            open(self.path + ".hangs", "w").write("made")
            time.sleep(600)

    def on_event(self, event):
        if os.path.exists(self.path + ".down"):
            print("asking", self.url)
            raise ConnectionError(f"nobody is there: {self.url}")
        with open(self.path, "a") as file:
            file.write(json.dumps(event) + "\\n")
'''
PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="orders_daily", schedule="0 3 * * *", owner="shop", tags=["x"])
def orders_daily(p):
    orders = p.read(source.files(id="orders", path="orders.csv"))
    first = orders.transform(id="first", engine="python", fn="etl:first", fuse=False)
    p.write(first.transform(id="second", engine="python", fn="etl:second", fuse=False),
            sink.onelake(id="out", table="mart.orders", partition_by=["dt"]))
    p.write(first.sql("select count(*) as n from {first}", id="counts"), sink.onelake(id="n", table="mart.n"))
"""
CODE = """
import os, time
import polars as pl

def first(orders: pl.DataFrame, context) -> pl.DataFrame:
    context.count("seen", len(orders))
    return orders

def second(first: pl.DataFrame, context) -> pl.DataFrame:
    if os.path.exists("WAIT"):
        time.sleep(600)
    if os.path.exists("FAIL"):
        raise ValueError("no luck")
    if os.path.exists("CRASH"):
        os._exit(9)
    return first.with_columns(dt=pl.lit(context.ds))
"""
DAY = "2026-11-20"


class Worker:
    """Does the tasks of a project as Airflow's worker does, each in an operator of its own."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home
        site = root.parent / "site"
        self.environment = {**child_environment(), "PYTHONPATH": str(site)}
        self.compile()
        self.states: dict[str, str] = {}
        self.objects: Path | None = None

    def compile(self) -> None:
        command = [str(PYTHON), "-m", "aiflow_sdk.cli", "compile"]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (self.plan_path,) = self.root.glob(".aiflow/compiled/**/plan.json")
        self.plan: Plan = read_plan(self.plan_path.read_bytes())

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        yield Ready(
            PYTHON, self.root, self.root, self.environment, self.plan_path, {"second": Where("pipelines/orders.py", 8)}
        )

    def context(self, *, attempt: int = 1, tries: int = 0, execution: int = 1) -> Any:
        # A task's context is made by Airflow's supervisor alone; the live tests have real ones.
        dag_run = SimpleNamespace(
            dag_id="orders_daily",
            run_id="scheduled__x",
            run_after=datetime(2026, 11, 21, 3, tzinfo=UTC),
            run_type="scheduled",
            clear_number=execution - 1,
            conf=None,
            partition_key=DAY,
            consumed_asset_events=[],
        )

        def states(dag_id: str, run_ids: list[str]) -> dict[str, Any]:
            return {"scheduled__x": self.states}

        event = lambda: SimpleNamespace(extra=None, add_partitions=lambda keys: None)  # noqa: E731 one line says it
        return {
            "dag_run": dag_run,
            "ti": SimpleNamespace(try_number=attempt, max_tries=tries, get_task_states=states),
            "params": {},
            "outlet_events": defaultdict(event),
        }

    def operator(self, task_id: str) -> AiflowOperator:
        return AiflowOperator(task_id=task_id, plan=self.plan, plan_task=self.plan.task(task_id), supply=self)

    def do(self, task_id: str, **options: Any) -> None:
        self.operator(task_id).execute(self.context(**options))
        self.states[task_id] = "success"

    def spool(self) -> Path:
        (spool,) = self.home.glob("events/dev/default/*/events.jsonl")
        return spool

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.spool().read_text().splitlines()]

    def heard(self) -> list[dict[str, Any]]:
        path = self.root / "heard.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    information = tmp_path / "site" / "recorder_plugin-1.0.dist-info"
    information.mkdir(parents=True)
    (tmp_path / "site" / "recorder_plugin.py").write_text(LISTENER)
    (information / "METADATA").write_text("Name: recorder-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[aiflow.listeners]\nrecorder = recorder_plugin:Recorder\n")
    root = tmp_path / "project"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "__init__.py").touch()
    (root / "pipelines" / "orders.py").write_text(PIPELINE)
    (root / "etl.py").write_text(CODE)
    (root / "orders.csv").write_text("id\n1\n2\n")
    heard = root / "heard.jsonl"
    (root / "aiflow.toml").write_text(
        f'[environments.dev.listeners.mine]\nkind = "recorder"\npath = {json.dumps(str(heard))}\n'
    )
    home = tmp_path / "home"
    monkeypatch.setenv("AIFLOW_HOME", str(home))
    return Worker(root, home)


def run_locally(worker: Worker) -> list[dict[str, Any]]:
    """Return the events that ``aiflow run`` of the same pipeline spools; what it has written is away again."""
    command = [str(PYTHON), "-m", "aiflow_sdk.cli", "run", "orders_daily", "--date", DAY]
    subprocess.run(command, cwd=worker.root, env=worker.environment, capture_output=True, check=False)
    (spool,) = worker.root.glob(".aiflow/runs/*/events.jsonl")
    events = [json.loads(line) for line in spool.read_text().splitlines()]
    (worker.root / "heard.jsonl").unlink(missing_ok=True)
    (worker.root / ".aiflow" / "lake").rename(worker.root.parent / "lake-of-the-local-run")
    return events


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def a_run(worker: Worker) -> Run:
    return run_of(worker.plan, worker.context()["dag_run"], try_number=1, params={})


OWN = {"run_id", "trace_id", "generation", "cause", "seconds", "aiflow_usage"}
"""What belongs to one run alone."""


def story(events: list[dict[str, Any]]) -> list[Any]:
    """Return what the events say without what belongs to the one run, each kind and job once, sorted."""
    names = {event["run"]["runId"]: event["job"]["name"] for event in events}

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {name: plain(one) for name, one in value.items() if name not in OWN}
            case list():
                return [plain(one) for one in value]
            case str():
                return names.get(value, value)
        return value

    found = [plain({name: one for name, one in event.items() if name != "eventTime"}) for event in events]
    return sorted(found, key=lambda event: (event["job"]["name"], event["eventType"]))


def test_a_run_tells_what_a_local_run_tells(worker: Worker):
    locally = run_locally(worker)
    for task in worker.plan.tasks:
        worker.do(task.id)
    assert story(worker.told()) == story(locally)
    assert [event["eventType"] for event in locally][-1] == "COMPLETE"
    # The user's environment has read the query: there is nothing here that could.
    assert importlib.util.find_spec("sqlglot") is None
    outputs = {one["name"]: one["facets"] for one in worker.told()[-1]["outputs"]}
    counted = {name: one for name, one in outputs["mart.n"]["aiflow_columns"].items() if not name.startswith("_")}
    assert counted == {"constant": ["n"], "rows_through": ["first"]}
    assert worker.told()[0]["job"]["name"] == "default/orders_daily"
    assert worker.told()[-1]["job"]["name"] == "default/orders_daily"
    assert len(worker.told()) == 2 + 2 * len(worker.plan.tasks)
    parents = {event["run"]["facets"].get("parent", {}).get("run", {}).get("runId") for event in worker.told()}
    assert parents == {None, worker.told()[0]["run"]["runId"]}
    assert worker.heard() == worker.told()


def test_a_task_that_fails_tells_what_a_local_one_does(worker: Worker):
    (worker.root / "FAIL").touch()
    locally = run_locally(worker)
    for task in worker.plan.tasks:
        if task.id != "second":
            worker.do(task.id)
    with pytest.raises(AirflowException):
        worker.do("second")
    told = worker.told()
    assert story(told) == story(locally)
    failed = [event for event in told if event["eventType"] == "FAIL"]
    assert [event["job"]["name"] for event in failed] == ["default/orders_daily/second", "default/orders_daily"]
    assert "no luck" in failed[0]["run"]["facets"]["errorMessage"]["message"]


def test_an_attempt_that_is_tried_again_ends_no_run(worker: Worker):
    (worker.root / "CRASH").touch()
    worker.do("first")
    with pytest.raises(AirflowException):
        worker.do("second", tries=1)
    (worker.root / "CRASH").unlink()
    worker.do("second", attempt=2, tries=1)
    worker.do("counts")
    kinds = [(event["eventType"], event["job"]["name"].rpartition("/")[2]) for event in worker.told()]
    assert kinds[3:] == [
        ("START", "second"),
        ("FAIL", "second"),
        ("START", "second"),
        ("COMPLETE", "second"),
        ("START", "counts"),
        ("COMPLETE", "counts"),
        ("COMPLETE", "orders_daily"),
    ]
    died = worker.told()[4]["run"]["facets"]["aiflow_error"]
    assert died["code"] == "worker-died"


def test_a_part_that_is_cleared_is_the_same_run_and_completes_it(worker: Worker):
    for task in worker.plan.tasks:
        worker.do(task.id)
    before = len(worker.told())
    worker.states["counts"] = "queued"
    worker.do("second", execution=2)
    assert [event["eventType"] for event in worker.told()[before:]] == ["START", "START", "COMPLETE"]
    worker.do("counts", execution=2)
    last = worker.told()[-1]
    assert (last["eventType"], last["job"]["name"]) == ("COMPLETE", "default/orders_daily")
    assert last["run"]["facets"]["aiflow_run"]["execution"] == 2
    assert last["run"]["runId"] == worker.told()[0]["run"]["runId"]
    assert {one["name"] for one in last["outputs"] if one["outputFacets"]["outputStatistics"]} == {
        "mart.orders",
        "mart.n",
    }


def test_a_task_that_is_tried_again_after_another_told_of_the_run_does_not_tell_once_more(worker: Worker):
    for task in worker.plan.tasks:
        worker.do(task.id)
    before = len(worker.told())
    # What the first attempt said in the end was lost, and its end was noted.
    *_, other, teller = [task.id for task in worker.plan.tasks]
    worker.do(other, attempt=2, tries=1)
    assert [event["eventType"] for event in worker.told()[before:]] == ["START", "COMPLETE"]
    assert [event["job"]["name"] for event in worker.told()[before:]] == [f"default/orders_daily/{other}"] * 2
    # Whoever told may have died before it did.
    worker.do(teller, attempt=2, tries=1)
    assert worker.told()[-1]["job"]["name"] == "default/orders_daily"


def test_of_two_cleared_tasks_that_end_at_once_one_tells_of_the_run(worker: Worker):
    for task in worker.plan.tasks:
        worker.do(task.id)
    before = len(worker.told())
    run = run_of(worker.plan, worker.context(execution=2)["dag_run"], try_number=2, params={})
    result = {name: {"task_id": name, "seconds": 1.0, "nodes": []} for name in worker.states}
    tellings = {}
    worker.states.update(second="running", counts="running")
    for name in ("second", "counts"):
        tellings[name] = Telling(worker.plan, worker.plan.task(name), run, states=lambda: worker.states)
        tellings[name].hear({"record": "task-began", "generation": 3, "again": [], "is_first": name == "second"})
    # The second looks before the counts have ended, and is told that they have by Airflow alone.
    for name, now in (("second", ["second"]), ("counts", ["second", "counts"])):
        tellings[name].hear({"record": "others-ended", "now": now, "tells": True, "results": result, "columns": {}})
    worker.states.update(second="success", counts="success")
    for name, telling in tellings.items():
        telling.succeeded(TaskResult.from_dict(result[name]))
    ended = [
        event["job"]["name"].rpartition("/")[2] for event in worker.told()[before:] if event["eventType"] != "START"
    ]
    assert ended == ["second", "counts", "orders_daily"]


def test_an_attempt_after_one_that_died_unheard_tells_that_the_run_began(worker: Worker):
    began = {"record": "task-began", "generation": 3, "again": [], "engine_version": "1", "is_first": True}
    for attempt in (2, 3):
        run = run_of(worker.plan, worker.context()["dag_run"], try_number=attempt, params={})
        telling = Telling(worker.plan, worker.plan.tasks[0], run, is_final=False)
        telling.hear(began)
        telling.failed(RunError("worker-died", "it died"), again=True)
    told = [(event["eventType"], event["job"]["name"].rpartition("/")[2]) for event in worker.told()]
    assert [one for one in told if one[1] == "orders_daily"] == [("START", "orders_daily")]


def test_a_run_that_ends_by_a_skip_has_an_end(worker: Worker):
    telling = Telling(worker.plan, worker.plan.tasks[0], a_run(worker))
    telling.hear({"record": "task-began", "generation": 3, "again": [], "engine_version": "1", "is_first": True})
    telling.left()
    told = [(event["eventType"], event["job"]["name"]) for event in worker.told()]
    task = f"default/orders_daily/{worker.plan.tasks[0].id}"
    run = "default/orders_daily"
    assert told == [("START", run), ("START", task), ("ABORT", task), ("ABORT", run)]


def test_a_child_that_is_killed_has_failed(worker: Worker):
    worker.do("first")
    (worker.root / "WAIT").touch()
    operator = worker.operator("second")

    def kill() -> None:
        try:
            wait_until(lambda: len(worker.told()) >= 4 and operator._process is not None)
        finally:  # else the operator would wait for it
            assert operator._process
            os.killpg(operator._process._process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(AirflowException):
        operator.execute(worker.context())
    thread.join()
    task, run = worker.told()[-2:]
    assert (task["eventType"], run["eventType"]) == ("FAIL", "FAIL")
    assert task["run"]["runId"] == worker.told()[3]["run"]["runId"]
    assert "SIGKILL" in task["run"]["facets"]["errorMessage"]["message"]


WORKER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_events import Worker
Worker(Path({root!r}), Path({home!r})).do("second", tries=3)
"""


def test_of_a_worker_that_is_killed_the_next_task_tells(worker: Worker):
    worker.do("first")
    (worker.root / "WAIT").touch()
    path = [str(Path(__file__).parent)]
    program = WORKER.format(path=path, root=str(worker.root), home=str(worker.home))
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    wait_until(lambda: len(worker.told()) >= 4 or process.poll() is not None)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert len(worker.told()) == 4
    (worker.root / "WAIT").unlink()
    worker.do("counts")
    (failed,) = [event for event in worker.told() if event["eventType"] == "FAIL"]
    assert failed["run"]["runId"] == worker.told()[3]["run"]["runId"]
    assert failed["run"]["facets"]["aiflow_error"]["code"] == "worker-died"
    assert worker.heard() == worker.told()
    worker.do("second", attempt=2)
    assert len([event for event in worker.told() if event["eventType"] == "FAIL"]) == 1


def test_a_service_that_is_away_loses_nothing_and_fails_nothing(worker: Worker):
    down = worker.root / "heard.jsonl.down"
    down.touch()
    worker.do("first")
    assert (len(worker.told()), worker.heard()) == (3, [])
    down.unlink()
    worker.do("counts")
    assert worker.heard() == worker.told()
    assert len(worker.told()) == 5


def test_a_listener_s_secret_is_in_no_log(worker: Worker, caplog: pytest.LogCaptureFixture):
    with (worker.root / "aiflow.toml").open("a") as file:
        file.write('url = "secret://hook"\n')
    worker.compile()
    worker.environment["AIFLOW_SECRET_HOOK"] = "https://hook/letmein"
    (worker.root / "heard.jsonl.down").touch()
    worker.do("first")
    assert "asking ***" in caplog.text
    assert "nobody is there: ***" in caplog.text
    assert "letmein" not in caplog.text


def test_what_airflow_itself_looked_up_is_hidden_whatever_is_said(
    worker: Worker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # The process's own would hide the word from every later test.
    monkeypatch.setattr("aiflow_airflow.telling.REDACTOR", (redactor := Redactor()))
    redactor.add("letmein")
    chatter = worker.root / "chatter"
    chatter.write_text("#!/bin/sh\ncat >/dev/null\necho it is letmein\n")
    chatter.chmod(0o755)
    telling = Telling(worker.plan, worker.plan.tasks[0], a_run(worker))
    with worker.ready() as ready:
        telling.prepared(ready._replace(python=chatter))
    telling.forward()
    assert "it is ***" in caplog.text


def test_a_listener_that_hangs_while_it_is_made_holds_nobody_up_for_good(worker: Worker):
    hangs = worker.root / "heard.jsonl.hangs"
    folder = worker.home / "events" / "dev" / "default"
    folder.mkdir(parents=True)
    hangs.touch()
    order = {"events": str(folder), "plan": str(worker.plan_path), "project": str(worker.root)}
    for seconds in (2, 10, 50):  # a busy machine comes so far as to make the listener later
        done = subprocess.run(
            [
                str(PYTHON),
                "-c",
                f"from aiflow_sdk.runtime import forward; forward.HUNG_SECONDS = {seconds}; forward.main()",
            ],
            input=json.dumps(order).encode() + b"\n",
            cwd=worker.root,
            env=worker.environment,
            timeout=seconds + 90,
            check=False,
        )
        assert done.returncode == 1
        if hangs.read_text():
            break
    assert hangs.read_text() == "made"
    hangs.unlink()
    worker.do("first")
    assert worker.heard() == worker.told()


def test_a_full_disk_fails_no_task(worker: Worker):
    worker.home.mkdir()
    (worker.home / "events").write_text("no folder")
    worker.do("first")
    assert worker.states == {"first": "success"}


def test_what_could_not_be_prepared_is_told_too(worker: Worker):
    operator = AiflowOperator(task_id="first", plan=worker.plan, plan_task=worker.plan.task("first"))
    with pytest.raises(AirflowFailException):
        operator.execute(worker.context())
    told = [(event["eventType"], event["job"]["name"].rpartition("/")[2]) for event in worker.told()]
    assert told == [("START", "orders_daily"), ("START", "first"), ("FAIL", "first"), ("FAIL", "orders_daily")]


def test_a_later_task_that_dies_unheard_does_not_begin_the_run_again(worker: Worker):
    telling = Telling(worker.plan, worker.plan.task("second"), a_run(worker))
    telling.failed(RunError("worker-died", "it died"), again=True)
    assert [event["eventType"] for event in worker.told()] == ["START", "FAIL", "FAIL"]


def test_an_attempt_that_waits_begins_once(worker: Worker):
    run = a_run(worker)
    began = {"record": "task-began", "generation": 3, "again": [], "engine_version": "1", "is_first": True}
    for resumed in (False, True):
        telling = Telling(worker.plan, worker.plan.tasks[0], run, resumed=resumed)
        telling.hear(began)
        telling.put_off()
    assert [event["eventType"] for event in worker.told()] == ["START", "START"]
    assert not list(worker.spool().parent.glob("*.open"))
