"""Run by .venv-airflow's Python: what a task and a run take in a live Airflow, ours and written by hand, in turn.

    latency.py HOME STORE DAGS MARK ROUNDS NAME…

Starts an Airflow over the bundle store and the folder of DAG files. Each DAG that is named runs once unmeasured (what
it runs with is made then), then ROUNDS times, all in turn. Prints JSON: name → ``first_line`` (seconds from the moment
that Airflow queued the first task until user code wrote the moment into the file MARK) and ``whole`` (seconds from the
trigger until the run's end), a list each.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from aiflow_airflow.standalone import StandaloneAirflow

from aiflow_sdk.orchestrator import AirflowClient

PATIENCE = 600.0


def main() -> None:
    home, store, dags, mark = (Path(argument) for argument in sys.argv[1:5])
    rounds, names = int(sys.argv[5]), sys.argv[6:]
    found: dict[str, dict[str, list[float]]] = {name: {"first_line": [], "whole": []} for name in names}
    with StandaloneAirflow(home, store=str(store), environment="dev", dags=dags) as airflow:
        live = Live(airflow.url)
        for name in names:
            live.unpause(name)
        for number in range(rounds + 1):
            for name in names:
                mark.unlink(missing_ok=True)
                first_line, whole = live.run(name, date(2026, 1, 1) + timedelta(number), mark)
                if number:
                    found[name]["first_line"].append(first_line)
                    found[name]["whole"].append(whole)
    print(json.dumps(found))


class Live:
    """The REST API of the Airflow."""

    def __init__(self, url: str) -> None:
        self._client = AirflowClient(url)

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run, once it is there."""
        began = time.monotonic()
        while not self._client.get("dags", dag_id_pattern=dag_id, exclude_stale="true")["dags"]:
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"the DAG {dag_id} does not come: {self._client.get('importErrors')}")
            time.sleep(0.5)
        self._client.send("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def run(self, dag_id: str, day: date, mark: Path) -> tuple[float, float]:
        """Run a DAG for a day; seconds from queued to the user's first line, and from trigger to end."""
        triggered = time.time()
        body = {"logical_date": None, "conf": {"partition": day.isoformat()}}
        run_id = quote(self._client.send("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"], safe="")
        path = f"dags/{dag_id}/dagRuns/{run_id}"
        while (run := self._client.get(path))["state"] not in ("success", "failed"):
            if time.time() - triggered > PATIENCE:
                raise TimeoutError(f"{dag_id} has not ended")
            time.sleep(0.3)
        tasks = self._client.get(f"{path}/taskInstances")["task_instances"]
        if run["state"] == "failed":
            raise RuntimeError(f"{dag_id} failed: {[(task['task_id'], task['state']) for task in tasks]}")
        queued = min(_moment(task["queued_when"]) for task in tasks)
        return float(mark.read_text()) - queued, _moment(run["end_date"]) - triggered


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main()
