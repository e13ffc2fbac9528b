"""How a run's tasks come to their ends: pure rules, no clock, no disk, no process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TaskPhase = Literal["waiting", "running", "succeeded", "failed", "skipped", "blocked"]
"""``skipped``: not selected. ``blocked``: a task before it failed."""
RunPhase = Literal["running", "succeeded", "failed", "cancelled"]
Change = Literal["failed", "retried", "repeated"]
"""``repeated``: starts again under the number of the attempt that was ended through no fault of its own."""

_LONGEST_GROWN_SECONDS = 86_400.0
"""How long a pause that grows may become; Airflow's default too."""

_STORED = (
    "state",
    "attempt",
    "first_attempt",
    "repeat",
    "alone",
    "not_before",
    "started",
    "seconds",
    "error",
    "nodes",
    "code",
)


@dataclass
class TaskState:
    """One task of a run: what the plan allows it, and how far it has come."""

    task_id: str
    upstream: tuple[str, ...] = ()
    retries: int = 0
    retry_delay_seconds: float = 0
    retry_backoff: float = 1
    timeout_seconds: float | None = None
    state: TaskPhase = "waiting"
    attempt: int = 0
    """The number of the newest attempt; 0: none yet."""
    first_attempt: int = 1
    """The attempt from which on retries are counted; a resume starts the count anew."""
    repeat: bool = False
    """The next start does the newest attempt again."""
    alone: bool = False
    """It ran when the process died, with others: the next start has the process to itself."""
    not_before: float = 0
    """Moment (seconds since 1970) before which it does not start."""
    started: float | None = None
    seconds: float | None = None
    error: Mapping[str, Any] | None = None
    nodes: tuple[Mapping[str, Any], ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    """Node → fingerprint of the code that its newest attempt ran."""

    @property
    def pause_seconds(self) -> float:
        """How long after its newest attempt the next one starts."""
        longest = max(self.retry_delay_seconds, _LONGEST_GROWN_SECONDS)
        try:
            return min(longest, self.retry_delay_seconds * self.retry_backoff ** (self.attempt - self.first_attempt))
        except OverflowError:
            return longest

    def to_dict(self) -> dict[str, Any]:
        """Return what changes, JSON-ready; the rest stands in the plan."""
        return {name: getattr(self, name) for name in _STORED}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take over what :meth:`to_dict` gave; fields of a later version are ignored."""
        for name in _STORED:
            if name in data:
                setattr(self, name, data[name])
        self.nodes = tuple(self.nodes)


@dataclass
class RunState:
    """One run and its tasks. Moments are seconds since 1970 and come from the caller."""

    run: Mapping[str, Any]
    """As ``Run.to_full_dict`` gives it."""
    tasks: dict[str, TaskState]
    state: RunPhase = "running"
    started: float = 0
    seconds: float = 0
    """Of all doings of it together."""
    timeout_seconds: float | None = None
    errors: tuple[Mapping[str, Any], ...] = ()
    """Of the run itself, such as its time-out; a task's error stands with the task."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run["run_id"])

    @property
    def running(self) -> tuple[str, ...]:
        """The tasks that are at work."""
        return tuple(task.task_id for task in self.tasks.values() if task.state == "running")

    @property
    def superseded(self) -> tuple[str, ...]:
        """The sinks that changed nothing, or not all of a range, because a newer execution had written there."""
        return tuple(node["node_id"] for task in self.tasks.values() for node in task.nodes if node.get("superseded"))

    @property
    def ended(self) -> bool:
        """Whether no task will start any more."""
        return not any(task.state in ("waiting", "running") for task in self.tasks.values())

    def startable(self, now: float) -> list[str]:
        """Return the tasks that may start now, in the plan's order."""
        return [
            task.task_id
            for task in self.tasks.values()
            if task.state == "waiting" and task.not_before <= now and self._is_fed(task)
        ]

    def next_moment(self) -> float | None:
        """Return the moment at which the next task that waits for its retry may start."""
        return min(
            (
                task.not_before
                for task in self.tasks.values()
                if task.state == "waiting" and task.not_before and self._is_fed(task)
            ),
            default=None,
        )

    def start(self, task_id: str, now: float) -> TaskState:
        """Begin an attempt."""
        task = self.tasks[task_id]
        task.attempt += 0 if task.repeat and task.attempt else 1
        task.state, task.repeat, task.started, task.not_before, task.error = "running", False, now, 0, None
        return task

    def succeed(self, task_id: str, nodes: Iterable[Mapping[str, Any]], seconds: float) -> TaskState:
        """End the attempt well."""
        task = self.tasks[task_id]
        task.state, task.alone, task.nodes, task.seconds = "succeeded", False, tuple(nodes), seconds
        return task

    def fail(self, task_id: str, error: Mapping[str, Any], now: float) -> Change:
        """End the attempt badly; it is retried where the error and the plan allow it."""
        task = self.tasks[task_id]
        task.error, task.alone = error, False
        task.seconds = now - task.started if task.started is not None else None
        if error.get("retryable") and task.attempt - task.first_attempt < task.retries:
            task.state, task.not_before = "waiting", now + task.pause_seconds
            return "retried"
        task.state = "failed"
        self.block()
        return "failed"

    def repeat(self, task_id: str, *, alone: bool = False) -> Change:
        """Take the attempt back: it did not fail, its process was ended."""
        task = self.tasks[task_id]
        task.state, task.repeat, task.alone = "waiting", True, alone
        return "repeated"

    def end(self, now: float) -> None:
        """Say what came of the run, all of whose tasks have ended."""
        self.state = (
            "failed"
            if self.errors or any(task.state in ("failed", "blocked") for task in self.tasks.values())
            else "succeeded"
        )
        self.seconds += now - self.started

    def cancel(self, now: float) -> None:
        """Stop here; what was at work does not count, and a resume goes on from here."""
        for task_id in self.running:
            self.repeat(task_id)
        self.state = "cancelled"
        self.seconds += now - self.started

    def resume(self, now: float) -> None:
        """Begin again with what has not succeeded; each task has all its retries again."""
        for task in self.tasks.values():
            if task.state in ("failed", "blocked", "waiting", "running"):
                task.repeat = task.repeat or task.state == "running"
                task.state, task.not_before, task.alone = "waiting", 0, False
                task.first_attempt = task.attempt + (0 if task.repeat and task.attempt else 1)
        self.state, self.started, self.errors = "running", now, ()

    def block(self) -> None:
        """Give up what waits for a task that failed."""
        for task in self.tasks.values():  # in the plan's order: each after its upstream tasks
            if task.state == "waiting" and any(self.tasks[up].state in ("failed", "blocked") for up in task.upstream):
                task.state = "blocked"

    def _is_fed(self, task: TaskState) -> bool:
        return all(self.tasks[upstream].state in ("succeeded", "skipped") for upstream in task.upstream)


@dataclass(frozen=True)
class Loss:
    """Why a process that ran tasks is no more."""

    kind: Literal["died", "task-timeout", "run-timeout"]
    error: Mapping[str, Any]
    run_id: str | None = None
    """Of a time-out: whose."""
    task_id: str | None = None


def take_loss(states: Sequence[RunState], loss: Loss, now: float) -> list[tuple[RunState, str, Change]]:
    """Apply the loss of a process to all runs that it was doing, and return what became of each task at work.

    A task over its time failed, whatever else ran with it did not. If the process died by itself, the only task at work
    is the culprit; of several none is blamed, and each runs alone next, so that the culprit dies alone.
    """
    lost = [(state, task_id) for state in states for task_id in state.running]
    changes: list[tuple[RunState, str, Change]] = []
    for state, task_id in lost:
        match loss.kind:
            case "died":
                guilty = len(lost) == 1
            case "task-timeout":
                guilty = (state.run_id, task_id) == (loss.run_id, loss.task_id)
            case "run-timeout":
                guilty = state.run_id == loss.run_id
        error = {**loss.error, "retryable": False} if loss.kind == "run-timeout" else loss.error
        change = state.fail(task_id, error, now) if guilty else state.repeat(task_id, alone=loss.kind == "died")
        changes.append((state, task_id, change))
    for state in states:
        # A process that died with no task at work died of something that would kill the next one too.
        if (loss.kind == "run-timeout" and state.run_id == loss.run_id) or not lost:
            state.errors = (*state.errors, loss.error)
            for task in state.tasks.values():
                if task.state == "waiting":
                    task.state = "blocked"
    return changes
