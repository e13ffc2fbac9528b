"""Runs DAG files by a real Airflow, in its own environment, to which the packages of the tests' one are added.

``python plain_airflow.py FOLDER STATE DAG_ID CONF …`` runs DAGs of a folder one after the other, each with its conf,
in this process. What imports aiflow fails: an ejected file needs none of it.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_trial import AIRFLOW_PYTHON


def run_dags(home: Path, folder: Path, *runs: tuple[str, Mapping[str, Any]], state: str = "success") -> str:
    """Run DAGs of a folder, each with its conf, and return what was printed; each must end in that state."""
    done = subprocess.run(
        [
            str(AIRFLOW_PYTHON),
            __file__,
            str(folder),
            state,
            *(word for dag_id, conf in runs for word in (dag_id, json.dumps(conf))),
        ],
        cwd=home.parent,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST_"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "OTHER_PACKAGES": sysconfig.get_path("purelib"),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]
    return done.stdout


class _NoAiflow:
    """Finds no aiflow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0].startswith("aiflow"):
            raise ImportError(f"{name} is imported, and there is to be no aiflow")


def main(folder: str, state: str, *words: str) -> int:
    """Run the DAGs; the exit code is 1 where a run does not end in that state."""
    sys.path[:] = [
        folder,
        *(one for one in sys.path if Path(one) != Path(__file__).parent),
        os.environ["OTHER_PACKAGES"],
    ]
    from airflow.dag_processing.dagbag import DagBag  # type: ignore[import-not-found]  # of the other environment
    from airflow.utils.db import initdb  # type: ignore[import-not-found]  # likewise

    sys.meta_path.insert(0, _NoAiflow())
    initdb()
    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    for dag_id, conf in zip(words[::2], words[1::2], strict=True):
        run = bag.dags[dag_id].test(run_conf=json.loads(conf))
        print(f"{dag_id} {conf}: {run.state}", flush=True)
        if str(run.state) != state:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
