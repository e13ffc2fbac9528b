"""The one child process of the local runner: it discovers, compiles and runs. ``python -m aiflow_sdk.local.worker``.

Its arguments are three file descriptors: the request (JSON), the records (JSON lines), and the lifeline.
"""

from __future__ import annotations

import faulthandler
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from aiflow_sdk.channel import RecordWriter, die_with, read_all
from aiflow_sdk.local.records import Record, make_record
from aiflow_sdk.local.request import BackfillRequest, RunRequest, read_request
from aiflow_sdk.local.state import Loss
from aiflow_sdk.local.store import RunFolder
from aiflow_sdk.redaction import REDACTOR

Functions: TypeAlias = Mapping[str, Callable[..., Any]]

if TYPE_CHECKING:
    from aiflow_sdk.config import Project
    from aiflow_sdk.discovery.finding import Module
    from aiflow_sdk.local.executor import LiveRun
    from aiflow_sdk.local.journal import Journal
    from aiflow_sdk.local.logs import OutputRouter
    from aiflow_sdk.local.preparation import Prepared
    from aiflow_sdk.plan import Plan


def main() -> None:
    """Do what the request says and exit without ceremony: nobody waits for the interpreter to tidy up."""
    request_handle, records_handle, lifeline = map(int, sys.argv[1:4])
    for handle in (request_handle, records_handle, lifeline):
        os.set_inheritable(handle, False)
    die_with(lifeline)
    emit = RecordWriter(records_handle)
    # What is printed past Python's streams is written down by the supervisor; the pipe between us is nobody else's.
    REDACTOR.tell = lambda value: emit({"record": "secret", "value": value})
    order = read_all(request_handle)
    try:
        _Work(order, emit).do()
    except BaseException as error:  # noqa: BLE001 the last guard of the process: the supervisor tells the user
        emit({"record": "request-failed", "error": _described(error)})
    emit({"record": "worker-finished"})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Work:
    """What one worker has to do. Heavy modules are imported inside: whatever fails there is told as a record."""

    def __init__(self, order: Mapping[str, Any], emit: RecordWriter) -> None:
        self.request = read_request(order["request"])
        self.continued: list[str] = order["continued"]
        """Runs that another process of this session was doing."""
        self.done: list[str] = order["done"]
        """Runs that others of this session have finished."""
        self.loss = Loss(**order["loss"]) if order["loss"] else None
        """Why the last one of them is gone."""
        self.closed: dict[str, list[Record]] | None = order.get("close")
        """Runs that have ended without a process, with what is to be told of them: there is nothing else to do."""
        self.emit = emit
        self.cancel: Callable[[], None] | None = None
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears it and decides

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.cancel is None:
            raise KeyboardInterrupt  # whatever is being imported stops here
        self.cancel()

    def do(self) -> None:
        """Do it."""
        from aiflow_sdk.config import load_project
        from aiflow_sdk.local.logs import OutputRouter

        project = self._configured(load_project(self.request.project))
        os.chdir(project.root)
        router = OutputRouter()
        with router.installed():
            if self.closed is not None:
                self._close(project, self.closed)
            elif isinstance(self.request, BackfillRequest):
                self._backfill(project, self.request, router)
            else:
                self._run(project, self.request, router)

    def _configured(self, project: Project) -> Project:
        """Return the project with what the metadata service hands out, where ``aiflow.toml`` says that it does."""
        if not project.asking(self.request.environment):
            return project
        from aiflow_sdk.service import configure, configure_offline

        # Who goes on with what another process began goes by what that one heard.
        how = configure_offline if self.closed is not None or self.loss else configure
        return how(project, self.request.environment, lambda note: self._warn(self.request.pipeline, note))

    def _warn(self, pipeline_id: str, message: str) -> None:
        facts = {"pipeline_id": pipeline_id, "partition": "-", "stream": "log", "level": "warning"}
        self.emit(make_record("log", **facts, message=message))

    def _run(self, project: Project, request: RunRequest, router: OutputRouter) -> None:
        from aiflow_sdk.local.preparation import continue_runs, resume_run, start_run

        functions: Functions = {}
        if self.continued:
            (live,) = continue_runs(project.root, self.continued, self.loss)
            journal = self._journal(project, live.plan)
            if any(node.is_here for node in live.plan.node_list):
                functions = self._prepare(project, request).functions
        else:
            prepared = self._prepare(project, request)
            functions = prepared.functions
            journal = self._journal(project, prepared.plan)
            live = resume_run(prepared, request) if request.resume else start_run(prepared, request)
        self._execute(project, live.plan, functions, router, iter([live]), journal, parallel=1)

    def _prepare(self, project: Project, request: RunRequest | BackfillRequest) -> Prepared:
        """Find and compile the pipeline; the supervisor hears of each module, so that it can end one that hangs."""
        from aiflow_sdk.local.preparation import prepare

        @contextmanager
        def watched(module: Module) -> Iterator[None]:
            facts = {"module": module.name, "path": module.path, "timeout_seconds": project.discovery_timeout_seconds}
            self.emit(make_record("module-started", root=str(project.root), **facts))
            # The supervisor asks so where it stands; standard error is the pipe between us.
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)
            try:
                yield
            finally:
                faulthandler.unregister(signal.SIGUSR1)
                self.emit(make_record("module-finished"))

        return prepare(project, request.pipeline, request.environment, watched)

    def _close(self, project: Project, runs: Mapping[str, Sequence[Record]]) -> None:
        """Spool the events of runs that ended without a process, and let the listeners hear of them.

        What somebody else has told meanwhile, or goes on with, is left alone.
        """
        from aiflow_sdk.errors import RunError
        from aiflow_sdk.lineage import ends_with
        from aiflow_sdk.local.preparation import load_run

        journal: Journal | None = None
        for run_id, records in runs.items():
            live = load_run(project.root, run_id)
            journal = journal or self._journal(project, live.plan)
            with suppress(RunError), live.folder.owned():
                if not ends_with(live.folder.events_path, run_id):
                    for record in records:
                        journal.record(live, record)
        if journal:
            journal.close()

    def _journal(self, project: Project, plan: Plan) -> Journal:
        """Return the journal with its listeners, before a run has a folder: a wrong listener is no run's failure."""
        from aiflow_sdk.local.journal import Journal, open_listeners
        from aiflow_sdk.plugins import installed_registry

        stated = project.environment(plan.environment.name)
        listeners = open_listeners(stated, installed_registry(), project) if stated.hearers else {}
        return Journal(listeners, project.root, say=lambda message: self._warn(plan.pipeline_id, message))

    def _backfill(self, project: Project, request: BackfillRequest, router: OutputRouter) -> None:
        from aiflow_sdk.local.backfilling import find_needs, open_runs
        from aiflow_sdk.local.executor import usable_processors
        from aiflow_sdk.local.preparation import continue_runs
        from aiflow_sdk.plan import Run

        prepared = self._prepare(project, request)
        plan = prepared.plan
        parallel = min(plan.max_active_runs, plan.concurrency or usable_processors())
        continued = continue_runs(project.root, self.continued, self.loss)
        done = (Run.model_validate(RunFolder(project.root, run_id).record().run) for run_id in self.done)
        taken = {partition.key for run in (*done, *(live.run for live in continued)) for partition in run.partitions}
        needs = find_needs(prepared, request, taken)
        if self.loss is None:
            self.emit(
                make_record(
                    "backfill-started",
                    pipeline_id=plan.pipeline_id,
                    environment=plan.environment.name,
                    first=needs[0].partition.key,
                    last=needs[-1].partition.key,
                    partitions=[
                        {"partition": need.partition.key, "reason": need.reason, "made_in": need.environment}
                        for need in needs
                    ],
                    parallel=parallel,
                    ranges=plan.ranges,
                )
            )
        if not request.dry:
            journal = self._journal(project, plan)
            runs = open_runs(prepared, request, [need.partition for need in needs if need.reason])
            self._execute(
                project, plan, prepared.functions, router, itertools.chain(continued, runs), journal, parallel=parallel
            )

    def _execute(
        self,
        project: Project,
        plan: Plan,
        functions: Functions,
        router: OutputRouter,
        runs: Iterator[LiveRun],
        journal: Journal,
        *,
        parallel: int,
    ) -> None:
        from aiflow_sdk.errors import StoreError
        from aiflow_sdk.local.executor import Executor, usable_processors
        from aiflow_sdk.local.ledger import Ledger
        from aiflow_sdk.runtime import bound_environment
        from aiflow_sdk.runtime.staging import sweep_staging

        root = project.root
        ledger = Ledger(root, plan)

        def remember(live: LiveRun) -> None:
            # A run that another process began has its own reading of the plan.
            try:
                (ledger if live.plan is plan else Ledger(root, live.plan)).write(live)
            except StoreError as error:  # what it wrote stands; it will be made again where it need not
                logging.getLogger("aiflow.ledger").warning("the run is not remembered: %s", error)

        executor = Executor(
            root,
            self.emit,
            on_success=remember,
            record_event=journal.record,
            functions=functions,
            router=router,
            concurrency=plan.concurrency or usable_processors(),
        )
        self.cancel = executor.cancel
        with suppress(StoreError):  # the run itself will say what is wrong with the store
            sweep_staging(bound_environment(plan, root), time.time())
        try:
            executor.do(runs, parallel=parallel)
        finally:
            journal.close()


def _described(error: BaseException) -> dict[str, Any]:
    from aiflow_sdk.errors import AiflowError, RunError

    if isinstance(error, AiflowError):
        return error.to_dict()
    import traceback

    return RunError(
        "runner-failed",
        f"{type(error).__name__}: {error}",
        hint="this is a fault of aiflow: please report it with the lines below",
        notes="".join(traceback.format_exception(error)).rstrip().splitlines(),
    ).to_dict()


if __name__ == "__main__":
    main()
