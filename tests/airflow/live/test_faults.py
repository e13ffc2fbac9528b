"""User code stays out of Airflow's processes and ends when it is told to; a run keeps the version it began with."""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiflow_sdk.bundles import dag_id_of
from airflow_trial import LiveAirflow, Project, is_alive

"""Whoever comes first waits for Airflow and for the user's environment too."""

IDS = ("web-logs", "web_logs", "web.logs", "web-0x2d-logs", "web-0x5f-logs")
"""They are one where what is forbidden is left out, or where the sign of an escape is not escaped itself."""
PIPELINES = """
import marker
from aiflow_sdk import pipeline

def made(name):
    @pipeline(id=name)
    def body(p):
        p.transform(id="work", engine="python", fn="etl:work", external=True, name=name)
    return body

"""
MARKER = """
import os, pathlib
line = pathlib.Path("/proc/self/cmdline").read_bytes().replace(b"\\0", b" ").decode()
with pathlib.Path("IMPORTS").open("a") as file:
    file.write(f"{os.getpid()} {line}\\n")
"""
WORK = """
import marker
import os, pathlib, signal, subprocess, time

def work(name):
    print("working as", name)
    if pathlib.Path("HOLD").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen(["sh", "-c", "trap '' TERM; while true; do sleep 1; done"])
        part = pathlib.Path("HELD.part")
        part.write_text(f"{os.getpid()} {other.pid}")
        part.rename("HELD")
        while pathlib.Path("HOLD").exists():
            time.sleep(0.05)
        other.kill()
"""


def fill(text: str, folder: Path) -> str:
    for name in ("IMPORTS", "HOLD", "HELD"):
        text = text.replace(name, str(folder / name.lower()))
    return text


def browse(airflow: LiveAirflow, dag_id: str, run_id: str) -> None:
    """Look at the pages and the answers that a person's browser asks for."""
    for page in ("", f"dags/{dag_id}", f"dags/{dag_id}/runs/{run_id}/tasks/work", f"dags/{dag_id}/code"):
        with urllib.request.urlopen(f"{airflow.url}/{page}", timeout=60) as answer:
            assert answer.status == 200
    for path in ("details", "tasks", "dagVersions", f"dagRuns/{run_id}/taskInstances/work/tries"):
        airflow.call("GET", f"dags/{dag_id}/{path}")
    airflow.call("GET", f"dagSources/{dag_id}")
    with urllib.request.urlopen(f"{airflow.url}/ui/structure/structure_data?dag_id={dag_id}", timeout=60) as answer:
        assert b"work" in answer.read()


def test_only_a_tasks_own_process_imports_user_code_and_ids_stay_apart(
    project: Project, airflow: LiveAirflow, tmp_path: Path
):
    imports = tmp_path / "imports"
    project.write("marker.py", fill(MARKER, tmp_path))
    project.write("etl.py", fill(WORK, tmp_path))
    project.write(
        "pipelines/made.py", PIPELINES + "\n".join(f'p{number} = made("{one}")' for number, one in enumerate(IDS))
    )
    project.deploy()
    assert imports.read_text()  # by who built the pipelines
    imports.unlink()
    dags = {dag_id_of(project.name, one): one for one in IDS}
    seen = {dag_id: airflow.await_dag(dag_id) for dag_id in dags}
    assert len({dag["dag_display_name"] for dag in seen.values()}) == len(IDS)

    runs = {}
    for dag_id in list(dags)[2:4]:
        airflow.unpause(dag_id)
        runs[dag_id] = airflow.trigger(dag_id)
    for dag_id, dag in seen.items():
        airflow.call("PUT", f"parseDagFile/{dag['file_token']}")
        if dag_id in runs:
            airflow.await_run(dag_id, runs[dag_id])
            browse(airflow, dag_id, runs[dag_id])
            assert f"working as {dags[dag_id]}" in airflow.task_log(dag_id, runs[dag_id], "work")
    parsed = {dag_id: dag["last_parsed_time"] for dag_id, dag in seen.items()}
    airflow.until(
        lambda: all(airflow.await_dag(dag_id)["last_parsed_time"] != before for dag_id, before in parsed.items()),
        "another parse of each",
    )
    who = imports.read_text().splitlines()
    assert len(who) == len(runs)
    assert all(re.search("-m aiflow_sdk.runtime.(child|forkserver)", line) for line in who), who


def test_what_airflow_would_not_take_as_an_id_is_refused_when_it_is_built(project: Project):
    project.write("etl.py", "def work(name): ...\n")
    project.write("pipelines/made.py", PIPELINES.replace("import marker\n", "") + 'p = made("web logs")\n')
    told = project.aiflow("--json", "deploy", "--env", project.airflow.environment, expected=1)
    assert '"code": "bad-id"' in told


