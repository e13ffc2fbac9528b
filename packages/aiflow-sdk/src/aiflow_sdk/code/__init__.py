"""Knows user code by reading it, never by importing it: what a function reaches, and what is installed beside it.

Importing this package is quick: its names load on first use, and a process that builds pipelines needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.code.defaults import Made, Unreadable, module_file, written_defaults
    from aiflow_sdk.code.index import CodeIndex, FunctionSource
    from aiflow_sdk.code.lock import interpreter, is_foreign, lock_fingerprint
    from aiflow_sdk.code.path import enter_project, path_of_others
    from aiflow_sdk.code.source import SourceFile, Stamp, module_name, scan_sources, stamp_of

_HOMES = {
    "CodeIndex": "aiflow_sdk.code.index",
    "FunctionSource": "aiflow_sdk.code.index",
    "Made": "aiflow_sdk.code.defaults",
    "SourceFile": "aiflow_sdk.code.source",
    "Stamp": "aiflow_sdk.code.source",
    "Unreadable": "aiflow_sdk.code.defaults",
    "enter_project": "aiflow_sdk.code.path",
    "interpreter": "aiflow_sdk.code.lock",
    "is_foreign": "aiflow_sdk.code.lock",
    "lock_fingerprint": "aiflow_sdk.code.lock",
    "module_file": "aiflow_sdk.code.defaults",
    "module_name": "aiflow_sdk.code.source",
    "path_of_others": "aiflow_sdk.code.path",
    "scan_sources": "aiflow_sdk.code.source",
    "stamp_of": "aiflow_sdk.code.source",
    "written_defaults": "aiflow_sdk.code.defaults",
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
    "path_of_others",
    "scan_sources",
    "stamp_of",
    "written_defaults",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
