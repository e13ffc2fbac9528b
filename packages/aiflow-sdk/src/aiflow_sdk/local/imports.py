"""The module that a worker is importing, as its supervisor hears of it: it may hang, or end the process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiflow_sdk.errors import AiflowError, Where
from aiflow_sdk.local.process import WorkerProcess
from aiflow_sdk.local.records import Record


class ModuleWatch:
    """Made anew for each worker. It needs the standard library alone until something goes wrong."""

    def __init__(self) -> None:
        self._module: Record | None = None

    def take(self, record: Record) -> bool:
        """Tell whether the record is about a module's import, and remember it."""
        match record["record"]:
            case "module-started":
                self._module = record
            case "module-finished":
                self._module = None
            case _:
                return False
        return True

    @property
    def deadline(self) -> float | None:
        """The moment at which the module's import is over its time."""
        return self._module["time"] + self._module["timeout_seconds"] if self._module else None

    def overdue(self, now: float, worker: WorkerProcess) -> AiflowError | None:
        """Return the error of a module that takes too long to be imported and built."""
        if self._module is None or self.deadline is None or now < self.deadline:
            return None
        from aiflow_sdk.discovery.interruption import module_timeout

        where = self._place(worker.trace())
        return module_timeout(self._module["module"], self._module["timeout_seconds"], where)

    def died(self, status: int | None, output: Iterable[str]) -> AiflowError | None:
        """Return the error of a module during whose import the worker ended."""
        if self._module is None or status is None:
            return None
        from aiflow_sdk.discovery.interruption import module_crashed

        lines = tuple(output)
        return module_crashed(self._module["module"], status, self._place("\n".join(lines)), lines)

    def _place(self, trace: str) -> Where:
        from aiflow_sdk.discovery.interruption import traced_place

        assert self._module is not None
        return traced_place(trace, Path(self._module["root"])) or Where(self._module["path"])
