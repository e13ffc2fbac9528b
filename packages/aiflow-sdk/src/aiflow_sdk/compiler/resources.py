"""Which cluster and which engine options a transform gets."""

from __future__ import annotations

from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.config.configuration import command_to_set
from aiflow_sdk.errors import unknown_name
from aiflow_sdk.ir import FrozenMap, NodeIR

LOCAL = "local"


def cluster_of(subject: Subject, node: NodeIR) -> str:
    """Return the cluster that the node runs on: the one it names where the environment has it, else ``local``.

    In development every cluster that the environment does not name is local; elsewhere it is an ``UnknownNameError``.
    """
    wanted = node.resources.get("cluster")
    if wanted is None or wanted == LOCAL or wanted in subject.environment.clusters:
        return str(wanted or LOCAL)
    if subject.is_development:
        return LOCAL
    error = unknown_name(
        "unknown-cluster", "cluster", str(wanted), subject.environment.clusters, where=subject.where(node)
    )
    name = subject.environment.name
    error.notes = (*error.notes, f"looked in [environments.{name}.clusters] of aiflow.toml")
    if subject.environment.configuration_from_service:
        connection = f"clusters.{wanted}"
        error.notes = (*error.notes, f"no connection '{connection}' is handed out by {subject.environment.service}")
        if not (error.hint or "").startswith("did you mean"):
            error.notes = (*error.notes, *([error.hint] if error.hint else []))
            error.hint = f"name it there, or type: {command_to_set('connection', connection, name)}"
    raise error


def engine_options(node: NodeIR) -> FrozenMap:
    """Return what the engine is given of the node's resources."""
    return node.resources.without("engine", "cluster")
