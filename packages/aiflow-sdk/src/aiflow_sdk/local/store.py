"""The runs of a project, as files below ``.aiflow/runs``: readable with nothing but a text editor.

A run's folder holds ``run.json`` (request, names, state), ``plan.json``, ``tasks/<task>.json`` (its state), ``logs/``
(one file of JSON lines an attempt, see :mod:`aiflow_sdk.local.records`) and ``events.jsonl``. Each file but the logs is
replaced as a whole, so a reader never sees half of one. ``owner.lock`` says who does the run
(:mod:`aiflow_sdk.local.ownership`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import DocumentError, UnknownNameError, Where, unknown_name
from aiflow_sdk.local.documents import is_moment, read_plan_document, read_run_document, read_task_document, reading
from aiflow_sdk.local.ownership import LETTING_GO_SECONDS, Ownership
from aiflow_sdk.local.state import RunState, TaskState
from aiflow_sdk.stores import folder_name, replace_file, writing

RUN_VERSION = 1
HOME = ".aiflow"


@dataclass(frozen=True)
class RunRecord:
    """What ``run.json`` says of a run."""

    run: Mapping[str, Any]
    state: str
    """``running``, ``succeeded``, ``failed``, ``cancelled``, or ``interrupted``: who did it is gone without a word."""
    started: float
    seconds: float
    timeout_seconds: float | None
    version: str
    definition: str
    selection: Mapping[str, str]
    errors: tuple[Mapping[str, Any], ...]
    folder: str

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run["run_id"])

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id."""
        return str(self.run["pipeline_id"])

    @property
    def partition(self) -> str:
        """The partition's key, ``first..last`` of a range, ``-`` where there is none."""
        return partition_text(self.run)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready data."""
        return {**vars(self), "errors": list(self.errors), "partition": self.partition}


def partition_text(run: Mapping[str, Any]) -> str:
    """Return what a run is for, as ``Run.partition_text`` does."""
    first, last = run.get("partition_key"), run.get("last_partition_key")
    return f"{first}..{last}" if last else str(first or "-")


class RunFolder:
    """The files of one run."""

    def __init__(self, project: str | Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = runs_folder(project) / run_id
        self._ownership = Ownership(self.path)
        self._document: dict[str, Any] = {}

    def create(
        self,
        state: RunState,
        plan_json: str,
        *,
        selection: Mapping[str, str],
        places: Mapping[str, Where] | None = None,
    ) -> None:
        """Write a new run. Raises ``StoreError`` where the project's folder takes no files."""
        plan = json.loads(plan_json)
        self._document = {
            "run_version": RUN_VERSION,
            "version": plan["version"],
            "definition": plan["definition"],
            "selection": dict(selection),
            "places": places_document(places or {}),
        }
        with writing(self.path):
            make_home(self.path.parents[1])
            for name in ("tasks", "logs"):
                (self.path / name).mkdir(parents=True)
        self.write_plan(plan_json)
        self.save(state)
        self.save_tasks(state, "skipped")

    def write_plan(self, plan_json: str) -> None:
        """Write the plan, replacing an older one."""
        replace_file(self.path / "plan.json", plan_json)

    def save(self, state: RunState, **facts: Any) -> None:
        """Write what is known of the run itself; ``facts`` replace what was written when it was created."""
        document = self._document or self._read()
        document |= facts | {
            "run": dict(state.run),
            "state": state.state,
            "started": state.started,
            "seconds": round(state.seconds, 3),
            "timeout_seconds": state.timeout_seconds,
            "errors": list(state.errors),
        }
        self._document = document
        replace_file(self.path / "run.json", json.dumps(document, ensure_ascii=False, indent=1))

    def save_task(self, task: TaskState) -> None:
        """Write the state of one task."""
        path = self.path / "tasks" / f"{folder_name(task.task_id)}.json"
        replace_file(path, json.dumps(task.to_dict(), ensure_ascii=False))

    def save_tasks(self, state: RunState, phase: str) -> None:
        """Write the states of all tasks in one phase."""
        for task in state.tasks.values():
            if task.state == phase:
                self.save_task(task)

    def record(self) -> RunRecord:
        """Return what is known of the run itself."""
        data = self._read()
        state = str(data["state"])
        if state == "running" and not self._ownership.is_mine:
            with reading(self.path / "owner.lock"):
                state = "running" if self.is_owned() else "interrupted"
        return RunRecord(
            run=data["run"],
            state=state,
            started=data["started"],
            seconds=data["seconds"],
            timeout_seconds=data.get("timeout_seconds"),
            version=data["version"],
            definition=data["definition"],
            selection=data.get("selection") or {},
            errors=tuple(data.get("errors") or ()),
            folder=str(self.path),
        )

    def places(self) -> dict[str, Where]:
        """Return where each node was written, by id; under ``""`` the pipeline itself."""
        return {node_id: Where(path, line) for node_id, (path, line) in (self._read().get("places") or {}).items()}

    def load(self) -> RunState:
        """Return the run with the states of its tasks, as they were written last."""
        data = self._read()
        state = RunState(
            run=data["run"],
            tasks=self._tasks(),
            state=data["state"],
            started=data["started"],
            seconds=data["seconds"],
            timeout_seconds=data.get("timeout_seconds"),
            errors=tuple(data.get("errors") or ()),
        )
        for task_id, task in state.tasks.items():
            path = self.path / "tasks" / f"{folder_name(task_id)}.json"
            if path.exists():
                task.load(read_task_document(path))
        state.block()
        return state

    def plan(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return read_plan_document(self.path / "plan.json")

    def plan_text(self) -> str:
        """Return the plan as it was written."""
        with reading(self.path / "plan.json"):
            return (self.path / "plan.json").read_text("utf-8")

    def log_path(self, task_id: str, execution: int, attempt: int) -> Path:
        """Return where the lines of an attempt go."""
        return self.path / "logs" / f"{folder_name(task_id)}.{execution}.{attempt}.log"

    @property
    def events_path(self) -> Path:
        """Where the run's events are kept."""
        return self.path / "events.jsonl"

    def own(self, *, wait_seconds: float = LETTING_GO_SECONDS) -> None:
        """Mark this process as the one that does the run, until it ends.

        Raises ``RunError`` where another one still does it after ``wait_seconds``, or will.
        """
        self._ownership.take(self.run_id, wait_seconds=wait_seconds)

    def disown(self) -> None:
        """Let the run go."""
        self._ownership.leave()

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Do the run meanwhile. Raises as :meth:`own`."""
        self.own()
        try:
            yield
        finally:
            self.disown()

    def is_owned(self) -> bool:
        """Whether a process does the run, or its session goes on and starts the next one. Raises ``OSError``."""
        return self._ownership.is_taken()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep everybody from doing the run meanwhile; yields False where somebody does it. Raises ``OSError``."""
        try:
            yield self._ownership.hold()
        finally:
            self._ownership.leave()

    def _tasks(self) -> dict[str, TaskState]:
        with reading(self.path / "plan.json"):
            return tasks_of_plan(self.plan())

    def _read(self) -> dict[str, Any]:
        data = read_run_document(self.path / "run.json")
        if data.get("run_version", 0) > RUN_VERSION:
            raise DocumentError(
                "newer-document", f"{self.path} was written by a newer aiflow", hint="upgrade aiflow-sdk"
            )
        return data


def places_document(places: Mapping[str, Where]) -> dict[str, Any]:
    """Return places as ``run.json`` holds them."""
    return {node_id: [place.path, place.line] for node_id, place in places.items()}


def tasks_of_plan(plan: Mapping[str, Any]) -> dict[str, TaskState]:
    """Return the tasks of a plan (as plain data), none of them begun."""
    return {
        task["id"]: TaskState(
            task_id=task["id"],
            upstream=tuple(task["upstream"]),
            retries=task["retries"],
            retry_delay_seconds=task["retry_delay_seconds"],
            retry_backoff=task.get("retry_backoff", 1),  # a plan of an older version has none
            timeout_seconds=task["timeout_seconds"],
        )
        for task in plan["tasks"]
    }


def runs_folder(project: str | Path) -> Path:
    """Return the folder that holds a project's runs."""
    return Path(project) / HOME / "runs"


def list_runs(
    project: str | Path,
    *,
    pipeline: str | None = None,
    environment: str | None = None,
    limit: int | None = None,
    damaged: Callable[[str, DocumentError], None] = lambda run_id, error: None,
) -> list[RunRecord]:
    """Return the project's runs, the newest first; ``damaged`` is told of each whose document cannot be read."""
    found: list[RunRecord] = []
    for run_id in newest_run_ids(project):
        if limit is not None and len(found) >= limit:
            break
        folder = RunFolder(project, run_id)
        try:
            record = folder.record()
        except DocumentError as error:
            if (folder.path / "run.json").exists():  # else it was begun a moment ago and is not written yet
                damaged(run_id, error)
            continue
        if pipeline in (None, record.pipeline_id) and environment in (None, record.run["environment"]):
            found.append(record)
    return found


def newest_run_ids(project: str | Path, limit: int | None = None) -> list[str]:
    """Return the ids of the project's runs, the newest first."""
    return sorted(_run_ids(project), reverse=True)[:limit]


def find_run(project: str | Path, run_id: str) -> RunFolder:
    """Return the run of that id or unique beginning or end of one. Raises ``UnknownNameError``."""
    known = _run_ids(project)
    matches = (
        [run_id]
        if run_id in known
        else [name for name in known if run_id and (name.startswith(run_id) or name.endswith(run_id))]
    )
    if len(matches) == 1:
        return RunFolder(project, matches[0])
    if not matches:
        newest = ", ".join(short_run_id(name) for name in sorted(known, reverse=True)[:5])
        raise UnknownNameError(
            "unknown-run",
            f"unknown run '{run_id}'",
            hint=f"the newest are: {newest}" if newest else "there is no run yet",
        )
    raise UnknownNameError(
        "ambiguous-run",
        f"{len(matches)} runs begin or end with '{run_id}'",
        hint="write the end of the id, or all of it",
        notes=[f"{short_run_id(name)} ({name})" for name in sorted(matches, reverse=True)[:10]],
    )


def short_run_id(run_id: str) -> str:
    """Return the end of a run's id, by which every command knows it: two runs of one minute begin alike.

    Of Airflow's ids that are a moment and nothing else it is the whole moment: the end is the time zone alone.
    """
    end = run_id[-8:]
    return run_id.rpartition("__")[2] if ":" in end else end


def read_run(project: str | Path, run_id: str) -> tuple[RunRecord, RunState]:
    """Return what is known of a run, by its id or the unique beginning or end of one, and of its tasks."""
    folder = find_run(project, run_id)
    return folder.record(), folder.load()


def read_log(
    project: str | Path, run_id: str, task_id: str | None = None, attempt: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the log records of a run, or of a task or attempt of it, in the order of their time.

    Raises ``UnknownNameError`` for a task that the run does not have.
    """
    folder = find_run(project, run_id)
    tasks = [task["id"] for task in folder.plan()["tasks"]]
    if task_id is not None and task_id not in tasks:
        raise unknown_name("unknown-task", "task", task_id, tasks)
    entries: list[dict[str, Any]] = []
    with reading(folder.path / "logs"):
        for path in (folder.path / "logs").iterdir():
            owner, _, number = path.stem.rpartition(".")
            if task_id is None or (
                owner.rpartition(".")[0] == folder_name(task_id) and (attempt is None or number == str(attempt))
            ):
                entries.extend(_log_records(path))
    entries.sort(key=lambda entry: entry["time"])
    yield from entries


def _log_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log file, and one that says how many of its lines are none."""
    garbled, newest = 0, 0.0
    *lines, rest = path.read_text("utf-8", errors="replace").split("\n")
    for line in (*lines, rest):
        try:
            entry = json.loads(line)
            if not (is_moment(entry["time"]) and isinstance(entry["message"], str) and isinstance(entry["level"], str)):
                raise ValueError("no log record")
            newest = max(newest, entry["time"])
        except (ValueError, TypeError, KeyError):
            # What has no line end, a process was writing when it was killed.
            garbled += line is not rest and bool(line.strip())
            continue
        yield entry
    if garbled:
        yield {
            "record": "log",
            "time": newest or path.stat().st_mtime,
            "stream": "log",
            "level": "warning",
            "message": f"{garbled} of the lines in {path} cannot be read",
        }


def _run_ids(project: str | Path) -> list[str]:
    try:
        return os.listdir(runs_folder(project))
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_home(path: Path) -> None:
    """Make a project's ``.aiflow`` folder, which git is told to leave alone."""
    ignore = path / ".gitignore"
    if not ignore.exists():  # the folder may be there already, for discovery's cache
        path.mkdir(parents=True, exist_ok=True)
        ignore.write_text("*\n", "utf-8")
