"""Run by .venv-airflow's Python in a migrated Airflow home: a DAG processor from nothing until N DAGs are visible.

    processor.py N SECONDS

Prints JSON: seconds from the start of the process until the database has N DAGs, and its greatest memory.
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


def main() -> None:
    wanted, patience = int(sys.argv[1]), float(sys.argv[2])
    home = Path(os.environ["AIRFLOW_HOME"])
    began = time.perf_counter()
    with (home / "processor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "dag-processor"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        found = 0
        while time.perf_counter() - began < patience and found < wanted:
            time.sleep(0.1)
            found = _visible(home)
        seconds = time.perf_counter() - began
        memory = megabytes(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    print(json.dumps({"seconds": seconds, "visible": found, "megabytes": memory}))


def _visible(home: Path) -> int:
    database = sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=5)
    try:
        (number,) = database.execute("select count(distinct dag_id) from serialized_dag").fetchone()
        return int(number)
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()


def megabytes(pid: int) -> float:
    """Return the greatest memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
