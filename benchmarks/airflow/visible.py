"""Run by .venv-airflow's Python in a migrated Airflow home: from a publish until Airflow's database has the new DAG.

    visible.py PROJECT AIFLOW STORE PIPELINES ROUNDS

A DAG processor with the settings that aiflow asks for first shows all pipelines. Then, in each round, one pipeline of
the project changes, is deployed by the command AIFLOW, and a rollback takes it back. Prints JSON: seconds and
megabytes of the processor until all are visible; seconds of each publish and rollback from the end of the command; how
many DAGs other than the one changed were written anew; the greatest memory at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from aiflow_airflow.settings import bundle_config, variables
from processor import megabytes

PATIENCE = 1200.0


def main() -> None:
    project, aiflow, store = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    pipelines, rounds = int(sys.argv[4]), int(sys.argv[5])
    home = Path(os.environ["AIRFLOW_HOME"])
    with (home / "processor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "dag-processor"],
            env={**os.environ, **variables(bundle_config(store, "dev"))},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        began = time.perf_counter()
        _until(lambda: len(_hashes(home)) == pipelines)
        found: dict[str, object] = {"seconds": time.perf_counter() - began, "megabytes": megabytes(process.pid)}
        time.sleep(10)  # what is still being parsed comes to its end
        published, rolled_back, others = [], [], 0
        listed = subprocess.run([aiflow, "--json", "deploy", "--list"], cwd=project, check=True, capture_output=True)
        (first,) = (release["project_version"] for release in json.loads(listed.stdout))
        for number in range(rounds):
            changed = number * pipelines // rounds
            before = _hashes(home)
            path = project / "pipelines" / f"m{changed - changed % 10:06}.py"
            text = path.read_text()
            path.write_text(text.replace(f"least={changed})", f"least={changed + pipelines})"))
            published.append(_seconds(home, [aiflow, "deploy"], project, f"p{changed}"))
            rolled_back.append(_seconds(home, [aiflow, "deploy", "--rollback", first], project, f"p{changed}"))
            path.write_text(text)
            after = _hashes(home)
            others += sum(after[dag_id] != before[dag_id] for dag_id in before)
        found |= {"published": published, "rolled_back": rolled_back, "others": others}
        print(json.dumps({**found, "megabytes_after": megabytes(process.pid)}))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _seconds(home: Path, command: list[str], project: Path, pipeline: str) -> float:
    before = _hashes(home)
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    began = time.perf_counter()
    (dag_id,) = (dag_id for dag_id in before if dag_id.rpartition(".")[2] == pipeline)
    _until(lambda: _hashes(home, dag_id)[dag_id] != before[dag_id])
    return time.perf_counter() - began


def _until(holds: object) -> None:
    assert callable(holds)
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"not visible within {PATIENCE:g} s")
        time.sleep(0.1)


def _hashes(home: Path, dag_id: str = "%") -> dict[str, str]:
    """Return what the database has: DAG → hash of its newest serialized form."""
    database = sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=30)
    try:
        return dict(database.execute("select dag_id, dag_hash from serialized_dag where dag_id like ?", (dag_id,)))
    finally:
        database.close()


if __name__ == "__main__":
    main()
