"""A whole Airflow on this machine, for trying things out: ``python -m aiflow_airflow.standalone``.

Database, api-server, scheduler, DAG processor and triggerer, each a process of its own with a log of its own, on the
loopback interface alone and without a password. All lies in one folder and ends with this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from aiflow_airflow.settings import bundle_config, variables

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
SQLITE_ARGUMENTS = {"timeout": 60}
"""Of SQLite as the database: how many seconds one of Airflow's processes waits until another has written."""
_SQLITE_ARGUMENTS = "aiflow_airflow.standalone.SQLITE_ARGUMENTS"
_HOST = "127.0.0.1"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class StandaloneAirflow:
    """An Airflow with LocalExecutor; a context manager starts and ends it."""

    def __init__(
        self,
        home: Path,
        *,
        store: str,
        environment: str,
        port: int = 0,
        database: str | None = None,
        settings: Mapping[str, str] | None = None,
        dags: Path | None = None,
    ) -> None:
        """``database`` is an SQLAlchemy address (None: SQLite in the folder), ``settings`` are further variables.

        ``dags`` is a folder of hand-written DAG files beside the bundle.
        """
        self.home = home
        self.port = port or _free_port()
        self.url = f"http://{_HOST}:{self.port}"
        bundles = bundle_config(store, environment)
        if dags:
            local = "airflow.dag_processing.bundles.local.LocalDagBundle"
            bundles.append({"name": "files", "classpath": local, "kwargs": {"path": str(dags)}})
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__INTERNAL_API_SECRET_KEY": "standalone",
            "AIRFLOW__API__HOST": _HOST,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__EXPOSE_CONFIG": "True",  # aiflow doctor --airflow looks at it
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": "standalone",
            "AIRFLOW__API_AUTH__JWT_SECRET": "standalone-standalone-standalone-standalone-standalone-standalone-64",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{home}/airflow.db",
            **({} if database else {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": _SQLITE_ARGUMENTS}),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            # One machine does it all: a slow answer is no lost one.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIFLOW_HOME": os.environ.get("AIFLOW_HOME", str(home / "aiflow")),
            **variables(bundles),
            **(settings or {}),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> StandaloneAirflow:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._run("db", "migrate")
            for component in COMPONENTS:
                self.start(component)
            self._await_api()
        except BaseException:  # Ctrl-C while it starts leaves no process behind; it goes on up
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, component: str) -> None:
        """Start one of the processes."""
        with (self.home / f"{component}.log").open("ab") as log:
            self.processes[component] = subprocess.Popen(
                [*_airflow(), component],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.variables,
                cwd=self.home,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all processes and what they started."""
        for sign, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            for process in self.processes.values():
                _signal_group(process, sign)
            deadline = time.monotonic() + seconds
            for process in self.processes.values():
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
        self.processes.clear()

    def log_of(self, component: str) -> str:
        """Return what a process has printed."""
        path = self.home / f"{component}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*_airflow(), *arguments], env=self.variables, cwd=self.home, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")

    def _await_api(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for component, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"airflow {component} ended:\n{self.log_of(component)[-4000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/api/v2/version", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"Airflow does not answer at {self.url}:\n{self.log_of('api-server')[-4000:]}"
                    ) from None
                time.sleep(0.3)


def _airflow() -> list[str]:
    return [sys.executable, "-m", "airflow"]


def _signal_group(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    try:
        os.killpg(process.pid, sign)
    except (ProcessLookupError, PermissionError):
        return


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((_HOST, 0))
        return int(listening.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((_HOST, port)) != 0


def main(arguments: list[str] | None = None) -> int:
    """Start Airflow and wait for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m aiflow_airflow.standalone", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder for database, logs and environments")
    parser.add_argument("--store", required=True, help="address of the bundle store: `bundles` of aiflow.toml")
    parser.add_argument("--environment", default="dev", help="which environment's bundle (default: dev)")
    parser.add_argument("--port", type=int, default=8080, help="0: a free one")
    parser.add_argument("--database", help="SQLAlchemy address of the database (default: SQLite in the folder)")
    parser.add_argument("--dags", type=Path, help="a folder of DAG files of your own beside the bundle")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="a further variable, as in AIRFLOW__…=…"
    )
    given = parser.parse_args(arguments)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what it puts into the background deaf to Ctrl-C
        signal.signal(number, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal is closed, and there is no nohup
        signal.signal(signal.SIGHUP, end)
    if given.port and not _is_free(given.port):
        print(f"error: port {given.port} is taken; take another with --port, or 0 for a free one", file=sys.stderr)
        return 2
    store = given.store if "://" in given.store else str(Path(given.store).absolute())
    airflow = StandaloneAirflow(
        given.home.absolute(),
        store=store,
        environment=given.environment,
        port=given.port,
        database=given.database,
        dags=given.dags and given.dags.absolute(),
        settings=dict(setting.split("=", 1) for setting in given.setting),
    )
    print(f"starting Airflow in {given.home} …", flush=True)
    try:
        with airflow:
            print(f"Airflow: {airflow.url}  (no password; Ctrl-C ends it)", flush=True)
            while all(process.poll() is None for process in airflow.processes.values()):
                time.sleep(0.5)
            ended = [name for name, process in airflow.processes.items() if process.poll() is not None]
            print(f"{', '.join(ended)} ended; see {airflow.home}/{ended[0]}.log", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 0


if __name__ == "__main__":
    sys.exit(main())
