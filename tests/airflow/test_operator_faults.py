"""A kill that comes while a task is made what it runs with breaks that off; one that comes later changes nothing."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.operator import AiflowOperator, TaskFailed
from aiflow_airflow.supply import Ready

from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import compile_project
from aiflow_sdk.plan import Plan, make_run, read_plan
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline

@pipeline(id="asks")
def asks(p):
    p.transform(id="work", engine="python", fn="etl:work", external=True)
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").touch()
    (tmp_path / "pipelines" / "asks.py").write_text(PIPELINE)
    (tmp_path / "etl.py").write_text("def work(): ...\n")
    (tmp_path / "aiflow.toml").touch()
    project = load_project(tmp_path)
    (compiled,) = compile_project(project, project.environment(), installed_registry()).pipelines
    return read_plan(compiled.path.read_bytes())


class SlowSupply:
    """Takes a minute to make what the task runs with."""

    objects = None

    def __init__(self) -> None:
        self.was_broken_off = False

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        try:
            time.sleep(60)
        except BaseException:  # whatever it is broken off by is what the test is about; it goes on up
            self.was_broken_off = True
            raise
        raise AssertionError("nobody broke it off")
        yield


def test_a_kill_breaks_off_the_making_of_the_environment(plan: Plan):
    supply = SlowSupply()
    operator = AiflowOperator(task_id="work", plan=plan, plan_task=plan.tasks[0], supply=supply)
    before = signal.signal(signal.SIGALRM, lambda *_: operator.on_kill())  # Airflow calls it in a handler, too
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TaskFailed):
            operator._do(make_run(plan))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert supply.was_broken_off
    operator.on_kill()  # as Airflow does after a timeout
