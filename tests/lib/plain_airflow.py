"""Runs DAG files by a real Airflow, in its own environment, to which the packages of the tests' one are added.

``python plain_airflow.py FILE DAG_ID CONF…`` runs the DAG once for each CONF (JSON), in this process. What imports aiflow
fails: an ejected file needs none of it.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_trial import AIRFLOW_PYTHON


def run_dag(home: Path, file: Path, dag_id: str, confs: Sequence[Mapping[str, Any]]) -> str:
    """Run the DAG of a file once for each conf and return what was printed; a run that fails is an ``AssertionError``."""
    done = subprocess.run(
        [str(AIRFLOW_PYTHON), __file__, str(file), dag_id, *map(json.dumps, confs)],
        cwd=file.parent,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST_"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent),
            "OTHER_PACKAGES": sysconfig.get_path("purelib"),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class _NoAiflow:
    """Finds no aiflow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0].startswith("aiflow"):
            raise ImportError(f"an ejected DAG imports {name}")


def main(file: str, dag_id: str, *confs: str) -> int:
    """Run the DAG; the exit code is 1 where a run does not succeed."""
    sys.path[:] = [str(Path(file).parent), *(one for one in sys.path if "aiflow" not in Path(one).parts)]
    sys.path.append(os.environ["OTHER_PACKAGES"])
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    sys.meta_path.insert(0, _NoAiflow())  # type: ignore[arg-type]  # all that import asks of it
    initdb()
    bag = DagBag(file)
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags[dag_id]
    for conf in confs:
        run = dag.test(run_conf=json.loads(conf))
        print(f"{dag_id} {conf}: {run.state}")
        if str(run.state) != "success":
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
