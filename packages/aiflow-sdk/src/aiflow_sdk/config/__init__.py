"""``aiflow.toml``: a project's settings and its environments, and where secrets are looked up."""

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
