"""What a plan says of a task's retries and of its machine, Airflow's own classes do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow import pods
from aiflow_airflow.dag import dag_of_plan
from airflow.models import DagRun, TaskInstance
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.types import DagRunType
from kubernetes.client import models as k8s  # type: ignore[import-untyped]  # it has no types

from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import compile_project
from aiflow_sdk.plan import Plan, read_plan
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline, resources

@pipeline(id="asks", {settings})
def asks(p):
    p.transform(id="work", fn="etl:work", external=True, {fields})
"""
ASKS = 'resources=resources.python(request_cpu="500m", request_memory="1Gi")'
PROGRAM = """
import json, sys
{before}
from aiflow_airflow.dag import dag_of_plan
from aiflow_sdk.plan import read_plan

dag = dag_of_plan(read_plan(open(sys.argv[1]).read()), "asks")
print(json.dumps(["kubernetes.client" in sys.modules, sorted(dag.get_task("work").executor_config)]))
"""

Compile = Callable[..., Plan]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """A function that compiles a pipeline with these settings, whose transform has these fields."""

    def make(settings: str = "", fields: str = "") -> Plan:
        (tmp_path / "pipelines").mkdir()
        (tmp_path / "pipelines" / "__init__.py").touch()
        (tmp_path / "pipelines" / "asks.py").write_text(PIPELINE.format(settings=settings, fields=fields))
        (tmp_path / "etl.py").write_text("def work(): ...\n")
        (tmp_path / "aiflow.toml").touch()
        project = load_project(tmp_path)
        report = compile_project(project, project.environment(), installed_registry())
        assert not report.problems, report.problems
        return read_plan(report.pipelines[0].path.read_bytes())

    return make


def in_scheduler(plan: Plan) -> Any:
    """Return the task as the scheduler has it: from the database, not from the file."""
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag_of_plan(plan, "asks"))))
    return DagSerialization.from_dict(stored).get_task("work")


@pytest.mark.parametrize(
    ("settings", "fields", "pauses"),
    [
        ("retries=3, retry_delay_minutes=1", "", [(60, 60), (60, 60), (60, 60)]),
        ("retries=3, retry_delay_minutes=1, retry_backoff=3", "", [(60, 120), (180, 360), (540, 1080)]),
        ("retries=3, retry_backoff=3", "retry_delay_minutes=1, retry_backoff=1", [(60, 60), (60, 60), (60, 60)]),
        ("retries=3, retry_backoff=40", "retry_delay_minutes=60", [(3600, 7200), (86_400, 86_400), (86_400, 86_400)]),
    ],
)
def test_pauses_grow_as_the_plan_says(
    compiled: Compile, settings: str, fields: str, pauses: list[tuple[float, float]]
) -> None:
    task = in_scheduler(compiled(settings, fields))
    ended = datetime(2026, 11, 20, tzinfo=UTC)
    for attempt, (least, most) in enumerate(pauses, 1):
        instance = TaskInstance(task, dag_version_id=None, run_id="manual__1")  # type: ignore[arg-type]  # nothing is stored
        instance.dag_run = DagRun("asks", run_id="manual__1", run_type=DagRunType.MANUAL)
        instance.try_number, instance.end_date = attempt, ended
        assert least <= (instance.next_retry_datetime() - ended).total_seconds() <= most


@pytest.fixture
def starts_pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # What Airflow reads its settings from.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,KubernetesExecutor")
    pods._starts_pods.cache_clear()
    yield
    pods._starts_pods.cache_clear()


@pytest.mark.usefixtures("starts_pods")
def test_the_pod_gets_what_the_pipeline_asks_for_and_keeps_the_rest(compiled: Compile) -> None:
    config = in_scheduler(compiled(fields=ASKS)).executor_config
    limits = k8s.V1ResourceRequirements(limits={"cpu": "2"}, requests={"cpu": "1"})
    template = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(labels={"team": "shop"}),
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name="base", image="airflow:3.3", resources=limits)], node_selector={"a": "b"}
        ),
    )
    pod = PodGenerator.reconcile_pods(template, PodGenerator.from_obj(config))
    (container,) = pod.spec.containers
    assert (container.name, container.image, pod.spec.node_selector) == ("base", "airflow:3.3", {"a": "b"})
    assert container.resources.requests == {"cpu": "500m", "memory": "1Gi"}
    assert container.resources.limits is None  # Airflow takes a container's resources whole, as the guide says


@pytest.mark.usefixtures("starts_pods")
@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ('resources=resources.python(request_memory="512Mi")', {"memory": "512Mi"}),
        ("resources=resources.python()", None),
        ('resources=resources.spark(executor_memory="4g")', None),
    ],
)
def test_what_is_not_asked_for_is_left_to_the_template(compiled: Compile, fields: str, requests: Any) -> None:
    pod = in_scheduler(compiled(fields=fields)).executor_config.get("pod_override")
    assert (pod and pod.spec.containers[0].resources.requests) == requests


@pytest.mark.parametrize(
    ("executor", "fields", "before", "expected", "told"),
    [
        ("KubernetesExecutor", "", "", [False, []], False),
        ("LocalExecutor", ASKS, "", [False, []], False),
        ("KubernetesExecutor", ASKS, "", [True, ["pod_override"]], False),
        ("KubernetesExecutor", ASKS, "sys.modules['kubernetes'] = None", [False, []], True),
    ],
)
def test_kubernetes_is_imported_where_it_is_needed_and_may_be_missing(
    compiled: Compile, tmp_path: Path, executor: str, fields: str, before: str, expected: list[Any], told: bool
) -> None:
    document = tmp_path / "plan.json"
    document.write_text(compiled(fields=fields).to_json())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before), str(document)],
        env={**os.environ, "AIRFLOW__CORE__EXECUTOR": executor},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    assert ("client is not installed here" in done.stdout) == told
