"""Finds a project's pipelines by importing its modules, in a child process that may fail, hang or be killed.

Importing this package is quick: its names load on first use, and the child needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.discovery.finding import Module, find_modules
    from aiflow_sdk.discovery.here import discover_here
    from aiflow_sdk.discovery.model import Discovered, Discovery
    from aiflow_sdk.discovery.package import discover_pipelines
    from aiflow_sdk.discovery.project import discover

_HOMES = {
    "Discovered": "aiflow_sdk.discovery.model",
    "Discovery": "aiflow_sdk.discovery.model",
    "Module": "aiflow_sdk.discovery.finding",
    "discover": "aiflow_sdk.discovery.project",
    "discover_here": "aiflow_sdk.discovery.here",
    "discover_pipelines": "aiflow_sdk.discovery.package",
    "find_modules": "aiflow_sdk.discovery.finding",
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


__getattr__ = load_on_first_use(__name__, _HOMES)
