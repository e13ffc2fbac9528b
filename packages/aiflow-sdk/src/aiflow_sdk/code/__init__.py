"""Knows user code by reading it, never by importing it: what a function reaches, and what is installed beside it."""

from aiflow_sdk.code.defaults import Made, Unreadable, module_file, written_defaults
from aiflow_sdk.code.index import CodeIndex, FunctionSource
from aiflow_sdk.code.lock import interpreter, is_foreign, lock_fingerprint
from aiflow_sdk.code.path import enter_project
from aiflow_sdk.code.source import SourceFile, Stamp, module_name, scan_sources, stamp_of

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
