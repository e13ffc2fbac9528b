"""Runs the tasks of one or several runs in threads of this process, until all have come to their ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from aiflow_sdk.channel import await_read
from aiflow_sdk.errors import AiflowError, Where
from aiflow_sdk.local.logs import AttemptLog, OutputRouter
from aiflow_sdk.local.records import OnRecord, Record, attempt_ended, run_finished, run_started, task_record
from aiflow_sdk.local.state import RunState, TaskState
from aiflow_sdk.local.store import RunFolder
from aiflow_sdk.plan import Plan, Run, TaskResult
from aiflow_sdk.runtime import StoreStaging, bound_environment, execute_task
from aiflow_sdk.runtime.failure import unexpected
from aiflow_sdk.usage import Meter

_CANCEL = object()
_STANDARD_OUTPUT = 1
_UNREAD_SECONDS = 10.0
"""How long the end of an attempt waits for the supervisor to read what was printed. It may be busy for a while; a pipe
that user code put in its place may have no reader at all."""


def usable_processors() -> int:
    """Return how many tasks run at once where nobody says: one a processor that this process may use, at least 2."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return max(2, len(affinity(0)) if affinity else os.cpu_count() or 2)


@dataclass
class LiveRun:
    """A run that is being done."""

    plan: Plan
    run: Run
    folder: RunFolder
    state: RunState
    earlier: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Task that is not selected → (run id, execution) whose staged frames stand for it."""
    resumed: bool = False
    told: Sequence[Record] | None = None
    """Of a run that another process of this session began: what there is to tell instead of its beginning."""
    sources: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Of a range: partition → identities of its sources before the run."""
    places: Mapping[str, Where] = field(default_factory=dict)
    """Node id → where it was written; under ``""`` the pipeline itself."""


