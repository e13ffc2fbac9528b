"""Runs DAG files by a real Airflow, in its own environment, to which the packages of the tests' one are added.

As a program it answers requests, each a line of JSON on its standard input, one after the other: of Airflow's first run
most of the time goes into what later ones find there. What imports aiflow fails: an ejected file needs none of it.
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_trial import AIRFLOW_PYTHON


class PlainAirflow:
    """An Airflow without aiflow, its database in a folder that is not there yet. Close it."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [str(AIRFLOW_PYTHON), __file__],
            cwd=home.parent,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST_"))},
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "OTHER_PACKAGES": sysconfig.get_path("purelib"),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def run(self, folder: Path, *runs: tuple[str, Mapping[str, Any]], state: str = "success") -> str:
        """Run DAGs of a folder, each with its conf, and return what was printed; each must end in that state."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"folder": str(folder), "state": state, "runs": runs}), file=self._process.stdin)
        answer = self._process.stdout.readline()
        assert answer, f"Airflow has ended: {self._process.wait()}"
        told = json.loads(answer)
        assert told["done"], told["output"][-40_000:]
        return str(told["output"])

    def close(self) -> None:
        """End it, and what it runs."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class _NoAiflow:
    """Finds no aiflow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0].startswith("aiflow"):
            raise ImportError(f"{name} is imported, and there is to be no aiflow")


def main() -> None:
    """Answer each request with whether all ended as they must, and what was printed."""
    sys.path[:] = [*(one for one in sys.path if Path(one) != Path(__file__).parent), os.environ["OTHER_PACKAGES"]]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from airflow.utils.db import initdb  # type: ignore[import-not-found]  # of the other environment

    sys.meta_path.insert(0, _NoAiflow())
    initdb()
    for line in iter(sys.stdin.readline, ""):
        output = Path(os.environ["AIRFLOW_HOME"], "output")
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            done = _run(**json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
        print(json.dumps({"done": done, "output": output.read_text("utf-8", "replace")}), file=answers)


def _run(folder: str, state: str, runs: list[tuple[str, dict[str, Any]]]) -> bool:
    """Run the DAGs; False where one does not end in that state."""
    from airflow import settings  # type: ignore[attr-defined]  # of the other environment
    from airflow.dag_processing.dagbag import DagBag  # type: ignore[import-not-found]  # likewise

    sys.path.insert(0, folder)
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = settings.DAGS_FOLDER = folder
    try:
        bag = DagBag(folder)
        print(bag.import_errors)
        for dag_id, conf in runs:
            run = bag.dags[dag_id].test(run_conf=conf)
            print(f"{dag_id} {conf}: {run.state}", flush=True)
            if str(run.state) != state:
                return False
        return not bag.import_errors
    except Exception:  # noqa: BLE001  # whatever it is, the test is to show it
        traceback.print_exc()
        return False
    finally:
        sys.path.remove(folder)
        for name, module in list(sys.modules.items()):  # another project may have modules of the same names
            if (getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]


if __name__ == "__main__":
    main()
