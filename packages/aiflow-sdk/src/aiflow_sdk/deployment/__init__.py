"""Checks and compiles a whole project: every problem of every pipeline, and a folder of plans.

Importing this package is quick: its names load on first use, and where nothing changed the compiler is never loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.deployment.check import CheckReport, check_project
    from aiflow_sdk.deployment.compile import Compiled, CompileReport, compile_project

_HOMES = {
    "CheckReport": "check",
    "CompileReport": "compile",
    "Compiled": "compile",
    "check_project": "check",
    "compile_project": "compile",
}

__all__ = [
    "CheckReport",
    "CompileReport",
    "Compiled",
    "check_project",
    "compile_project",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"aiflow_sdk.deployment.{_HOMES[name]}"), name)
