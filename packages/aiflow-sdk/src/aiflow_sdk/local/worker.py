"""The one child process of the local runner: it discovers, compiles and runs. ``python -m aiflow_sdk.local.worker``.

Its arguments are three file descriptors: the request (JSON), the records (JSON lines), and the lifeline.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from aiflow_sdk.local.channel import RecordWriter, die_with, read_all


def main() -> None:
    """Do what the request says and exit without ceremony: nobody waits for the interpreter to tidy up."""
    request_handle, records_handle, lifeline = map(int, sys.argv[1:4])
    for handle in (request_handle, records_handle, lifeline):
        os.set_inheritable(handle, False)
    die_with(lifeline)
    emit = RecordWriter(records_handle)
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
    def __init__(self, order: Mapping[str, Any], emit: RecordWriter) -> None:
        from aiflow_sdk.local.request import read_request

        self.request = read_request(order["request"])
        self.continued: list[str] = order["continued"]
        """Runs that another process of this session began."""
        self.done: set[str] = set(order["done"])
        """Of a backfill: partitions that have their run already."""
        self.emit = emit
        self.cancelled = False
        self.cancel: Any = None
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears it and decides

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.cancelled = True
        if self.cancel:
            self.cancel()

    def do(self) -> None:
        from aiflow_sdk.local.logs import OutputRouter
        from aiflow_sdk.local.request import BackfillRequest

        router = OutputRouter()
        with router.installed():
            if isinstance(self.request, BackfillRequest):
                self._backfill(self.request, router)
            else:
                self._run(self.request, router)

    def _run(self, request: Any, router: Any) -> None:
        from aiflow_sdk.config import load_project
        from aiflow_sdk.local.preparation import continue_run, prepare, resume_run, start_run

        if self.continued:
            project = load_project(request.project)
            live = continue_run(project, self.continued[0])
        else:
            prepared = prepare(request.project, request.pipeline, request.environment)
            project = prepared.project
            live = resume_run(prepared, request) if request.resume else start_run(prepared, request)
        self._execute(project.root, live.plan, router, iter([live]), parallel=1)

    def _backfill(self, request: Any, router: Any) -> None:
        from aiflow_sdk.local.backfill import find_needs, open_runs
        from aiflow_sdk.local.executor import usable_processors
        from aiflow_sdk.local.preparation import continue_run, prepare
        from aiflow_sdk.local.records import make_record

        prepared = prepare(request.project, request.pipeline, request.environment)
        plan = prepared.plan
        parallel = min(plan.max_active_runs, plan.concurrency or usable_processors())
        continued = [continue_run(prepared.project, run_id) for run_id in self.continued]
        taken = self.done | {partition.key for live in continued for partition in live.run.partitions}
        needs = find_needs(prepared, request)
        if not self.continued and not self.done:
            self.emit(
                make_record(
                    "backfill-started",
                    pipeline_id=plan.pipeline_id,
                    environment=plan.environment.name,
                    first=needs[0].partition.key,
                    last=needs[-1].partition.key,
                    partitions=[{"partition": need.partition.key, "reason": need.reason} for need in needs],
                    parallel=parallel,
                    ranges=plan.ranges,
                )
            )
        if not request.dry:
            wanted = [need.partition for need in needs if need.reason and need.partition.key not in taken]
            runs = itertools.chain(continued, open_runs(prepared, request, wanted))
            self._execute(prepared.project.root, plan, router, runs, parallel=parallel)

    def _execute(self, root: Any, plan: Any, router: Any, runs: Iterator[Any], *, parallel: int) -> None:
        from aiflow_sdk.local.executor import Executor, usable_processors
        from aiflow_sdk.local.ledger import Ledger
        from aiflow_sdk.runtime import bound_environment
        from aiflow_sdk.runtime.staging import sweep_staging

        environment = bound_environment(plan, root)
        sweep_staging(environment.staging, environment.staging_keep_days, time.time())
        executor = Executor(
            root,
            self.emit,
            on_success=lambda live: Ledger(root, live.plan).write(live),
            router=router,
            concurrency=plan.concurrency or usable_processors(),
        )
        self.cancel = executor.cancel
        if self.cancelled:
            executor.cancel()
        executor.do(runs, parallel=parallel)


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
