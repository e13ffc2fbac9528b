"""The runtime: does what one task of a plan says, on this machine, in this process.

``python -m aiflow_sdk.runtime --plan plan.json --task TASK`` is the same in a process of its own, on any machine that
has the plan, the user's code and the packages. Names are loaded from their modules on first use.
"""

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.runtime.context import Context
    from aiflow_sdk.runtime.engine_version import installed_version
    from aiflow_sdk.runtime.execution import (
        Joined,
        columns_of_run,
        ended_tasks,
        join_execution,
        note_ended,
        note_told,
        tells_of_run,
    )
    from aiflow_sdk.runtime.generation import claim_generation
    from aiflow_sdk.runtime.identities import Data, sink_identities, source_identities
    from aiflow_sdk.runtime.staging import Staging, StoreStaging, sweep_staging
    from aiflow_sdk.runtime.task import bound_environment, execute_task

__all__ = [
    "Context",
    "Data",
    "Joined",
    "Staging",
    "StoreStaging",
    "bound_environment",
    "claim_generation",
    "columns_of_run",
    "ended_tasks",
    "execute_task",
    "installed_version",
    "join_execution",
    "note_ended",
    "note_told",
    "sink_identities",
    "source_identities",
    "sweep_staging",
    "tells_of_run",
]

_HOMES = {
    "bound_environment": "aiflow_sdk.runtime.task",
    "claim_generation": "aiflow_sdk.runtime.generation",
    "columns_of_run": "aiflow_sdk.runtime.execution",
    "Context": "aiflow_sdk.runtime.context",
    "Data": "aiflow_sdk.runtime.identities",
    "ended_tasks": "aiflow_sdk.runtime.execution",
    "execute_task": "aiflow_sdk.runtime.task",
    "installed_version": "aiflow_sdk.runtime.engine_version",
    "join_execution": "aiflow_sdk.runtime.execution",
    "Joined": "aiflow_sdk.runtime.execution",
    "note_ended": "aiflow_sdk.runtime.execution",
    "note_told": "aiflow_sdk.runtime.execution",
    "sink_identities": "aiflow_sdk.runtime.identities",
    "source_identities": "aiflow_sdk.runtime.identities",
    "Staging": "aiflow_sdk.runtime.staging",
    "StoreStaging": "aiflow_sdk.runtime.staging",
    "sweep_staging": "aiflow_sdk.runtime.staging",
    "tells_of_run": "aiflow_sdk.runtime.execution",
}

__getattr__ = load_on_first_use(__name__, _HOMES)
