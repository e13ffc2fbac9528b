"""``aiflow.toml``: a project's settings and its environments, and where secrets are looked up."""

from aiflow_sdk.config.address import Address, parse_address, without_credentials
from aiflow_sdk.config.environment import ENVIRONMENTS, Environment, LakeRoot, ReadThrough, shared_lake
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

__all__ = [
    "CONFIG_FILE",
    "ENVIRONMENTS",
    "SCHEME",
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
