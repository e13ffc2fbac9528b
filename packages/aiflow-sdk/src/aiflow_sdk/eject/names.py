"""Names in an ejected file: of frames, tasks and groups, none of which may hide another."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from aiflow_sdk.eject.parts import known_parts

LOCALS = frozenset(
    {"day", "week", "month", "hour", "params", "run_id", "spark", "table", "delta", "wanted", "files", "sql", "task"}
)
"""Variables that a task's function has beside its frames."""


class Names:
    """Gives each node of a pipeline, and each module of its functions, their names."""

    def __init__(self, node_ids: Iterable[str], modules: Iterable[str], taken: Iterable[str]) -> None:
        self._taken = {*taken, *LOCALS, *known_parts(), *keyword.kwlist, *dir(builtins)}
        self._modules = {
            module: f"{_as_name(module)}_module" if module.partition(".")[0] in self._taken else module
            for module in modules
        }
        self._taken |= {name.partition(".")[0] for name in self._modules.values()}
        self._ids: dict[str, str] = {}
        for node_id in node_ids:
            self._ids[node_id] = self._free(_as_name(node_id), "frame", self._ids.values())

    def of_module(self, module: str) -> str:
        """Return what a module of the user's is called: as it is, unless that would hide a name of the file's own."""
        return self._modules[module]

    def of_frame(self, node_id: str) -> str:
        """Return the variable that holds a node's rows."""
        return self._ids[node_id]

    def of_rows(self, node_id: str) -> str:
        """Return the variable that holds a Spark frame's rows once they are here."""
        return self._free(f"{self._ids[node_id]}_rows", "here", self._ids.values())

    def of_task(self, task_id: str) -> str:
        """Return the function of a task."""
        return self._ids[task_id]

    def of_done(self, task_id: str) -> str:
        """Return the variable that holds a task of the DAG, so that others may wait for it."""
        return self._free(f"{self._ids[task_id]}_done", "task", self._ids.values())

    def of_group(self, branch: str) -> str:
        """Return the variable that holds a branch's task group."""
        return self._free(f"{_as_name(branch)}_branch", "group", self._ids.values())

    def _free(self, name: str, end: str, others: Iterable[str]) -> str:
        others = set(others)
        name = f"n_{name}" if name[:1].isdigit() else name
        if name in self._taken or name.startswith("wanted_"):
            name = f"{name}_{end}"
        number, free = 1, name
        while free in others:
            number += 1
            free = f"{name}_{number}"
        return free


def _as_name(text: str) -> str:
    return re.sub(r"\W", "_", text)
