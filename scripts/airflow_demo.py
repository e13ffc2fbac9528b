"""``make airflow``: a stock Airflow on this machine with the examples deployed to it, until Ctrl-C.

    scripts/airflow_demo.py [--port N]

Needs what ``scripts/environment.sh demo`` and ``scripts/airflow_environment.sh`` have made. Database, logs, the bundle
store and the users' environments lie below ``.aiflow``; the lakes are the examples' own.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from aiflow_sdk.orchestrator import AirflowClient

ROOT = Path(__file__).absolute().parents[1]
HOME = ROOT / ".aiflow" / "airflow"
STORE = ROOT / ".aiflow" / "bundles"
ENVIRONMENT = "dev"
DAG, DAY = "flights_daily", "2013-01-15"


def main() -> int:
    """Load, deploy, start, and start a first run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--port", type=int, default=8080, help="where Airflow is to listen (default: 8080, or a free one)"
    )
    port = parser.parse_args().port
    with socket.socket() as trial:
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            print(f"port {port} is taken; Airflow takes a free one")
            port = 0
    flights = ROOT / "examples" / "flights"
    if not (flights / ".aiflow" / "lake" / "raw" / "flights" / "_delta_log").exists():
        # In a process of its own: where polars has been at work, Ctrl-C ends no reading from a pipe any more (its
        # handler of SIGINT has system calls go on).
        load = "from pathlib import Path; from demo import load_flights; load_flights(Path('.aiflow/lake').absolute())"
        subprocess.run([sys.executable, "-c", load], cwd=flights, check=True)
    for example in ("flights", "hourly_daily", "user_features"):
        print(f"$ aiflow -C examples/{example} deploy", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(ROOT / "examples" / example), "deploy"], check=False
        )
        if done.returncode:
            return done.returncode
    return _serve(port)


def _serve(port: int) -> int:
    # Airflow is a session of its own: whatever ends this process, a terminal that is closed too, has to end it.
    airflow: subprocess.Popen[str] | None = None
    told_to_end = False

    def end(number: int, frame: object) -> None:
        nonlocal told_to_end
        told_to_end = True
        if airflow is not None:  # raised while the process is being started, nobody would know it
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # but not with nohup
            signal.signal(number, end)
    try:
        airflow = subprocess.Popen(
            [
                ROOT / ".venv-airflow" / "bin" / "python",
                "-m",
                "aiflow_airflow.standalone",
                f"--home={HOME}",
                f"--store={STORE}",
                f"--environment={ENVIRONMENT}",
                f"--port={port}",
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if told_to_end:
            return 0
        assert airflow.stdout is not None
        for line in airflow.stdout:
            if line.startswith("Airflow: "):
                url = line.split()[1]
                _first_run(url)
                print(f"\nopen {url}/dags/{DAG}   (no password; Ctrl-C ends it)\nlogs, database: {HOME}", flush=True)
            else:
                print(line, end="", flush=True)
        return airflow.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if airflow is not None and airflow.poll() is None:
            airflow.send_signal(signal.SIGINT)
            airflow.wait()


def _first_run(url: str) -> None:
    """Wait until the DAG processor has read the bundle, and start a run, so that there is something to see."""
    client = AirflowClient(url)
    for _ in range(240):
        if client.get("dags", dag_id_pattern=DAG, exclude_stale="true")["dags"]:
            break
        time.sleep(0.5)
    else:
        print(f"{DAG} has not come up; see {HOME}/dag-processor.log")
        return
    client.send("PATCH", f"dags/{DAG}", {"is_paused": False})
    client.send("POST", f"dags/{DAG}/dagRuns", {"logical_date": None, "partition_key": DAY})
    print(f"started {DAG} for {DAY}; the run for yesterday that its schedule starts fails: the flights are of 2013")


if __name__ == "__main__":
    sys.exit(main())
