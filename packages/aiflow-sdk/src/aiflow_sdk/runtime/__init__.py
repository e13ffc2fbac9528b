"""The runtime: does what one task of a plan says, on this machine, in this process.

``python -m aiflow_sdk.runtime --plan plan.json --task TASK`` is the same in a process of its own, on any machine that
has the plan, the user's code and the packages.
"""

from aiflow_sdk.runtime.context import Context
from aiflow_sdk.runtime.engine_version import installed_version
from aiflow_sdk.runtime.execution import Joined, ended_tasks, join_execution, note_ended, note_told
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
    "ended_tasks",
    "execute_task",
    "installed_version",
    "join_execution",
    "note_ended",
    "note_told",
    "sink_identities",
    "source_identities",
    "sweep_staging",
]
