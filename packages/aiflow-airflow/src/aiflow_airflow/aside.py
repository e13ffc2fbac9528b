"""Processes that a task starts and that go on without it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

LEFT: list[subprocess.Popen[bytes]] = []
"""Those that were started here: while they are known, Python does not complain of them."""


_POD = "AIRFLOW_IS_K8S_EXECUTOR_POD"
"""Airflow says so in a pod of its Kubernetes executor."""


def is_pod_of_one_task() -> bool:
    """Tell whether this machine is a pod that ends with its one task, and what goes on without the task with it."""
    return bool(os.environ.get(_POD))