def test_mark_failed_and_clear_end_the_process_soon(project: Project, airflow: LiveAirflow, tmp_path: Path):
    hold, held = tmp_path / "hold", tmp_path / "held"
    hold.touch()
    project.write("marker.py", "")
    project.write("etl.py", fill(WORK, tmp_path))
    project.write("pipelines/made.py", PIPELINES + 'stubborn = made("stubborn")\n')
    project.deploy()
    dag_id = f"{project.name}.stubborn"
    airflow.await_dag(dag_id)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id)

    def processes() -> list[int]:
        airflow.until(held.exists, "the task's process", 180)
        found = [int(one) for one in held.read_text().split()]
        held.unlink()
        return found

    def assert_ended(gone: list[int]) -> None:
        airflow.until(lambda: not any(map(is_alive, gone)), "the end", 20)  # within five where nothing else runs

    first = processes()
    airflow.call("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/work", {"new_state": "failed"})
    assert_ended(first)
    airflow.await_run(dag_id, run_id, "failed")

    airflow.clear(dag_id, run_id, "work")  # what is finished runs again
    second = processes()
    airflow.clear(dag_id, run_id, "work")  # what runs ends, and runs again
    assert_ended(second)
    third = processes()
    assert third != second
    hold.unlink()
    airflow.await_run(dag_id, run_id)


VERSIONED = """
from aiflow_sdk import pipeline, source, sink

@pipeline(id="versioned", retries=1, retry_delay_minutes=0.02)
def versioned(p):
    first = p.transform(id="first", engine="python", fn="etl:first", external=True)
    p.transform(first, id="second", engine="python", fn="etl:second", external=True, fuse=False)
"""
STEPS = """
import pathlib, time
import polars as pl

def first():
    print("first of one", flush=True)
    while pathlib.Path("HOLD").exists():
        time.sleep(0.05)
    return pl.DataFrame({"id": [1]})

def second(first: pl.DataFrame, context):
    print("second of one", flush=True)
    if context.attempt == 1:
        raise RuntimeError("again, please")
"""


@pytest.fixture
def other(tmp_path: Path, airflow: LiveAirflow, project: Project) -> Project:
    """Another project beside the test's."""
    return Project(tmp_path / "other", airflow, f"{project.name}_other")


def test_a_run_keeps_its_version_while_two_projects_are_published_at_once(
    project: Project, other: Project, airflow: LiveAirflow, tmp_path: Path
):
    hold = tmp_path / "hold"
    hold.touch()
    dag_id = f"{project.name}.versioned"
    for one in (project, other):
        one.write("pipelines/versioned.py", VERSIONED)
        one.write("etl.py", fill(STEPS, tmp_path))
    project.deploy()
    airflow.await_dag(dag_id)
    airflow.unpause(dag_id)
    began = airflow.trigger(dag_id)
    airflow.until(lambda: airflow.task(dag_id, began, "first")["state"] == "running", "the run's first task", 180)
    version = rendered(airflow, dag_id, began, "first")

    before = airflow.version_of(dag_id)
    project.write("etl.py", fill(STEPS, tmp_path).replace("of one", "of two"))
    with ThreadPoolExecutor() as pool:
        published = list(pool.map(Project.deploy, (project, other)))
    assert len({json.dumps(one["release"]) for one in published}) == 2
    airflow.await_dag(f"{other.name}.versioned")
    airflow.until(lambda: airflow.version_of(dag_id) > before, "the new version")
    following = airflow.trigger(dag_id)
    hold.unlink()
    for run_id in (began, following):
        airflow.await_run(dag_id, run_id)
    for attempt in (1, 2):  # the later task and its retry are of the version with which the run began
        assert "second of one" in airflow.task_log(dag_id, began, "second", attempt)
        assert "second of two" in airflow.task_log(dag_id, following, "second", attempt)
    assert rendered(airflow, dag_id, began, "second") == version
    assert rendered(airflow, dag_id, following, "second") != version
    airflow.clear(dag_id, began, "second")
    airflow.await_run(dag_id, began)
    assert "second of two" in airflow.task_log(dag_id, began, "second")
    assert rendered(airflow, dag_id, began, "second") == rendered(airflow, dag_id, following, "second")


def rendered(airflow: LiveAirflow, dag_id: str, run_id: str, task_id: str) -> str:
    """Return the version that the task shows of itself."""
    return airflow.until(
        lambda: airflow.task(dag_id, run_id, task_id)["rendered_fields"].get("version"), "the rendered fields"
    )
