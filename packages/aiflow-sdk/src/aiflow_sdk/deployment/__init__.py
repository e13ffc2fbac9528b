"""Checks and compiles a whole project: every problem of every pipeline, and a folder of plans.

Importing this package is quick: its names load on first use, and where nothing changed the compiler is never loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.deployment.check import CheckReport, check_project
    from aiflow_sdk.deployment.compile import Compiled, CompileReport, compile_project

_HOMES = {
    "CheckReport": "aiflow_sdk.deployment.check",
    "CompileReport": "aiflow_sdk.deployment.compile",
    "Compiled": "aiflow_sdk.deployment.compile",
    "check_project": "aiflow_sdk.deployment.check",
    "compile_project": "aiflow_sdk.deployment.compile",
}

__all__ = [
    "CheckReport",
    "CompileReport",
    "Compiled",
    "check_project",
    "compile_project",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
