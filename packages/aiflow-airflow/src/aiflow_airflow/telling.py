"""What an attempt on a worker tells the world: the OpenLineage events that a local run tells, spooled here first.

The spools lie in ``<home>/events/<environment>/<project>``. After each attempt a process in the user's own environment
takes what lies there to the environment's listeners (:mod:`aiflow_sdk.runtime.forward`): they are the user's packages.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiflow_airflow.aside import LEFT
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.lineage import AttemptMark, Lineage, RunSpool, event_of_record, worker_spools
from aiflow_sdk.plan import Plan, PlanTask, Run, TaskResult
from aiflow_sdk.redaction import REDACTOR

if TYPE_CHECKING:
    from aiflow_airflow.supply import Ready

_log = logging.getLogger(__name__)
FORWARDING_SECONDS = 5.0
"""How long a task that has ended waits until its events were taken to the listeners; that goes on without it."""


class Telling:
    """Tells of one attempt of a task. Whatever goes wrong with that is logged and fails nothing."""

    def __init__(
        self,
        plan: Plan,
        task: PlanTask,
        run: Run,
        *,
        resumed: bool = False,
        is_final: bool = True,
        states: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """``resumed``: the attempt has begun before, and waited; ``is_final``: if it fails, it is not tried again.

        ``states`` returns Airflow's states of the run's tasks. After a clear it is asked at once.
        """
        self._plan, self._task, self._run = plan, task, run
        self._states = states
        self._left_alone: frozenset[str] = frozenset()
        self._resumed, self._is_final = resumed, is_final
        self.folder = worker_spools(run.environment, run.project)
        self._spool = RunSpool(self.folder, run.run_id)
        self._lineage = Lineage(plan, run)
        self._mark: AttemptMark | None = None
        self._has_begun = False
        self._results: Mapping[str, TaskResult] = {}
        self._ended_now: frozenset[str] = frozenset()
        self._tells = True
        self._columns: Mapping[str, Any] | None = None
        self._ready: Ready | None = None
        self._usage: Mapping[str, Any] | None = None
        if run.execution > 1 and len(plan.tasks) > 1:
            with _harmless():
                self._left_alone = frozenset(name for name, state in states().items() if _is_success(state))

    def prepared(self, ready: Ready) -> None:
        """Take with what events are forwarded later."""
        self._ready = ready

    def hear(self, record: Mapping[str, Any]) -> None:
        """Take a record of the task's process."""
        with _harmless():
            match record["record"]:
                case "task-began":
                    self._began(record)
                case "task-used":
                    self._usage = record["usage"]
                case "others-ended":
                    self._ended_now = frozenset(record["now"])
                    # An older aiflow in the user's environment does not say who does.
                    self._tells = record.get("tells", True)
                    # Queries are read there, where the package is that reads them.
                    self._columns = record.get("columns")
                    self._results = {name: TaskResult.from_dict(one) for name, one in record["results"].items()}

    def succeeded(self, result: TaskResult) -> None:
        """Tell that the attempt, and perhaps with it the run, has succeeded."""
        with _harmless():
            self._end("task-finished", seconds=result.seconds, nodes=[facts.to_full_dict() for facts in result.nodes])
            results = {**self._results, self._task.id: result}
            is_all = len(results) == len(self._plan.tasks)
            if is_all and (self._tells or len(self._plan.tasks) == 1) and self._others_have_succeeded():
                self._tell("run-finished", results, state="succeeded", columns=self._columns)

    def failed(self, error: AiflowError, *, again: bool) -> None:
        """Tell that the attempt has failed and, unless it is tried ``again``, the run."""
        with _harmless():
            if not self._has_begun:  # there was no process that could say so
                if not (self._task.upstream or self._resumed or self._has_told_start()):
                    self._tell("run-started", {})
                self._begin()
            again = again and not self._is_final
            self._end("task-retried" if again else "task-failed", error=error.to_dict())
            if not again:
                self._tell("run-finished", self._results, state="failed", errors=[error.to_dict()])

    def left(self) -> None:
        """Tell that nothing came of the attempt, and so of the run: there was nothing for it to do."""
        with _harmless():
            self._end("task-cancelled")
            self._tell("run-finished", self._results, state="cancelled")

    def put_off(self) -> None:
        """Let the attempt go on later, perhaps elsewhere."""
        with _harmless():
            self._close_mark()

    def forward(self, *, seconds: float = FORWARDING_SECONDS) -> None:
        """Have the listeners hear of what lies here, and wait a moment for that."""
        if self._ready is None or not self._plan.environment.listeners:
            return
        with _harmless():
            from aiflow_airflow.secrets import secrets_of_listeners

            order = {
                "events": str(self.folder),
                "plan": str(self._ready.plan),
                "project": str(self._ready.folder),
                "secrets": secrets_of_listeners(self._plan),
            }
            process = subprocess.Popen(
                [str(self._ready.python), "-P", "-m", "aiflow_sdk.runtime.forward"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._ready.folder,
                env=dict(self._ready.environment),
                start_new_session=True,  # it outlives this task, also one that is killed
            )
            try:
                said, _ = process.communicate(json.dumps(order).encode() + b"\n", timeout=seconds)
            except subprocess.TimeoutExpired:
                LEFT.append(process)
                said = b""
            for line in said.decode("utf-8", "replace").splitlines():
                _log.warning("%s", REDACTOR.hide(line))

    def _began(self, record: Mapping[str, Any]) -> None:
        # Those of an older aiflow in the user's environment say less.
        version = record.get("engine_version")
        run = Run.model_validate({**dict(self._run), "generation": record["generation"]})
        self._lineage = Lineage(self._plan, run, lambda task: version)
        is_first = record.get("is_first") and not self._resumed
        if is_first and (self._run.attempt == 1 or not self._has_told_start()):
            self._tell("run-started", {})
        self._begin()

    def _has_told_start(self) -> bool:
        """Tell whether somebody has told here that the execution of the run began."""
        return any(
            event["eventType"] == "START"
            and event["run"]["runId"] == self._run.run_id
            and event["run"]["facets"]["aiflow_run"]["execution"] == self._run.execution
            for event in self._spool.events()
        )

    def _begin(self) -> None:
        self._has_begun = True
        self._start_spool()
        event = self._event("task-started", {}, task_id=self._task.id, attempt=self._run.attempt)
        self._mark = AttemptMark(self._spool, event)
        if not self._resumed:
            self._spool.append(event)

    def _start_spool(self) -> None:
        self._spool.begin(self._run.environment, [one.name for one in self._plan.environment.listeners])

    def _end(self, kind: str, **facts: Any) -> None:
        if self._usage:
            facts["usage"] = self._usage
        self._tell(kind, {}, task_id=self._task.id, attempt=self._run.attempt, **facts)
        self._close_mark()

    def _close_mark(self) -> None:
        if self._mark:
            self._mark.close()
            self._mark = None

    def _tell(self, kind: str, results: Mapping[str, TaskResult], **facts: Any) -> None:
        self._start_spool()  # one that has lain here for long may have been collected
        self._spool.append(self._event(kind, results, **facts))

    def _event(self, kind: str, results: Mapping[str, TaskResult], **facts: Any) -> dict[str, Any]:
        event = event_of_record(self._lineage, {"record": kind, "time": time.time(), **facts}, results)
        assert event is not None  # each of these records stands for one
        return event

    def _others_have_succeeded(self) -> bool:
        """Tell whether nothing of the run is left to do: a clear may have set some of its tasks back.

        One that has ended since, and had not when this task looked, has seen that this one had, and tells itself.
        """
        others = {task.id for task in self._plan.tasks} - {self._task.id} - self._ended_now
        if not others:
            return True
        found = self._states()
        return others <= self._left_alone and all(_is_success(found.get(name)) for name in others)


def _is_success(state: Any) -> bool:
    return str(getattr(state, "value", state)) == "success"


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 a full disk or a fault of ours: the task's own work counts
        _log.warning("not told: %s: %s", type(error).__name__, error)