@dataclass
class Executor:
    """Does runs. One is made for a process; :meth:`cancel` may be called from a signal handler."""

    root: Path
    """The project's folder."""
    emit: OnRecord
    on_success: Callable[[LiveRun], None] = lambda live: None
    """Called when a run has succeeded, before it is told."""
    record_event: Callable[[LiveRun, Record], None] = lambda live, record: None
    """Called with each record but log lines, before it is told: lineage events are made of them."""
    functions: Mapping[str, Callable[..., Any]] | None = None
    """Node id → object that stands for its entrypoint."""
    router: OutputRouter | None = None
    """Takes what tasks print; None: it goes where it goes."""
    concurrency: int = field(default_factory=usable_processors)
    """How many tasks at once, over all runs."""
    cancelled: bool = False
    _active: list[LiveRun] = field(default_factory=list)
    _running: int = 0
    _done: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def cancel(self) -> None:
        """Ask :meth:`do` to return soon. What is at work in threads is not waited for."""
        self.cancelled = True
        self._done.put(_CANCEL)

    def do(self, runs: Iterator[LiveRun], *, parallel: int = 1) -> list[LiveRun]:
        """Do all runs, at most ``parallel`` at once, and return them. Each is asked for when there is room for it."""
        ended: list[LiveRun] = []
        more = True
        try:
            while not self.cancelled:
                while more and len(self._active) < parallel and not self.cancelled:
                    live = next(runs, None)
                    more = live is not None
                    if live is not None:
                        self._begin(live)
                self._start_tasks()
                if over := [live for live in self._active if live.state.ended]:
                    for live in over:
                        self._end(live)
                        ended.append(live)
                elif self._active:
                    self._await_change()
                elif not more:
                    break
        except KeyboardInterrupt:
            self.cancelled = True
            raise
        finally:
            for live in self._active:
                at_work = live.state.running
                live.state.cancel(time.time())
                for task_id in at_work:
                    task = live.state.tasks[task_id]
                    live.folder.save_task(task)
                    self._tell(live, attempt_ended(live.state, task, "cancelled", "the run was cancelled"))
                self._save(live)
                ended.append(live)
            self._active.clear()
        return ended

    def _begin(self, live: LiveRun) -> None:
        self._active.append(live)
        if live.told is None:
            folder = str(live.folder.path)
            plan, facts = live.plan.document, live.run.facts()
            live.told = [run_started(live.state, plan, resumed=live.resumed, folder=folder, facts=facts)]
        for record in live.told:
            self._tell(live, record)

    def _end(self, live: LiveRun) -> None:
        self._active.remove(live)
        live.state.end(time.time())
        if live.state.state == "succeeded":
            self.on_success(live)
        self._save(live)

    def _save(self, live: LiveRun) -> None:
        live.folder.save(live.state)
        record = run_finished(live.state)
        try:
            self.record_event(live, record)  # while it is ours: others tell the end of a run that nobody does
        finally:
            live.folder.disown()
        self.emit(record)

    def _tell(self, live: LiveRun, record: Record) -> None:
        self.record_event(live, record)
        self.emit(record)

    def _start_tasks(self) -> None:
        now = time.time()
        waiting = [(live, live.state.tasks[task_id]) for live in self._active for task_id in live.state.startable(now)]
        # One that may have brought the process down has it to itself.
        if any(task.alone for live in self._active for task in live.state.tasks.values() if task.state == "running"):
            return
        if suspects := [pair for pair in waiting if pair[1].alone]:
            waiting = [] if self._running else suspects[:1]
        for live, task in waiting[: max(0, self.concurrency - self._running)]:
            self._start(live, task)

    def _start(self, live: LiveRun, task: TaskState) -> None:
        live.state.start(task.task_id, time.time())
        task.code = {
            node_id: code
            for node_id in live.plan.task(task.task_id).node_ids
            if (code := live.plan.nodes[node_id].code)
        }
        live.folder.save_task(task)
        self._tell(
            live,
            task_record(
                "task-started", live.state.run, task.task_id, task.attempt, timeout_seconds=task.timeout_seconds
            ),
        )
        self._running += 1
        # A daemon, so that a task that never ends does not keep the process.
        threading.Thread(target=self._attempt, args=(live, task), name=task.task_id, daemon=True).start()

    def _attempt(self, live: LiveRun, task: TaskState) -> None:
        path = live.folder.log_path(task.task_id, live.run.execution, task.attempt)
        result: TaskResult | AiflowError
        meter = Meter().start()
        try:
            log = AttemptLog(path, live.state.run, task.task_id, task.attempt, self.emit)
            with self.router.bound(log) if self.router else nullcontext():
                result = self._execute(live, task, meter)
                if isinstance(result, AiflowError):
                    for line in (*result.notes, f"error[{result.code}]: {result}"):
                        log.add("stderr", line, level="error")
            if not self.router:
                log.close()
        except AiflowError as error:
            result = error
        except BaseException as error:  # noqa: BLE001 a log that cannot be kept, for one: the run must not wait for ever
            result = unexpected(error, task.task_id)
        usage = meter.stop()
        if self.router:  # what was printed past Python's streams is told of this task only until its end is told
            await_read(_STANDARD_OUTPUT, _UNREAD_SECONDS)
        self._done.put((live, task, result, usage))

    def _execute(self, live: LiveRun, task: TaskState, meter: Meter) -> TaskResult | AiflowError:
        def report(record: Mapping[str, Any]) -> None:
            facts = {name: value for name, value in record.items() if name != "record"}
            self._tell(live, task_record(record["record"], live.state.run, task.task_id, task.attempt, **facts))

        try:
            return execute_task(
                live.plan,
                task.task_id,
                Run.model_validate({**dict(live.run), "attempt": task.attempt}),
                root=self.root,
                report=report,
                functions=self.functions,
                staging=StoreStaging(bound_environment(live.plan, self.root), live.earlier),
                places=live.places,
                meter=meter,
            )
        except AiflowError as error:
            return error
        except BaseException as error:  # noqa: BLE001 a thread's last guard: whatever it is, the run must hear of it
            return unexpected(error, task.task_id)

    def _await_change(self) -> None:
        moments = [moment for live in self._active if (moment := live.state.next_moment()) is not None]
        timeout = max(0.0, min(moments) - time.time()) if moments else None
        try:
            item = self._done.get(timeout=timeout)
        except Empty:
            return
        if item is _CANCEL:
            return
        live, task, result, usage = item
        self._running -= 1
        if isinstance(result, TaskResult):
            nodes = [facts.to_full_dict() for facts in result.nodes]
            live.state.succeed(task.task_id, nodes, result.seconds)
            record = task_record(
                "task-finished",
                live.state.run,
                task.task_id,
                task.attempt,
                seconds=result.seconds,
                nodes=nodes,
                usage=usage,
            )
        else:
            change = live.state.fail(task.task_id, result.to_dict(), time.time())
            record = {**attempt_ended(live.state, task, change), "usage": usage}
        live.folder.save_task(task)
        if task.state == "failed":
            live.folder.save_tasks(live.state, "blocked")
        self._tell(live, record)
