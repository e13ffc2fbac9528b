"""What belongs to a pipeline that somebody holds in a notebook or a test: its project and its plugins."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from aiflow_sdk.code import enter_project, scan_sources
from aiflow_sdk.discovery.finding import find_plugin_modules
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plugins import MARK, Registry, installed_registry


def find_root(pipeline: Any) -> Path:
    """Return the folder in which the project of a decorated function is looked for; of an IR the current one."""
    function = getattr(pipeline, "__wrapped__", None)
    code = getattr(function, "__code__", None)
    path = Path(code.co_filename) if code else Path()
    if not path.is_file():
        return Path()
    # The folder from which the module was imported, so that its neighbours can be imported too.
    depth = str(getattr(function, "__module__", "")).count(".")
    return path.resolve().parents[depth]


def registry_here(ir: PipelineIR, root: Path) -> Registry:
    """Return what is installed; the project's own plugins are imported only where the pipeline needs more."""
    registry = installed_registry()
    known = {*registry.sources.kinds, *registry.sinks.kinds, *registry.engines.kinds}
    if not {node.kind or node.engine for node in ir.node_list} <= known:
        enter_project(root)
        for module in find_plugin_modules(root, scan_sources(root)):
            found = vars(import_module(module.name))
            registry.add_marked(
                (*getattr(value, MARK), f"{module.name}:{name}")
                for name, value in found.items()
                if getattr(value, MARK, None) and value.__module__ == module.name
            )
    return registry
