"""Knows user code by reading it, never by importing it: what a function reaches, and what is installed beside it.

Importing this package is quick: its names load on first use, and a process that builds pipelines needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.code.defaults import Made, Unreadable, module_file, written_defaults
    from aiflow_sdk.code.index import CodeIndex, FunctionSource
    from aiflow_sdk.code.lock import interpreter, is_foreign, lock_fingerprint
    from aiflow_sdk.code.path import enter_project
    from aiflow_sdk.code.source import SourceFile, Stamp, module_name, scan_sources, stamp_of

_HOMES = {
    "CodeIndex": "index",
    "FunctionSource": "index",
    "Made": "defaults",
    "SourceFile": "source",
    "Stamp": "source",
    "Unreadable": "defaults",
    "enter_project": "path",
    "interpreter": "lock",
    "is_foreign": "lock",
    "lock_fingerprint": "lock",
    "module_file": "defaults",
    "module_name": "source",
    "scan_sources": "source",
    "stamp_of": "source",
    "written_defaults": "defaults",
}

__all__ = [
    "CodeIndex",
    "FunctionSource",
    "Made",
    "SourceFile",
    "Stamp",
    "Unreadable",
    "enter_project",
    "interpreter",
    "is_foreign",
    "lock_fingerprint",
    "module_file",
    "module_name",
    "scan_sources",
    "stamp_of",
    "written_defaults",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
