"""``make compose``: start what ``deploy/compose.yaml`` says as processes of this machine, and run pipelines on Celery.

    scripts/try_compose.py [--keep]

Each step is said once it holds; the first that does not ends it, with exit code 1. Needs what
``scripts/celery_environment.sh`` has made. All lies in a folder below the system's for temporary files, which
``--keep`` leaves there.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

ROOT = Path(__file__).absolute().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from airflow_trial import is_alive, watcher_of  # noqa: E402 it lies where the line above says
from compose_services import ComposeServices, Service, descendants_of, read_compose  # noqa: E402 as above
from harness.postgres import postgres_server  # noqa: E402 as above

SETTINGS = {
    # So that two tasks at once are on two workers.
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    # A worker that was killed is missed in a minute, not in five.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    # One machine does it all: a slow answer is no lost one.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}
EXAMPLE = ROOT / "examples" / "hourly_daily"
PIPELINES = """
from aiflow_sdk import pipeline, sink, source

def made(name, **options):
    @pipeline(id=name, retries=1, retry_delay_minutes=0.02)
    def body(p):
        rows = p.read(source.onelake(id="rows", table="raw.rows"))
        p.write(rows.transform(id="work", engine="python", fn=f"trial:{name}"),
                sink.onelake(id="out", table=f"trial.{name}", mode="append"))
    return body

together_a, together_b, retried, changed, killed, stopped = map(
    made, ("together_a", "together_b", "retried", "changed", "killed", "stopped"))
"""
CODE = """
import os, pathlib, time
import polars as pl

SIGNALS = pathlib.Path("SIGNALS_FOLDER")
VERSION = "first"

def is_first(name):
    \"\"\"Tell who is here, the first time.\"\"\"
    mark = SIGNALS / name
    if mark.exists():
        return False
    beside = mark.with_suffix(".part")
    beside.write_text(str(os.getpid()))
    beside.rename(mark)
    return True

def together(rows, name):
    is_first(name)
    until = time.monotonic() + 120
    while not all((SIGNALS / f"together_{one}").exists() for one in "ab"):
        if time.monotonic() > until:
            raise RuntimeError("the other one does not run meanwhile")
        time.sleep(0.1)
    return rows

def together_a(rows: pl.DataFrame) -> pl.DataFrame:
    return together(rows, "together_a")

def together_b(rows: pl.DataFrame) -> pl.DataFrame:
    return together(rows, "together_b")

def retried(rows: pl.DataFrame) -> pl.DataFrame:
    if is_first("retried"):
        raise RuntimeError("no luck this time")
    return rows

def changed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(version=pl.lit(VERSION))

def killed(rows: pl.DataFrame) -> pl.DataFrame:
    if is_first("killed"):
        time.sleep(600)
    return rows

def stopped(rows: pl.DataFrame) -> pl.DataFrame:
    is_first("stopped")
    time.sleep(5)
    return rows
