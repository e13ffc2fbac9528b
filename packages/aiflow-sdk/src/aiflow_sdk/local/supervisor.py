"""Runs a pipeline or a backfill in a child process, and sees to it that whatever happens there ends in a known state.

The child does all the work (:mod:`aiflow_sdk.local.worker`). This side needs the standard library alone, so that a
command line has started it before it has imported anything heavy. It passes the child's records on, ends a child whose
task is over its time, starts the next one, hears Ctrl-C, and leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from aiflow_sdk.errors import AiflowError, ProblemsError, RunError, TaskTimeoutError, plural
from aiflow_sdk.local.imports import ModuleWatch
from aiflow_sdk.local.logs import append_log
from aiflow_sdk.local.process import WorkerProcess
from aiflow_sdk.local.records import OnRecord, Record, make_record
from aiflow_sdk.local.request import BackfillRequest, RunRequest, interpreter_of
from aiflow_sdk.local.session import SESSION_DIR, session, stop_servers
from aiflow_sdk.local.settling import settle_end, settle_loss
from aiflow_sdk.local.state import Loss
from aiflow_sdk.local.store import RunFolder
from aiflow_sdk.local.summary import BackfillSummary, RunSummary, summarize_backfill, summarize_run
from aiflow_sdk.redaction import REDACTOR

CANCEL_GRACE_SECONDS = 5.0
"""How long a child has to stop by itself after the first Ctrl-C."""
CLOSE_SECONDS = 40.0
"""How long the last child has to write down how runs ended, and to tell listeners of it."""
_OUTPUT_LINES = 30
"""How many of the last lines that a child printed are told when it dies."""

Outcome = TypeVar("Outcome", RunSummary, BackfillSummary)


def run_pipeline_locally(request: RunRequest, on_record: OnRecord | None = None) -> RunSummary:
    """Do one run in a child process and return what came of it; a run that fails is returned, not raised.

    ``on_record`` hears every record as it comes (:mod:`aiflow_sdk.local.records`), in this thread. Raises the
    ``AiflowError`` of a run that could not begin. Ctrl-C (SIGINT, SIGTERM, or ``on_record`` raises
    ``KeyboardInterrupt``) ends the child and gives a run that is ``cancelled`` and can be resumed; before the run has
    begun it is a ``KeyboardInterrupt``.
    """
    supervisor = _Supervisor(request, on_record or (lambda record: None))
    return supervisor.supervise(lambda: summarize_run(supervisor.folders[-1]))


def backfill(request: BackfillRequest, on_record: OnRecord | None = None) -> BackfillSummary:
    """Make every partition of a range that is not up to date, in one child process, and return what came of it.

    Doing it again after a Ctrl-C goes on with what is missing. Raises as :func:`run_pipeline_locally`.
    """
    began = time.time()
    supervisor = _Supervisor(request, on_record or (lambda record: None))
    return supervisor.supervise(lambda: _finish_backfill(supervisor, began))


@dataclass
class _Watched:
    """A run that the child is doing."""

    folder: RunFolder
    ids: Mapping[str, Any]
    """What every record of the run carries."""
    deadline: float | None
    timeout_seconds: float | None
    running: dict[str, tuple[int, float | None, float | None]] = field(default_factory=dict)
    """Task → attempt, deadline, time allowed."""


class _Supervisor:
    def __init__(self, request: RunRequest | BackfillRequest, on_record: OnRecord) -> None:
        self.request = request
        self._on_record = on_record
        self.live: dict[str, _Watched] = {}
        self.folders: list[RunFolder] = []
        """Of every run, in the order of their beginnings."""
        self.finished: list[str] = []
        self.ended_alone: dict[str, list[Record]] = {}
        """Run id → what was told of a run after its last process was gone; the journal has not heard it."""
        self.failure: dict[str, Any] | None = None
        self.plan_record: Record = {}
        """The ``backfill-started`` record."""
        self.interrupts = 0
        self.output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._wake_read, self._wake_write = os.pipe()
        self._worker_spoke = False
        self._imports = ModuleWatch()

    def supervise(self, finish: Callable[[], Outcome]) -> Outcome:
        """Start children until all is done, and return what ``finish`` makes of it."""
        python = interpreter_of(self.request)
        try:
            with self._signals(), session() as environment:
                loss: Loss | None = None
                while True:
                    worker = self._start(python, environment, loss)
                    try:
                        loss = self._watch(worker)
                    finally:
                        worker.close()
                    if loss is not None and loss.kind != "died":
                        # What the overdue task asked of a server may still be at work there.
                        stop_servers(environment[SESSION_DIR])
                    if loss is None or self.interrupts or not self._can_go_on():
                        break
                    self.on_record(make_record("worker-restarted", reason=loss.error["message"]))
                try:
                    self._settle(loss)
                finally:
                    self._close_runs(python, environment)
                return finish()
        finally:
            self._abandon()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def on_record(self, record: Record) -> None:
        """Tell a record. Whoever hears it may have had enough."""
        try:
            self._on_record(record)
        except KeyboardInterrupt:
            self.interrupts += 1

    @property
    def cancelled(self) -> bool:
        return self.interrupts > 0

    def _start(self, python: str | None, environment: Mapping[str, str], loss: Loss | None) -> WorkerProcess:
        self._worker_spoke, self._imports = False, ModuleWatch()
        self.output.clear()
        order = {
            "continued": list(self.live),
            "done": self.finished,
            "loss": vars(loss) if loss else None,
        }
        for run in self.live.values():
            run.running.clear()
        return self._start_worker(order, python, environment)

    def _start_worker(
        self, order: Mapping[str, Any], python: str | None, environment: Mapping[str, str]
    ) -> WorkerProcess:
        order = {"request": self.request.to_dict(), "continued": [], "done": [], "loss": None, **order}
        try:
            return WorkerProcess(order, python=python, environment=environment, wake=self._wake_read)
        except OSError as error:
            raise RunError(
                "broken-interpreter",
                f"the interpreter {python} cannot be started: {error.strerror}",
                hint="correct `python` in aiflow.toml",
            ) from error

    def _watch(self, worker: WorkerProcess) -> Loss | None:
        """Hear the child until it ends. Return None if it did all it had to do."""
        complete = False
        loss: Loss | None = None
        cancel_deadline: float | None = None
        while True:
            if self.interrupts and cancel_deadline is None:
                worker.cancel()
                cancel_deadline = time.time() + CANCEL_GRACE_SECONDS
            moments = [moment for moment in (cancel_deadline, self._next_deadline()) if moment is not None]
            heard = worker.hear(max(0.0, min(moments) - time.time()) if moments and not loss else None)
            for record in (*heard.earlier, *heard.records):
                if record["record"] == "secret":
                    REDACTOR.add(record["value"])
            complete |= self._take_all(heard.earlier)
            for line in heard.output:
                self._take_output(REDACTOR.hide(line))
            complete |= self._take_all(heard.records)
            if heard.ended:
                if complete:
                    return None
                died = self._imports.died(worker.status, self.output) or self._died(worker)
                return loss or Loss("died", died.to_dict())
            loss = loss or self._overdue(time.time(), worker)
            if loss or self.interrupts > 1 or (cancel_deadline is not None and time.time() >= cancel_deadline):
                worker.kill()

    def _take_all(self, records: Iterable[Record]) -> bool:
        """Take what the child told; tell whether it has said that it did all it had to do."""
        complete = False
        for record in records:
            if record["record"] == "secret" or self._imports.take(record):
                continue
            self._worker_spoke = True
            if record["record"] == "worker-finished":
                complete = True
            else:
                self._take(record)
        return complete

    def _take(self, record: Record) -> None:
        run = self.live.get(record.get("run_id", ""))
        match record["record"]:
            case "request-failed":
                self.failure = record["error"]
                return
            case "backfill-started":
                self.plan_record = record
            case "run-started":
                folder = RunFolder(Path(record["folder"]).parents[2], record["run_id"])
                allowed = record["timeout_seconds"]
                ids = {name: record[name] for name in ("pipeline_id", "run_id", "execution", "trace_id", "environment")}
                self.folders.append(folder)
                self.live[folder.run_id] = _Watched(
                    folder, {**ids, "partition": record["partition"]}, allowed and record["time"] + allowed, allowed
                )
            case "task-started" if run:
                allowed = record["timeout_seconds"]
                run.running[record["task_id"]] = (record["attempt"], allowed and record["time"] + allowed, allowed)
            case "task-finished" | "task-failed" | "task-retried" | "task-repeated" if run:
                run.running.pop(record["task_id"], None)
            case "run-finished":
                self.live.pop(record["run_id"], None)
                self.finished.append(record["run_id"])
        self.on_record(record)

    def _take_output(self, line: str) -> None:
        """Give a line that came past Python's streams to the task that it must be of, if one alone is at work."""
        self.output.append(line)
        working = [(run, task_id) for run in self.live.values() for task_id in run.running]
        facts = {"stream": "output", "level": "info", "message": line}
        if len(working) == 1:
            run, task_id = working[0]
            attempt = run.running[task_id][0]
            record = make_record("log", **run.ids, task_id=task_id, attempt=attempt, **facts)
            path = run.folder.log_path(task_id, run.ids["execution"], attempt)
        elif len(self.live) == 1:
            (run,) = self.live.values()
            record = make_record("log", **run.ids, **facts)
            path = run.folder.path / "logs" / "worker.log"
        else:
            self.on_record(make_record("log", pipeline_id=self.request.pipeline, partition="-", **facts))
            return
        with suppress(OSError):  # a full disk loses the line and not the run
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                append_log(handle, record)
            finally:
                os.close(handle)
        self.on_record(record)

    def _next_deadline(self) -> float | None:
        deadlines = [self._imports.deadline, *(run.deadline for run in self.live.values())]
        deadlines += [deadline for run in self.live.values() for _, deadline, _ in run.running.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _overdue(self, now: float, worker: WorkerProcess) -> Loss | None:
        if hanging := self._imports.overdue(now, worker):
            return Loss("died", hanging.to_dict())
        for run in self.live.values():
            if run.deadline is not None and now >= run.deadline:
                error = TaskTimeoutError(
                    "run-timeout",
                    f"the run took longer than the {_minutes(run.timeout_seconds)} that the pipeline allows",
                    hint="raise timeout_minutes of @pipeline, or resume the run",
                )
                return Loss("run-timeout", error.to_dict(), run.folder.run_id)
            for task_id, (_, deadline, allowed) in run.running.items():
                if deadline is not None and now >= deadline:
                    error = TaskTimeoutError(
                        "task-timeout",
                        f"task '{task_id}' took longer than the {_minutes(allowed)} that it may",
                        hint="raise timeout_minutes of its node, or make it faster",
                        retryable=True,
                    )
                    return Loss("task-timeout", error.to_dict(), run.folder.run_id, task_id)
        return None

    def _died(self, worker: WorkerProcess) -> RunError:
        hints = {
            "SIGKILL": "was it the system, because memory ran out?",
            "SIGSEGV": "a native library crashed: look at what the task calls",
            None: "does user code call os._exit?",
        }
        return RunError(
            "worker-died",
            f"the process that ran the tasks {worker.ending}",
            hint=hints.get(worker.signal_name),
            retryable=True,
            notes=tuple(self.output),
        )

    def _can_go_on(self) -> bool:
        """Whether another child makes sense: one that dies before it says a word would die again."""
        return bool(self.live) and self._worker_spoke

    def _settle(self, loss: Loss | None) -> None:
        """Bring the runs that no child will go on with to their ends."""
        now = time.time()
        runs = [(run.folder, run.folder.load()) for run in self.live.values()]
        error: Mapping[str, Any] | None
        told: dict[str, list[Record]] = {state.run_id: [] for _, state in runs}
        if runs and not self.cancelled:
            error = self.failure or (
                loss.error if loss else RunError("worker-died", "the run was left undone").to_dict()
            )
            told = settle_loss(runs, loss or Loss("died", error), now)
            for _, state in runs:
                state.errors = state.errors or (error,)
        for folder, state in runs:
            told[state.run_id] += settle_end(folder, state, now, cancelled=self.cancelled)
        for record in (record for records in told.values() for record in records):
            self._take(record)
        self.ended_alone |= told
        if self.cancelled:
            if not self.folders and not self.plan_record:
                raise KeyboardInterrupt
        elif error := self.failure or (loss.error if loss and not runs else None):
            raise _error_of(error)

    def _close_runs(self, python: str | None, environment: Mapping[str, str]) -> None:
        """Let a child write the events of the runs that ended without one; what it cannot do in time is left."""
        if not self.ended_alone:
            return
        worker = self._start_worker({"close": self.ended_alone}, python, environment)
        deadline = time.time() + (CANCEL_GRACE_SECONDS if self.cancelled else CLOSE_SECONDS)
        try:
            while not (heard := worker.hear(max(0.0, deadline - time.time()))).ended and time.time() < deadline:
                for record in (*heard.earlier, *heard.records):
                    if record["record"] == "log":
                        self.on_record(record)
        finally:
            worker.close()

    def _abandon(self) -> None:
        """Leave no run that says it is being done, when something raised on this side."""
        for run in list(self.live.values()):
            with suppress(AiflowError):
                settle_end(run.folder, run.folder.load(), time.time(), cancelled=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM instead of dying of them; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def count(number: int, frame: FrameType | None) -> None:
            self.interrupts += 1
            os.write(self._wake_write, b"!")

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _finish_backfill(supervisor: _Supervisor, began: float) -> BackfillSummary:
    """Tell what came of the backfill, and return it."""
    summary = summarize_backfill(
        supervisor.plan_record, supervisor.folders, time.time() - began, cancelled=supervisor.cancelled
    )
    supervisor.on_record(
        make_record(
            "backfill-finished",
            pipeline_id=summary.pipeline_id,
            environment=summary.environment,
            first=summary.first,
            last=summary.last,
            state=summary.state,
            seconds=round(summary.seconds, 3),
            succeeded=sum(run.succeeded for run in summary.runs),
            failed=sum(run.state == "failed" for run in summary.runs),
            skipped=len(summary.skipped),
        )
    )
    return summary


def _error_of(data: Mapping[str, Any]) -> AiflowError:
    if problems := data.get("problems"):
        return ProblemsError(map(AiflowError.from_dict, problems))
    return AiflowError.from_dict(dict(data))


def _minutes(seconds: float | None) -> str:
    seconds = seconds or 0
    return plural(seconds / 60, "minute") if seconds >= 120 else plural(seconds, "second")
