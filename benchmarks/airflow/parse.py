"""Run by .venv-airflow's Python in an Airflow home: what parsing costs, as JSON.

parse.py STORE ENVIRONMENT
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

# As Airflow's own processes are before they look at a DAG file.
import airflow.dag_processing.bundles.manager
import airflow.models.dagbag
import airflow.sdk  # noqa: F401 loaded, as in Airflow's own processes
from aiflow_airflow.bundle import AiflowBundle
from aiflow_airflow.shims import dags_of


def main() -> None:
    store, environment = sys.argv[1:]
    began = time.perf_counter()
    bundle = AiflowBundle(name="aiflow", store=store, environment=environment)
    bundle.initialize()
    laid_out = time.perf_counter() - began
    files = sorted(bundle.path.glob("aiflow_*.py"))
    dags_of(str(files[0]))  # what is imported then is there for all others
    began = time.perf_counter()
    shown = {dag_id: file.name for file in files for dag_id in dags_of(str(file))}
    everything = time.perf_counter() - began
    version = bundle.get_current_version()
    assert version is not None
    pinned = AiflowBundle(name="aiflow", store=store, environment=environment, version=version.version)
    pinned.initialize()
    tasks = []
    for dag_id, name in list(shown.items())[:: max(1, len(shown) // 50)]:
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
        os.environ["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = "spend"
        began = time.perf_counter()
        found = dags_of(str(pinned.path / name))
        tasks.append(time.perf_counter() - began)
        assert list(found) == [dag_id]
    print(
        json.dumps(
            {
                "pipelines": len(shown),
                "laid_out_seconds": laid_out,
                "parse_ms": 1000 * everything / len(shown),
                "task_ms": 1000 * statistics.median(tasks),
            }
        )
    )


if __name__ == "__main__":
    main()
