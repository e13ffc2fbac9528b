"""``resources.python(request_cpu=…, request_memory=…)`` as Airflow's Kubernetes executor takes it: a pod override.

Kubernetes's client is large, so it is imported only where something is asked for and an executor would hear it.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.plan import PlanTask

_log = logging.getLogger(__name__)
_BASE = "base"
"""What Airflow calls the container that does the task."""


def executor_config_of(task: PlanTask) -> dict[str, Any] | None:
    """Return what the executor is told of the task's pod; None where nothing is asked for, or nobody starts pods."""
    asked = {"cpu": task.resources.get("request_cpu"), "memory": task.resources.get("request_memory")}
    requests = {name: str(value) for name, value in asked.items() if value is not None}
    if task.engine != "python" or not requests or not _starts_pods():
        return None
    models = _models()
    if models is None:
        return None
    container = models.V1Container(name=_BASE, resources=models.V1ResourceRequirements(requests=requests))
    return {"pod_override": models.V1Pod(spec=models.V1PodSpec(containers=[container]))}


@cache
def _starts_pods() -> bool:
    from airflow.configuration import conf

    return "kubernetes" in conf.get_mandatory_value("core", "executor").lower()


@cache
def _models() -> Any:
    try:
        from kubernetes.client import models  # type: ignore[import-untyped]  # it has no types
    except ImportError as error:
        _log.warning(
            "what resources.python(…) asks for is ignored, because Kubernetes's client is not installed here (%s): "
            "pip install apache-airflow-providers-cncf-kubernetes",
            error,
        )
        return None
    return models
