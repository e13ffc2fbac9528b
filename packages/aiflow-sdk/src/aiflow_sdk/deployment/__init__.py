"""Checks, compiles and publishes a whole project: every problem of every pipeline, a folder of plans, a release.

Importing this package is quick: its names load on first use, and where nothing changed the compiler is never loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.deployment.access import refuse_ungranted
    from aiflow_sdk.deployment.check import CheckReport, check_project
    from aiflow_sdk.deployment.compile import Compiled, CompileReport, compile_project
    from aiflow_sdk.deployment.deploy import (
        DeployReport,
        RollbackReport,
        deploy_project,
        open_bundles,
        roll_back_project,
    )
    from aiflow_sdk.deployment.history import DeployedPipeline, HistoryEntry, Version
    from aiflow_sdk.deployment.recollection import RecordedPipeline, recalled_history
    from aiflow_sdk.deployment.recording import Recorded, record_releases

_HOMES = {
    "CheckReport": "aiflow_sdk.deployment.check",
    "CompileReport": "aiflow_sdk.deployment.compile",
    "Compiled": "aiflow_sdk.deployment.compile",
    "DeployReport": "aiflow_sdk.deployment.deploy",
    "DeployedPipeline": "aiflow_sdk.deployment.history",
    "HistoryEntry": "aiflow_sdk.deployment.history",
    "Recorded": "aiflow_sdk.deployment.recording",
    "RecordedPipeline": "aiflow_sdk.deployment.recollection",
    "RollbackReport": "aiflow_sdk.deployment.deploy",
    "Version": "aiflow_sdk.deployment.history",
    "check_project": "aiflow_sdk.deployment.check",
    "compile_project": "aiflow_sdk.deployment.compile",
    "deploy_project": "aiflow_sdk.deployment.deploy",
    "open_bundles": "aiflow_sdk.deployment.deploy",
    "recalled_history": "aiflow_sdk.deployment.recollection",
    "record_releases": "aiflow_sdk.deployment.recording",
    "refuse_ungranted": "aiflow_sdk.deployment.access",
    "roll_back_project": "aiflow_sdk.deployment.deploy",
}

__all__ = [
    "CheckReport",
    "CompileReport",
    "Compiled",
    "DeployReport",
    "DeployedPipeline",
    "HistoryEntry",
    "Recorded",
    "RecordedPipeline",
    "RollbackReport",
    "Version",
    "check_project",
    "compile_project",
    "deploy_project",
    "open_bundles",
    "recalled_history",
    "record_releases",
    "refuse_ungranted",
    "roll_back_project",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
