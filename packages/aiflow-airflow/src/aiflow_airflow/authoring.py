"""The seed's way: a DAG file that makes DAGs itself, for those who want no bundle store.

What it costs: every parse of the file starts a child process that imports the project's modules, so that parsing takes
as long as they do; nothing pins a run to the version that it began with; and the environment is somebody else's care.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_airflow.dag import dag_of_plan
from aiflow_airflow.supply import FolderSupply
from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import DAG


def dag_of_folder(plan: Plan, root: Path, python: Path) -> DAG:
    """Return the DAG of a plan that was just compiled; its tasks run in ``root``, by the interpreter ``python``."""
    return dag_of_plan(plan, dag_id_of(plan.project, plan.pipeline_id), FolderSupply(root, python, plan))
