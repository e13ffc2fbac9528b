"""What Airflow's side of aiflow and whoever talks to an Airflow from elsewhere must say alike.

The settings that an Airflow needs for what is deployed, and what a deployed DAG tells of itself where Airflow has no
field for it: in its default arguments, which Airflow's API shows and no operator takes.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from aiflow_sdk.plan import Plan, PlanNode

BROKEN_TAG = "aiflow-broken"
"""Of the DAG that stands for a plan that cannot be used."""
ABOUT = "aiflow"
"""The key in a DAG's default arguments."""


class Setting(NamedTuple):
    """One setting of airflow.cfg and what it has to be."""

    section: str
    name: str
    value: str
    holds: Literal["exactly", "at most", "at least"]
    """How another value than ``value`` is judged: a shorter interval is as good, for instance."""
    why: str
    otherwise: str
    """What is to be expected where it does not hold."""
    is_vital: bool = False
    """Whether runs go wrong without it, and not only late."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"AIRFLOW__{self.section.upper()}__{self.name.upper()}"

    def accepts(self, value: str) -> bool:
        """Tell whether a value that an Airflow has will do."""
        if self.holds == "exactly":
            return value.strip().lower() == self.value
        try:
            number, wanted = float(value), float(self.value)
        except ValueError:
            return False
        return number <= wanted if self.holds == "at most" else number >= wanted


REQUIRED = (
    Setting(
        "core",
        "min_serialized_dag_update_interval",
        "0",
        "at most",
        "two publishes within the default's 30 seconds would run new plans on the old graph",
        "of two releases soon after one another the second's plans run on the first's graph",
        is_vital=True,
    ),
    Setting(
        "dag_processor",
        "refresh_interval",
        "2",
        "at most",
        "how long a publish may stay unseen; looking costs one listing of the store",
        "a release is seen that much later",
    ),
    Setting(
        "dag_processor",
        "bundle_refresh_check_interval",
        "1",
        "at most",
        "how often Airflow asks whether it is time to look",
        "a release is seen that much later",
    ),
    Setting(
        "dag_processor",
        "min_file_process_interval",
        "3600",
        "at least",
        "the shims never change: parsing them again without a publish is work for nothing",
        "files that never change are parsed again",
    ),
    Setting(
        "dag_processor",
        "file_parsing_sort_mode",
        "modified_time",
        "exactly",
        "a file whose DAGs a publish changed is parsed first, not when its turn comes",
        "what a release changed waits its turn",
    ),
    Setting(
        "workers",
        "min_heartbeat_interval",
        "2",
        "at most",
        "a task hears of a user's mark-failed or clear with its next heartbeat; with two seconds its process ends "
        "within five",
        "a task hears that much later that it was cleared or ended",
    ),
)
"""Each is shown with its reason in ``docs/airflow.md``."""


def about_plan(plan: Plan) -> dict[str, Any]:
    """Return what a DAG tells of the plan that it was made of, JSON-ready."""
    return {
        "project": plan.project,
        "pipeline": plan.pipeline_id,
        "environment": plan.environment.name,
        "version": short_version(plan),
        "partition": plan.partition,
        "timezone": plan.timezone if plan.partition else "UTC",
        "tasks": {
            task.id: {"engine": task.engine, "nodes": [_about_node(plan.nodes[node_id]) for node_id in task.node_ids]}
            for task in plan.tasks
        },
    }


def about_broken(text: str) -> dict[str, Any]:
    """Return what the DAG of a plan that cannot be used tells: why."""
    return {"error": text}


def read_about(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a DAG tells of itself, from its details as Airflow's API gives them; None of one that is not ours."""
    found = (details.get("default_args") or {}).get(ABOUT)
    return found if isinstance(found, Mapping) else None


def run_id_in_airflow(dag_id: str, dag_run_id: str, run_after: datetime) -> str:
    """Return the id of the run of aiflow that a DAG run is; ``run_after`` is when that was to begin.

    A UUID of version 7's form, the same in every task, attempt and clear, sorted by when runs were to begin.
    """
    value = int.from_bytes(digest_in_airflow("run", dag_id, dag_run_id)[:10], "big")
    value |= int(run_after.timestamp() * 1000) % 2**48 << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def digest_in_airflow(what: str, dag_id: str, dag_run_id: str) -> bytes:
    """Return 32 bytes that stand for one thing about a DAG run."""
    return hashlib.sha256(f"{what}\n{dag_id}\n{dag_run_id}".encode()).digest()


def short_version(plan: Plan) -> str:
    """Return the beginning of the plan's fingerprint, as people are shown it."""
    return plan.version.rpartition(":")[2][:12]


def _about_node(node: PlanNode) -> dict[str, str]:
    return {"id": node.id, "type": node.type, "what": what_of(node)}


def what_of(node: PlanNode) -> str:
    """Return what a node calls, reads or writes, in a word."""
    return node.entrypoint or (node.dataset[1] if node.dataset else node.kind) or "sql"
