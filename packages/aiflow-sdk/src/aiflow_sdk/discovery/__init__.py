"""Finds a project's pipelines by importing its modules, in a child process that may fail, hang or be killed.

Importing this package is quick: its names load on first use, and the child needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.discovery.finding import Module, find_modules
    from aiflow_sdk.discovery.here import discover_here
    from aiflow_sdk.discovery.model import Discovered, Discovery
    from aiflow_sdk.discovery.package import discover_pipelines
    from aiflow_sdk.discovery.project import discover

_HOMES = {
    "Discovered": "model",
    "Discovery": "model",
    "Module": "finding",
    "discover": "project",
    "discover_here": "here",
    "discover_pipelines": "package",
    "find_modules": "finding",
}

__all__ = [
    "Discovered",
    "Discovery",
    "Module",
    "discover",
    "discover_here",
    "discover_pipelines",
    "find_modules",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"aiflow_sdk.discovery.{_HOMES[name]}"), name)