"""
ROWS = [1, 2, 3]


class Trial:
    """One start of the services, with a project deployed to it."""

    def __init__(self, home: Path) -> None:
        self.home, self.began = home, time.monotonic()
        self.store, self.lake, self.signals, self.project = (
            home / name for name in ("bundles", "lake", "signals", "project")
        )
        for folder in (self.store, self.lake, self.signals):
            folder.mkdir()
            folder.chmod(0o777)  # who deploys is another user than Airflow's
        self.password = ""
        self.services: ComposeServices

    def run(self) -> None:
        """Start all, try all, end all."""
        variables = {
            "POSTGRES_PASSWORD": secrets.token_hex(24),
            "JWT_SECRET": secrets.token_hex(32),
            "API_SECRET": secrets.token_hex(32),
            "FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "BUNDLES": str(self.store),
        }
        document = read_compose(ROOT / "deploy" / "compose.yaml", variables)
        airflow = str(ROOT / ".venv-celery" / "bin" / "airflow")
        with (
            postgres_server() as postgres,
            ComposeServices(
                document, self.home / "services", airflow=airflow, postgres=postgres, settings=SETTINGS
            ) as self.services,
        ):
            self.start()
            self.deploy()
            for step in (
                self.two_workers_at_once,
                self.example,
                self.retry,
                self.rollback,
                self.killed_worker,
                self.stopped_worker,
            ):
                step()

    def say(self, text: str) -> None:
        """Print a step that holds."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)

    def start(self) -> None:
        """Start the services in the order that the file asks for, two workers among them."""
        services = self.services
        services.create_database()
        services.start("redis")
        services.start("migrate").wait()
        self.say("the database is migrated")
        for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
            services.start(name)
        services.start("worker", 2)
        api = services.services["api-server"]
        said = self.until(lambda: _password_in(api.log.read_text("utf-8", "replace")), "the password in the log", 300)
        self.password = said
        self.until(services.answers, "the api-server", 300)
        self.say(f"all services are up; Airflow answers at {services.url}")

    def deploy(self) -> None:
        """Deploy the example with a few pipelines beside it, and ask doctor."""
        shutil.copytree(EXAMPLE, self.project, ignore=shutil.ignore_patterns(".aiflow"))
        (self.project / "pipelines" / "trial_ones.py").write_text(PIPELINES)
        (self.project / "trial.py").write_text(CODE.replace("SIGNALS_FOLDER", str(self.signals)))
        (self.project / "aiflow.toml").write_text(
            f'project = "clicks"\nlock = "requirements.txt"\n\n'
            f'[environments.prod]\nlake = "{self.lake}"\nbundles = "{self.store}"\nairflow = "{self.services.url}"\n'
            f'airflow_user = "admin"\nairflow_password = "secret://airflow/password"\n\n'
            f'[environments.alone]\nlake = "{self.home / "alone"}"\n'
        )
        pl.DataFrame({"id": ROWS}).write_delta(str(self.lake / "raw" / "rows"))
        self.aiflow("deploy")
        self.until(lambda: self.is_shown("together_b"), "the DAGs")
        found = self.aiflow("doctor", "--airflow")
        assert "all is well" in found, found
        self.say("deployed; aiflow doctor --airflow: all is well")

    def two_workers_at_once(self) -> None:
        """Two workers want an environment at once that neither has."""
        names = ("together_a", "together_b")
        for name in names:
            self.trigger(name, wait=False)
        self.until(lambda: all((self.signals / name).exists() for name in names), "two tasks at once", 400)
        for name in names:
            self.until(lambda name=name: self.rows(name) == ROWS, f"the table of {name}")
        made = [*(self.services.volumes / "aiflow" / "environments").glob("*/files")]
        logs = [path.read_text() for path in (self.services.home).glob("worker*/logs/**/*.log")]
        assert (len(made), len(logs)) == (1, 2), (made, len(logs))
        assert sum("making the environment" in log for log in logs) == 1
        assert {
            path.relative_to(self.services.home).parts[0] for path in self.services.home.glob("worker*/logs/*")
        } == {
            "worker",
            "worker-2",
        }
        self.say("two workers at once, cold: the environment was made once, for both")

    def example(self) -> None:
        """An example's pipeline makes in Airflow what it makes locally."""
        hour = datetime.now(ZoneInfo("America/New_York")) - timedelta(hours=3)
        key = hour.strftime("%Y-%m-%dT%H")
        clicks = pl.DataFrame({"page": ["/", "/a", "/"], "hour": [key] * 3})
        for lake in (self.lake, self.home / "alone"):
            clicks.write_delta(str(lake / "raw" / "clicks"), delta_write_options={"partition_by": ["hour"]})
        self.trigger("clicks_hourly", "--date", key)
        self.aiflow("run", "clicks_hourly", "--date", key, environment="alone")
        both = [
            pl.read_delta(str(lake / "web" / "clicks_hourly")).sort("page").rows()
            for lake in (self.lake, self.home / "alone")
        ]
        assert (both[0], len(both[1])) == (both[1], 2), both
        self.say(f"clicks_hourly for {key}: the rows of a local run")

    def retry(self) -> None:
        """A task that fails is tried again, and its log, which a worker serves, shows the user's traceback."""
        self.trigger("retried")
        assert self.rows("retried") == ROWS
        self.say("a task that failed was tried again")

    def rollback(self) -> None:
        """Workers do the newest release, and the one before after a rollback."""
        first = json.loads(self.aiflow("--json", "deploy", "--list"))
        code = self.project / "trial.py"
        before = code.read_text()
        self.check_version("first")
        code.write_text(before.replace('"first"', '"second"'))
        self.aiflow("deploy")
        self.check_version("second")
        self.aiflow("deploy", "--rollback", _newest(first)[:12])
        self.check_version("first")
        code.write_text(before)
        self.say("a release, and a rollback: the workers did first, second, first")

    def check_version(self, expected: str) -> None:
        """Assert that workers do this version of the code, once Airflow has it."""
        self.until(self.is_newest_shown, "the release")
        self.trigger("changed")
        table = pl.read_delta(str(self.lake / "trial" / "changed"))
        assert table["version"].to_list() == [expected] * len(ROWS), table

    def killed_worker(self) -> None:
        """A worker that is killed with all its processes is followed by one who makes the table once."""
        self.trigger("killed", wait=False)
        victim, child = self.holder_of("killed")
        victim.kill()
        self.until(lambda: not is_alive(child), "the end of the task's process", 10)
        victim.start()
        self.until(lambda: self.rows("killed") == ROWS, "the table after the kill", 400)
        self.say(f"{victim.name} killed -9 in the middle of a task: the retry made the table, once")

    def stopped_worker(self) -> None:
        """A worker that is told to end does its task to the end."""
        self.trigger("stopped", wait=False)
        victim, _ = self.holder_of("stopped")
        assert victim.stop(120), f"{victim.name} did not end by itself"
        assert self.rows("stopped") == ROWS, "the task did not end with its worker"
        self.say(f"{victim.name} told to end: it did its task first")

    def holder_of(self, name: str) -> tuple[Service, int]:
        """Return the worker that does a task that waits, and the task's process."""
        self.until((self.signals / name).exists, f"the beginning of {name}", 120)
        child = int((self.signals / name).read_text())
        runner = watcher_of(child)
        for service in self.services.services.values():
            if service.process and runner in descendants_of(service.process.pid):
                return service, child
        raise AssertionError(f"no worker does {name}")

    def trigger(self, name: str, *arguments: str, wait: bool = True) -> None:
        """Start a pipeline in Airflow."""
        self.aiflow("unpause", name)
        self.aiflow("trigger", name, *arguments, *(["--wait"] if wait else []))

    def rows(self, name: str) -> list[int]:
        """Return what a pipeline of the trial has written."""
        table = self.lake / "trial" / name
        return sorted(pl.read_delta(str(table))["id"].to_list()) if (table / "_delta_log").exists() else []

    def is_shown(self, name: str) -> bool:
        """Tell whether Airflow has a pipeline."""
        return self._aiflow("runs", name, "--on", "airflow").returncode == 0

    def is_newest_shown(self) -> bool:
        """Tell whether Airflow has the newest release."""
        return "the newest release is there" in self._aiflow("doctor", "--airflow").stdout

    def aiflow(self, *arguments: str, environment: str = "prod") -> str:
        """Run the command line in the project and return what it prints."""
        done = self._aiflow(*arguments, environment=environment)
        assert done.returncode == 0, f"aiflow {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _aiflow(self, *arguments: str, environment: str = "prod") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(self.project), *arguments, "--env", environment],
            env={**os.environ, "AIFLOW_SECRET_AIRFLOW_PASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )

    def until(self, ask: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """Return the first answer that is not empty."""
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            self.services.check()
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come within {seconds:g} s")
            time.sleep(0.5)
        return found


def _password_in(log: str) -> str:
    """Return what the api-server says of its user ``admin``; nothing before it has."""
    _, _, said = log.partition("Password for user 'admin': ")
    line, ended, _ = said.partition("\n")
    return line.strip() if ended else ""


def _newest(listed: Any) -> str:
    return str(next(one["project_version"] for one in listed if one["current"]))


def main() -> int:
    """Try it in a new folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs and tables")
    is_kept = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends the services too
    home = Path(tempfile.mkdtemp(prefix="aiflow-compose-"))
    home.chmod(0o755)
    try:
        Trial(home).run()
    except AssertionError as error:
        print(f"FAILED: {error}\nlogs: {home / 'services'}", file=sys.stderr)
        return 1
    if not is_kept:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
