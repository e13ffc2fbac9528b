"""What a task's process loads before it has its order, in two thirds of the time that it would take as it comes."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


def load_what_all_need() -> None:
    """Load what every task needs."""
    with _quickly():
        from aiflow_sdk.plan import Plan, Run
        from aiflow_sdk.runtime import execute_task, join_execution  # noqa: F401 loaded for those who use it later

        for model in (Plan, Run):
            model.model_rebuild()


def load_what_one_needs(plan_file: Path, task_id: str, *, is_to_fork: bool = False) -> None:
    """Load the plugins of a task, and the drivers that they import when they are used.

    Plugins of the project itself, whose folder is not known yet, are left out. So is, where it ``is_to_fork``,
    what may start a thread when it is imported: the drivers (polars does, its allocator too) and others' plugins.
    Raises what a plugin's module raises.
    """
    with _quickly():
        from aiflow_sdk.plan import read_plan
        from aiflow_sdk.plugins import Plugin, load_plugin

        plan = read_plan(plan_file.read_bytes())
        task = plan.task(task_id)
        plugins = [plan.nodes[node_id].plugin for node_id in task.node_ids]
        for reference in dict.fromkeys([task.engine_plugin, *plugins]):
            is_left = is_to_fork and not (reference or "").startswith("aiflow_sdk.")
            if reference and not is_left and _is_installed(reference):
                plugin = load_plugin(reference, Plugin)
                plugin.model_rebuild()
                for driver in () if is_to_fork else plugin.drivers:
                    with suppress(ImportError):  # it may never be asked for
                        importlib.import_module(driver)


def _is_installed(reference: str) -> bool:
    try:
        return importlib.util.find_spec(reference.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _quickly() -> Iterator[None]:
    """Import without collecting garbage, of which there is none, and without looking for plugins of pydantic's.

    It would look through all installed packages, and no model of the user's is made before there is an order.
    """
    gc.disable()
    before = os.environ.get(_PLUGINS)
    os.environ[_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PLUGINS]
        else:
            os.environ[_PLUGINS] = before
        gc.freeze()  # it stays for as long as the process
        gc.enable()
