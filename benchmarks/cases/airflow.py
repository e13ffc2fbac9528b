"""Airflow over many deployed pipelines, against DAG files written by hand; needs ``scripts/airflow_environment.sh``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import DATA, ROOT, Row, aiflow, set_aside

from cases.compiling import project_of

PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
SCRIPTS = ROOT / "benchmarks" / "airflow"
ROUNDS = 12
"""So many publishes, and rollbacks; of their times the 95th percentile counts."""
HAND_WRITTEN = '''"""An Airflow DAG."""
import datetime

from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators.python import PythonOperator


def spend(**context):
    from etl.spend import main

    main(**context)


with DAG(
    "p{number}",
    schedule="0 3 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    default_args={{"owner": "team_{team}"}},
):
    PythonOperator(
        task_id="spend",
        python_callable=spend,
        inlets=[Asset("raw.t{number}", uri="x-lake://raw/t{number}")],
        outlets=[Asset("mart.t{number}", uri="x-lake://mart/t{number}")],
    )
'''

YAML = """
p{number}:
  default_args: {{owner: team_{team}, start_date: 2026-01-01}}
  schedule: "0 3 * * *"
  catchup: false
  tasks:
    - task_id: spend
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "true"
      inlets: ["x-lake://raw/t{number}"]
      outlets: ["x-lake://mart/t{number}"]
"""
DAG_FACTORY = """
# An Airflow DAG file.
from dagfactory import load_yaml_dags

load_yaml_dags(globals_dict=globals(), dags_folder={folder!r})
"""


def _deployed(pipelines: int) -> Path:
    """Return a bundle store with so many pipelines deployed to it."""
    folder = project_of(pipelines, "deployed")
    (folder / "requirements.txt").write_text("")
    (folder / "aiflow.toml").write_text('lock = "requirements.txt"\n[environments.dev]\nbundles = "store"\n')
    subprocess.run(aiflow("deploy"), cwd=folder, check=True, capture_output=True)
    return folder / "store"


def _home(name: str, bundles: list[dict[str, Any]]) -> dict[str, str]:
    """Return the environment variables of an Airflow that was just made."""
    home = DATA / f"airflow-{name}"
    set_aside(home)
    home.mkdir(parents=True)
    variables = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
    }
    subprocess.run([PYTHON, "-m", "airflow", "db", "migrate"], env=variables, check=True, capture_output=True)
    return variables


def _ours(store: Path) -> list[dict[str, Any]]:
    kwargs = {"store": str(store), "environment": "dev"}
    return [{"name": "aiflow", "classpath": "aiflow_airflow.bundle.AiflowBundle", "kwargs": kwargs}]


def _files(pipelines: int) -> list[dict[str, Any]]:
    folder = DATA / f"dags-{pipelines}"
    set_aside(folder)
    folder.mkdir(parents=True)
    for number in range(pipelines):
        (folder / f"p{number}.py").write_text(HAND_WRITTEN.format(number=number, team=number % 7))
    classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return [{"name": "files", "classpath": classpath, "kwargs": {"path": str(folder)}}]


def _yaml_files(pipelines: int) -> list[dict[str, Any]]:
    """Return the bundle of one file that makes the DAGs of so many YAML files by dag-factory."""
    folder, yaml = DATA / "dag-factory", DATA / f"yaml-{pipelines}"
    for made in (folder, yaml):
        set_aside(made)
        made.mkdir(parents=True)
    for number in range(pipelines):
        (yaml / f"p{number}.yml").write_text(YAML.format(number=number, team=number % 7))
    (folder / "made.py").write_text(DAG_FACTORY.format(folder=str(yaml)))
    packages: list[str | Path] = [
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        folder / "packages",
        "dag-factory==1.1.0",
    ]
    subprocess.run([ROOT / ".venv-uv" / "bin" / "uv", "pip", *packages, "--python", PYTHON], check=True)
    (folder / ".airflowignore").write_text("packages/.*")
    classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return [{"name": "yaml", "classpath": classpath, "kwargs": {"path": str(folder)}}]


def _measured(script: str, variables: Mapping[str, str], *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [PYTHON, SCRIPTS / script, *map(str, arguments)], env=variables, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def airflow_parse() -> list[Row]:
    """Parsing in one process, for all pipelines and for the one of a task, from 10 to 10,000."""
    rows = []
    first = None
    for pipelines in (10, 1_000, 10_000):
        store = _deployed(pipelines)
        found = _measured("parse.py", _home(f"parse-{pipelines}", _ours(store)), store, "dev")
        assert found["pipelines"] == pipelines, found
        first = first or found["task_ms"]
        name = f"airflow_parse_{pipelines}"
        parse, task = found["parse_ms"], found["task_ms"]
        rows += [
            Row(name, f"{parse:.2f} ms", "1.20 ms", parse / 1.2, "≤ 1", parse <= 1.2),
            Row(f"{name}_task", f"{task:.2f} ms", "5.00 ms", task / 5, "≤ 1", task <= 5),
        ]
    return rows


def airflow_processor() -> list[Row]:
    """A DAG processor from nothing until 1,000 pipelines are visible, against files by hand and dag-factory."""
    ours = _measured("processor.py", _home("ours", _ours(_deployed(1_000))), 1_000, 300)
    files = _measured("processor.py", _home("files", _files(1_000)), 1_000, 900)
    found_there = {"PYTHONPATH": str(DATA / "dag-factory" / "packages")}
    yaml = _measured("processor.py", {**_home("yaml", _yaml_files(1_000)), **found_there}, 1_000, 300)
    assert (ours["visible"], files["visible"], yaml["visible"]) == (1_000, 1_000, 1_000), (ours, files, yaml)
    ratio, factory = files["seconds"] / ours["seconds"], yaml["seconds"] / ours["seconds"]
    mine, theirs = f"{ours['seconds']:.1f} s", f"{files['seconds']:.1f} s"
    return [
        Row("airflow_processor", mine, theirs, ratio, "≥ 5", ratio >= 5),
        Row("airflow_processor_yaml", mine, f"{yaml['seconds']:.1f} s", factory, "stated", None),
        Row("airflow_processor_10s", mine, "10.0 s", ours["seconds"] / 10, "≤ 1", ours["seconds"] <= 10),
    ]


def airflow_10000() -> list[Row]:
    """10,000 pipelines: up from nothing, the processor's memory, and from a publish until its change is visible."""
    store = _deployed(10_000)
    arguments = (store.parent, *aiflow(), store, 10_000, ROUNDS)
    found = _measured("visible.py", _home("visible", _ours(store)), *arguments)
    assert found["others"] == 0, f"{found['others']} DAGs that nobody changed were written anew"
    seconds, memory, after = (found[name] for name in ("seconds", "megabytes", "megabytes_after"))
    rows = [
        Row("airflow_10000", f"{seconds:.1f} s", f"{memory:.0f} MB", seconds, "stated", None),
        Row("airflow_10000_stays", f"{after:.0f} MB", f"{memory:.0f} MB", after / memory, "stated", None),
    ]
    for name in ("published", "rolled_back"):
        late = statistics.quantiles(found[name], n=20, method="inclusive")[-1]
        rows.append(Row(f"airflow_{name}", f"{late:.1f} s", "5.0 s", late / 5, "≤ 1", late <= 5))
    return rows
