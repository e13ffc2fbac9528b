"""``aiflow.toml``: a project's settings and its environments, and where secrets are looked up.

Importing this package is quick: its names load on first use, and a process that builds pipelines needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.config.environment import Environment
    from aiflow_sdk.config.project import CONFIG_FILE, Project, load_project
    from aiflow_sdk.config.secret import (
        SCHEME,
        Secret,
        SecretProvider,
        resolve_secret,
        resolve_secrets,
        secret_problems,
    )

_HOMES = {
    "CONFIG_FILE": "project",
    "Environment": "environment",
    "Project": "project",
    "SCHEME": "secret",
    "Secret": "secret",
    "SecretProvider": "secret",
    "load_project": "project",
    "resolve_secret": "secret",
    "resolve_secrets": "secret",
    "secret_problems": "secret",
}

__all__ = [
    "CONFIG_FILE",
    "SCHEME",
    "Environment",
    "Project",
    "Secret",
    "SecretProvider",
    "load_project",
    "resolve_secret",
    "resolve_secrets",
    "secret_problems",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
