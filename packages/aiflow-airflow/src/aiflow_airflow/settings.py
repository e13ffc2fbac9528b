"""The settings of an Airflow that runs what aiflow deploys, each with its reason; ``docs/airflow.md`` shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One setting of airflow.cfg."""

    section: str
    name: str
    value: str
    why: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"AIRFLOW__{self.section.upper()}__{self.name.upper()}"


REQUIRED = (
    Setting(
        "core",
        "min_serialized_dag_update_interval",
        "0",
        "two publishes within the default's 30 seconds would run new plans on the old graph",
    ),
    Setting(
        "dag_processor",
        "refresh_interval",
        "2",
        "how long a publish may stay unseen; looking costs one listing of the store",
    ),
    Setting("dag_processor", "bundle_refresh_check_interval", "1", "how often Airflow asks whether it is time to look"),
    Setting(
        "dag_processor",
        "min_file_process_interval",
        "3600",
        "the shims never change: parsing them again without a publish is work for nothing",
    ),
    Setting(
        "dag_processor",
        "file_parsing_sort_mode",
        "modified_time",
        "a shard that a publish changed is parsed first, not when its turn comes",
    ),
    Setting(
        "workers",
        "min_heartbeat_interval",
        "2",
        "a task hears of a user's mark-failed or clear with its next heartbeat; with two seconds its process ends "
        "within five",
    ),
)


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
