"""Whether a plan can be written down: its kinds, engines and clusters, and what its modules still import of ours."""

from __future__ import annotations

from collections.abc import Mapping

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.errors import Where
from aiflow_sdk.place import node_place
from aiflow_sdk.plan import Plan

_OURS = "aiflow_sdk."
_LOCAL = "local"


def check_support(plan: Plan, notes: Notes, places: Mapping[str, Where]) -> None:
    """Refuse what comes with other packages, and what only aiflow's own engine can do."""

    def refuse(node_id: str, message: str, hint: str) -> None:
        notes.refuse(message, node_place(places, plan.pipeline_id, node_id), hint)

    for node in plan.node_list:
        if node.plugin is not None and not node.plugin.startswith(_OURS):
            refuse(
                node.id,
                f"the {node.type} '{node.kind}' of '{node.id}' is a plugin ({node.plugin.partition(':')[0]}), whose "
                "plain code only its authors know",
                "write that part of the DAG by hand, from a pipeline without it",
            )
        if node.is_here:
            refuse(node.id, f"the function of '{node.id}' exists only where it was typed", "put it into a module")
    for task in plan.tasks:
        if not task.engine_plugin.startswith(_OURS):
            refuse(task.id, f"the engine '{task.engine}' of '{task.id}' is a plugin", "use python or spark")
        if not task.bounded:
            refuse(task.id, f"the task '{task.id}' never ends", "run it beside Airflow")
        stated = plan.environment.clusters.get(task.cluster)
        if stated is not None and stated.get("kind") != _LOCAL:
            refuse(
                task.id,
                f"the cluster '{task.cluster}' of '{task.id}' is of the kind '{stated.get('kind')}', a plugin",
                "eject for an environment in which it is local: --env dev",
            )
    if "partition" in plan.params or "append_again" in plan.params:
        refuse("", "a param of the pipeline is called 'partition' or 'append_again', as one of the DAG is", "rename it")


def modules_of_ours(plan: Plan, code: CodeIndex) -> list[str]:
    """Return the project's files that the functions reach and that import aiflow, sorted."""
    entrypoints = {node.entrypoint for node in plan.node_list if node.entrypoint}
    files = {path for entrypoint in entrypoints for path in code.closure(entrypoint)}
    return sorted(
        path
        for path in files
        if any(name.split(":")[0].split(".")[0] == "aiflow_sdk" for name in code.source(path).imports)
    )
