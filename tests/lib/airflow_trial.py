"""A live Airflow for tests, spoken to through its REST API as a person's tools do, and projects deployed to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
AIRFLOW_PYTHON = REPOSITORY / ".venv-airflow" / "bin" / "python"
LOCK = REPOSITORY / "locks" / "demo.txt"
"""What the user's environment holds: engines, and what the examples read."""
_ENDED = ("success", "failed")
_WHO = """
import json, os, pathlib

def ancestors(process):
    while process > 1:
        yield process
        process = int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

def command_of(process):
    return pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(bytes(1), b" ").decode()

who = {"command": command_of("self"), "parent": command_of(os.getppid()), "ancestors": list(ancestors(os.getpid()))}
with pathlib.Path(IMPORTS).open("a") as file:
    file.write(json.dumps(who) + os.linesep)
"""
"""A module of each project that writes down who imports the project's code."""
_TASK = " -P -m aiflow_sdk.runtime.child "
_FORKS = " -P -m aiflow_sdk.runtime.forkserver "
_DISCOVERY = " -P -m aiflow_sdk.discovery "


class LiveAirflow:
    """A stock Airflow on loopback over a bundle store; ``stop`` ends it."""

    def __init__(
        self,
        home: Path,
        store: Path,
        environment: str = "test",
        settings: Mapping[str, str] | None = None,
        database: str | None = None,
    ) -> None:
        """``database``: the address of one of PostgreSQL; None: SQLite."""
        self.home, self.store, self.environment = home, store, environment
        self.settings = dict(settings or {})
        self.dags = home.with_name(f"{home.name}-dags")
        """DAG files of one's own."""
        self.imports = home.with_name(f"{home.name}-imports")
        """Who imported the code of which project; see :meth:`check_imports`."""
        self.found_by_files: set[str] = set()
        """The projects that a DAG file looks into, in a child process that imports their code too."""
        for folder in (self.dags, self.imports):
            folder.mkdir(parents=True)
        self.log = home.with_suffix(".log")
        address = f"--database=postgresql+psycopg2://{database.partition('://')[2]}" if database else None
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(AIRFLOW_PYTHON),
                    "-m",
                    "aiflow_airflow.standalone",
                    f"--home={home}",
                    f"--store={store}",
                    f"--environment={environment}",
                    f"--dags={self.dags}",
                    "--port=0",
                    *([address] if address else []),
                    *(f"--setting={name}={value}" for name, value in self.settings.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            )
        self.url = self._await_url()

    def stop(self) -> None:
        """End it and all that it started."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def check_imports(self) -> int:
        """Assert that of all that Airflow started, tasks' own processes alone have imported user code.

        Returns how many have.
        """
        tasks = 0
        for file in self.imports.iterdir():
            for who in map(json.loads, file.read_text().splitlines()):
                if _FORKS in who["command"]:
                    assert _FORKS in who["parent"], (file.name, who)  # a fork, and not the server itself
                    tasks += 1
                elif self._process.pid not in who["ancestors"]:
                    assert os.getpid() in who["ancestors"], (file.name, who)  # an author, here the tests themselves
                elif _TASK in who["command"]:
                    tasks += 1
                else:
                    assert _DISCOVERY in who["command"], (file.name, who)
                    assert file.name in self.found_by_files, (file.name, who)
        return tasks

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Return what the REST API answers; an error's text is in the exception."""
        address = f"{self.url}/api/v2/{path}" + (f"?{urllib.parse.urlencode(query, doseq=True)}" if query else "")
        request = urllib.request.Request(
            address,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from error
        return json.loads(text) if text else None

    def await_dag(self, dag_id: str, seconds: float = 180) -> dict[str, Any]:
        """Return a DAG once it is there."""
        found: dict[str, Any] = self.until(lambda: self._dag(dag_id), f"the DAG {dag_id}", seconds)
        return found

    def version_of(self, dag_id: str) -> int:
        """Return the number of the DAG's newest version; 0 where there is none."""
        found = self.call("GET", f"dags/{dag_id}/dagVersions", order_by="-version_number")["dag_versions"]
        return found[0]["version_number"] if found else 0

    def unpause(self, dag_id: str) -> None:
        """Let it run."""
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Let it run no more."""
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": True})

    def trigger(self, dag_id: str, partition: str | None = None, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": dict(conf or {}), "partition_key": partition}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs, the oldest first."""
        found: list[dict[str, Any]] = self.call("GET", f"dags/{dag_id}/dagRuns", order_by="id", limit=100)["dag_runs"]
        return found

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        found: dict[str, Any] = self.call("GET", f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}")
        return found

    def await_run(self, dag_id: str, run_id: str, state: str = "success", seconds: float = 400) -> dict[str, Any]:
        """Return a run once it has ended in that state; else the tasks' logs are told."""
        ended: dict[str, Any] = self.until(
            lambda: one if (one := self.run(dag_id, run_id))["state"] in _ENDED else None, f"run {run_id}", seconds
        )
        assert ended["state"] == state, f"{run_id} is {ended['state']}\n" + "\n".join(
            f"--- {task['task_id']} ({task['state']})\n{self.task_log(dag_id, run_id, task['task_id'])}"
            for task in self.tasks(dag_id, run_id)
        )
        return ended

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances."""
        path = f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}/taskInstances"
        found: list[dict[str, Any]] = self.call("GET", path)["task_instances"]
        return found

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return one task instance."""
        return next(task for task in self.tasks(dag_id, run_id) if task["task_id"] == task_id)

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int | None = None) -> str:
        """Return the log of an attempt (None: the last), a line an event."""
        run = urllib.parse.quote(run_id, safe="")
        number = attempt or self.task(dag_id, run_id, task_id)["try_number"] or 1
        answer = self.call(
            "GET", f"dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/logs/{number}", full_content="true"
        )
        lines = []
        for line in answer["content"]:
            lines.append(line if isinstance(line, str) else str(line.get("event", line)))
            lines += [str(line["error_detail"])] if isinstance(line, dict) and line.get("error_detail") else []
        return "\n".join(lines)

    def clear(self, dag_id: str, run_id: str, *task_ids: str, **options: Any) -> None:
        """Have a run done again, or these of its tasks with what follows them."""
        run = urllib.parse.quote(run_id, safe="")
        if not task_ids:
            self.call("POST", f"dags/{dag_id}/dagRuns/{run}/clear", {"dry_run": False, "only_failed": False, **options})
            return
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": True,
            **options,
        }
        self.call("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def until(self, ask: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """Return the first answer that is not empty."""
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come within {seconds:g} s; errors: {self._import_errors()}")
            time.sleep(0.3)
        return found

    def log_of(self, component: str) -> str:
        """Return what one of Airflow's processes has printed."""
        path = self.home / f"{component}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _dag(self, dag_id: str) -> dict[str, Any] | None:
        found = self.call("GET", "dags", dag_id_pattern=dag_id, exclude_stale="true")["dags"]
        return next((dag for dag in found if dag["dag_id"] == dag_id), None)

    def _import_errors(self) -> Any:
        return self.call("GET", "importErrors")["import_errors"]

    def _await_url(self) -> str:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            for line in self.log.read_text("utf-8", "replace").splitlines():
                if line.startswith("Airflow: "):
                    return line.split()[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f"Airflow did not start:\n{self.log.read_text('utf-8', 'replace')}")


class Project:
    """A project in a folder, deployed to an Airflow, and run locally beside it in an environment of its own."""

    def __init__(self, root: Path, airflow: LiveAirflow, name: str = "default") -> None:
        self.root, self.airflow, self.name = root, airflow, name
        (root / "pipelines").mkdir(parents=True, exist_ok=True)
        (root / "pipelines" / "__init__.py").touch()
        watch_imports(root, airflow.imports / name)
        shutil.copy(LOCK, root / "requirements.txt")
        (root / "aiflow.toml").write_text(
            f'project = "{name}"\nlock = "requirements.txt"\n\n'
            f'[environments.{airflow.environment}]\nlake = "{root / "lake-airflow"}"\nbundles = "{airflow.store}"\n\n'
            f'[environments.alone]\nlake = "{root / "lake-alone"}"\n'
        )

    @property
    def lakes(self) -> tuple[Path, Path]:
        """The lake that Airflow's runs write to, and the one of local runs."""
        return self.root / "lake-airflow", self.root / "lake-alone"

    def write(self, path: str, text: str) -> None:
        """Write a file of the project; a module writes down who imports it."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        is_told = "import who_imports\n" in text or not path.endswith(".py")
        place.write_text(text if is_told else f"{text}\nimport who_imports\n")

    def aiflow(self, *arguments: str, expected: int = 0) -> str:
        """Run the command line in the project and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "aiflow_sdk.cli", *arguments], cwd=self.root, capture_output=True, text=True
        )
        assert done.returncode == expected, f"aiflow {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def deploy(self) -> dict[str, Any]:
        """Deploy it and return what the command tells."""
        answer: dict[str, Any] = json.loads(self.aiflow("--json", "deploy", "--env", self.airflow.environment))
        return answer

    def run_alone(self, pipeline: str, date: str | None = None) -> None:
        """Run a pipeline locally, in the other lake."""
        self.aiflow("run", pipeline, "--env", "alone", *(["--date", date] if date else []))


def watch_imports(root: Path, imports: Path) -> None:
    """Give a project a module that writes into ``imports`` who imports it; the project's own modules have to do so."""
    (root / "who_imports.py").write_text(_WHO.replace("IMPORTS", repr(str(imports))))


def watcher_of(process: int) -> int:
    """Return the process that hears what a task's process prints: Airflow's runner of the task."""
    pipe = os.readlink(f"/proc/{process}/fd/1")
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it has ended, or has closed it
            if int(handle.parts[2]) != process and os.readlink(handle) == pipe:
                return int(handle.parts[2])
    raise AssertionError(f"nobody hears what {process} prints")


def parent_of(process: int) -> int:
    """Return the process that started a process."""
    return int(_status_of(process)[1])


def is_alive(process: int) -> bool:
    """Tell whether a process is there and not merely waits for somebody to ask how it ended."""
    try:
        return _status_of(process)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _status_of(process: int) -> list[str]:
    """Return state, parent and so on, as ``/proc`` tells them."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
