"""``aiflow.toml``: a project's settings and its environments, and where secrets are looked up.

Importing this package is quick: its names load on first use, and a process that builds pipelines needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.config.address import Address, parse_address, without_credentials
    from aiflow_sdk.config.environment import (
        ENVIRONMENTS,
        GENERATIONS,
        LEDGER,
        SERVICE,
        Environment,
        LakeRoot,
        ReadThrough,
        shared_lake,
    )
    from aiflow_sdk.config.overlap import mounted_below, overlap
    from aiflow_sdk.config.project import CONFIG_FILE, Project, load_project
    from aiflow_sdk.config.secret import (
        SCHEME,
        Secret,
        SecretProvider,
        resolve_secret,
        resolve_secrets,
        secret_problems,
    )
    from aiflow_sdk.config.storage import storage_options

_HOMES = {
    "Address": "aiflow_sdk.config.address",
    "CONFIG_FILE": "aiflow_sdk.config.project",
    "ENVIRONMENTS": "aiflow_sdk.config.environment",
    "Environment": "aiflow_sdk.config.environment",
    "GENERATIONS": "aiflow_sdk.config.environment",
    "LEDGER": "aiflow_sdk.config.environment",
    "LakeRoot": "aiflow_sdk.config.environment",
    "Project": "aiflow_sdk.config.project",
    "ReadThrough": "aiflow_sdk.config.environment",
    "SCHEME": "aiflow_sdk.config.secret",
    "SERVICE": "aiflow_sdk.config.environment",
    "Secret": "aiflow_sdk.config.secret",
    "SecretProvider": "aiflow_sdk.config.secret",
    "load_project": "aiflow_sdk.config.project",
    "mounted_below": "aiflow_sdk.config.overlap",
    "overlap": "aiflow_sdk.config.overlap",
    "parse_address": "aiflow_sdk.config.address",
    "resolve_secret": "aiflow_sdk.config.secret",
    "resolve_secrets": "aiflow_sdk.config.secret",
    "secret_problems": "aiflow_sdk.config.secret",
    "shared_lake": "aiflow_sdk.config.environment",
    "storage_options": "aiflow_sdk.config.storage",
    "without_credentials": "aiflow_sdk.config.address",
}

__all__ = [
    "CONFIG_FILE",
    "ENVIRONMENTS",
    "GENERATIONS",
    "LEDGER",
    "SCHEME",
    "SERVICE",
    "Address",
    "Environment",
    "LakeRoot",
    "Project",
    "ReadThrough",
    "Secret",
    "SecretProvider",
    "load_project",
    "mounted_below",
    "overlap",
    "parse_address",
    "resolve_secret",
    "resolve_secrets",
    "secret_problems",
    "shared_lake",
    "storage_options",
    "without_credentials",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
