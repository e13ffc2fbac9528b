"""One attempt of one task for a process that watches it: ``python -m aiflow_sdk.runtime.child RECORDS``.

The first line of standard input is the order, as JSON: ``plan`` (a file), ``task``, ``run`` (a run document),
``project`` (the folder with the user's code), ``folder`` (where to work), ``secrets`` (name → value), ``places`` (node
id → file and line), ``patient`` (whether a task that waits does so). Until it comes the process loads what every task
needs, and what this one needs where a line before the order has its ``plan`` and ``task`` alone. Where standard input
is closed instead, it ends. The rest of standard input is the lifeline: when it is closed, whatever is left of this
process group ends. Generation and pins are agreed on with the execution's other tasks.

Records are written to the descriptor ``RECORDS``, one JSON a line: ``task-began`` (with what events tell of the attempt
that only this process knows), ``node-started``, ``node-finished``, ``log``, ``secret`` (a value to hide), ``task-used``
(``usage``: what the attempt used of the machine), ``others-ended`` (what the run's tasks have done, this one included,
whether it is this one that ``tells`` of the run's end, and then where the ``columns`` come from) and at the end
``result`` or ``error``. What user
code prints goes to standard output and error as it is printed.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from aiflow_sdk.channel import RecordWriter, die_with
from aiflow_sdk.errors import AiflowError, Where
from aiflow_sdk.redaction import REDACTOR, hidden_in_output
from aiflow_sdk.runtime.failure import unexpected
from aiflow_sdk.runtime.loading import load_what_all_need, load_what_one_needs
from aiflow_sdk.usage import Meter

Emit = Callable[[Mapping[str, Any]], None]


def do_task(records: int) -> NoReturn:
    """Do what the order says and exit without ceremony; the exit code is 0, or 1 where it failed."""
    os.set_inheritable(records, False)
    order = _loaded_until_ordered()
    os.chdir(order["folder"])
    die_with(_own_lifeline())
    faulthandler.enable()
    emit = RecordWriter(records)
    REDACTOR.tell = lambda value: emit({"record": "secret", "value": value})
    for stream in (sys.stdout, sys.stderr):
        cast(Any, stream).reconfigure(line_buffering=True, errors="backslashreplace")
    code = 0
    with hidden_in_output():
        _log_to(emit)
        try:
            emit({"record": "result", "result": _do(order, emit)})
        except BaseException as error:  # noqa: BLE001 whatever user code raises, SystemExit included; the parent tells it
            told = error if isinstance(error, AiflowError) else unexpected(error, order["task"])
            emit({"record": "error", "error": told.to_dict()})
            code = 1
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    # What user code left running (threads that are no daemons, exit handlers) is not waited for.
    os._exit(code)


def _loaded_until_ordered() -> Mapping[str, Any]:
    """Load what the task will need, and return its order."""
    load_what_all_need()
    while line := sys.stdin.buffer.readline():
        order: Mapping[str, Any] = json.loads(line)
        if "run" in order:
            return order
        with suppress(Exception, SystemExit):  # whatever a plugin's module raises; the task will meet it and tell it
            load_what_one_needs(Path(order["plan"]), order["task"])
    os._exit(0)


def _do(order: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    from aiflow_sdk.config.secret import HANDED
    from aiflow_sdk.errors import StoreError
    from aiflow_sdk.plan import read_plan, read_run
    from aiflow_sdk.runtime import (
        StoreStaging,
        bound_environment,
        columns_of_run,
        ended_tasks,
        execute_task,
        installed_version,
        join_execution,
        note_ended,
        note_told,
        sweep_staging,
        tells_of_run,
    )

    meter = Meter(is_whole_process=True).start()
    HANDED.update(order.get("secrets") or {})
    root = Path(order["project"])
    plan, run = read_plan(Path(order["plan"]).read_bytes()), read_run(order["run"])
    environment = bound_environment(plan, root)
    run, again, is_first = join_execution(plan, order["task"], run, root)
    emit(
        {
            "record": "task-began",
            "generation": run.generation,
            "again": sorted(again),
            "engine_version": installed_version(plan.task(order["task"])),
            "is_first": is_first,
        }
    )
    staging = StoreStaging(environment)
    staging.earlier = staging.earlier_executions(plan, order["task"], run) if run.execution > 1 else {}
    try:
        result = execute_task(
            plan,
            order["task"],
            run,
            root=root,
            report=emit,
            staging=staging,
            places={node_id: Where(path, line) for node_id, (path, line) in (order.get("places") or {}).items()},
            patient=order.get("patient", True),
            meter=meter,
        )
    except AiflowError:
        with suppress(StoreError):  # the run's event tells less
            emit({"record": "others-ended", **ended_tasks(plan, run, root, some=True)})
        raise
    finally:
        emit({"record": "task-used", "usage": meter.stop()})
    with suppress(StoreError):  # it will be told as new once more, which wakes somebody in vain
        note_told(plan, run, result, root)
    with suppress(StoreError):  # that the run has ended is not told
        note_ended(plan, run, result, root)
        ended = ended_tasks(plan, run, root)
        tells = bool(ended["results"]) and tells_of_run(plan, run, result.task_id, ended["now"], root)
        is_alone = len(plan.tasks) == 1
        done = {result.task_id: result.to_full_dict()} if is_alone else ended["results"]
        columns = columns_of_run(plan, done) if tells or is_alone else {}
        emit({"record": "others-ended", **ended, "tells": tells, "columns": columns})
    with suppress(StoreError):  # somebody will another day
        sweep_staging(environment, time.time())
    return result.to_full_dict()


def _own_lifeline() -> int:
    """Keep standard input for the lifeline, and leave user code an empty one."""
    lifeline = os.dup(0)
    os.set_inheritable(lifeline, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lifeline


def _log_to(emit: Emit) -> None:
    root = logging.getLogger()
    root.addHandler(_Handler(emit))
    root.setLevel(logging.INFO)


class _Handler(logging.Handler):
    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._tell = emit
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = REDACTOR.hide(self.format(record))
            self._tell({"record": "log", "level": record.levelname.lower(), "logger": record.name, "message": message})
        except Exception:  # noqa: BLE001 logging must never break what it watches; the standard handlers do the same
            self.handleError(record)


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        stream.flush()


if __name__ == "__main__":
    do_task(int(sys.argv[1]))
