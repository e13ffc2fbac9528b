"""Checks and compiles a whole project: every problem of every pipeline, and a folder of plans."""

from aiflow_sdk.deployment.check import CheckReport, check_project
from aiflow_sdk.deployment.compile import Compiled, CompileReport, compile_project

__all__ = [
    "CheckReport",
    "CompileReport",
    "Compiled",
    "check_project",
    "compile_project",
]
