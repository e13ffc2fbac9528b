"""A pipeline as an Airflow has it: what stands of it in a DAG's and a task's details.

What Airflow has no field for (the environment, and for what a run is) stands in the DAG's default arguments; see
:mod:`aiflow_sdk.bundles.airflow`.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiflow_sdk.bundles.airflow import read_about
from aiflow_sdk.errors import ConfigurationError, DocumentError, Where, unknown_name
from aiflow_sdk.orchestrator.client import AirflowClient
from aiflow_sdk.partitions import Grain, Partition, check_date, last_complete, partition_range


@dataclass(frozen=True)
class DeployedPipeline:
    """A pipeline as an Airflow has it."""

    dag_id: str
    project: str
    pipeline_id: str
    environment: str
    version: str
    """The beginning of the plan's fingerprint."""
    grain: Grain | None
    """For what a run is; None: for no partition."""
    timezone: str
    is_paused: bool
    params: Mapping[str, Any] = field(default_factory=dict)
    """Name → default."""

    def keys(self, date: str | None) -> str | None:
        """Return the key of the partition that ``date`` names, of a range ``first..last``; without one the last.

        That is the last complete one; of a pipeline without partitions there is none. Raises ``ConfigurationError``.
        """
        if self.grain is None:
            if date is None:
                return None
            raise ConfigurationError(
                "no-time-partition",
                f"the pipeline '{self.pipeline_id}' has no time partition, so a run is for no date",
                hint="leave the date out",
            )
        if date is None:
            return last_complete(self.grain, self.timezone, datetime.now(UTC)).key
        first, dots, last = date.partition("..")
        if not dots:
            check_date(date, self.grain)
            return Partition.parse(date, self.grain, self.timezone).key
        begin, end = partition_range(self.pipeline_id, self.grain, self.timezone, first, last)
        if end < begin:
            raise ConfigurationError(
                "reversed-range", f"the range ends ({end}) before it begins ({begin})", hint="swap the two dates"
            )
        return begin.key if begin == end else f"{begin.key}..{end.key}"

    def values(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return params as the types that their defaults have. Raises ``UnknownNameError``, ``ConfigurationError``."""
        from aiflow_sdk.plan.request import typed_param

        for name in given:
            if name not in self.params:
                raise unknown_name("unknown-param", "param", name, self.params)
        return {name: typed_param(name, value, self.params[name]) for name, value in given.items()}


def read_details(details: Mapping[str, Any]) -> DeployedPipeline:
    """Return the pipeline that a DAG's details tell of. Raises ``DocumentError``, ``ConfigurationError``."""
    dag_id, about = str(details["dag_id"]), read_about(details)
    if about is None:
        raise ConfigurationError(
            "foreign-dag",
            f"the DAG '{dag_id}' was not deployed by aiflow",
            where=Where(about=f"DAG '{dag_id}'"),
            hint="use Airflow's own page or command line for it",
        )
    if "error" in about:
        raise DocumentError(
            "broken-dag",
            f"Airflow cannot use the plan of '{dag_id}'",
            hint="deploy the pipeline again, with the version of aiflow that Airflow has",
            notes=[str(about["error"])],
        )
    params = details.get("params") or {}
    return DeployedPipeline(
        dag_id=dag_id,
        project=about["project"],
        pipeline_id=about["pipeline"],
        environment=about["environment"],
        version=about["version"],
        grain=about["partition"],
        timezone=about["timezone"],
        is_paused=bool(details.get("is_paused")),
        params={name: param.get("value") if isinstance(param, dict) else param for name, param in params.items()},
    )


class PipelinesOfDags:
    """The pipelines that DAGs are, each looked up once."""

    def __init__(self, client: AirflowClient) -> None:
        self.environment = client.environment
        self._client = client
        self._known: dict[str, DeployedPipeline | None] = {}

    def find(self, dag_id: str) -> DeployedPipeline | None:
        """Return a DAG's pipeline, of whatever environment; None of a stranger's DAG, or one that is gone.

        Raises ``OrchestratorError`` where Airflow does not answer.
        """
        if dag_id not in self._known:
            answer = self._client.call("GET", f"dags/{urllib.parse.quote(dag_id, safe='~')}/details")
            try:
                self._known[dag_id] = read_details(answer.data) if answer.is_ok else None
            except (ConfigurationError, DocumentError):  # not ours, or a plan that Airflow cannot read
                self._known[dag_id] = None
        return self._known[dag_id]


def read_nodes(details: Mapping[str, Any], task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a task, as its DAG's details tell them; of a task that is not ours the task itself."""
    told = ((read_about(details) or {}).get("tasks") or {}).get(task["task_id"]) or {}
    nodes = [
        {
            "id": node["id"],
            "type": node["type"],
            "kind": "",
            "engine": told["engine"],
            "entrypoint": node["what"] if node["type"] == "transform" else None,
            "input_ids": [],
            "place": node["what"] if node["type"] != "transform" else None,
        }
        for node in told.get("nodes", ())
    ]
    operator = str(task.get("operator_name") or "")
    return nodes or [
        {
            "id": task["task_id"],
            "type": "transform",
            "kind": "",
            "engine": "airflow",
            "entrypoint": operator or "task",
            "input_ids": [],
            "place": None,
        }
    ]
