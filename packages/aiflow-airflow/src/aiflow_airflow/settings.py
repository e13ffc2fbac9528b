"""Sets what an Airflow needs that runs what aiflow deploys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiflow_sdk.bundles.airflow import REQUIRED


def bundle_config(
    store: str, environment: str, *, name: str = "aiflow", storage: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the value of ``[dag_processor] dag_bundle_config_list`` for one environment's bundle."""
    return [
        {
            "name": name,
            "classpath": "aiflow_airflow.bundle.AiflowBundle",
            "kwargs": {"store": store, "environment": environment, **({"storage": dict(storage)} if storage else {})},
        }
    ]


def variables(bundles: list[dict[str, Any]]) -> dict[str, str]:
    """Return the environment variables that set all that is required."""
    found = {setting.variable: setting.value for setting in REQUIRED}
    return {**found, "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}
