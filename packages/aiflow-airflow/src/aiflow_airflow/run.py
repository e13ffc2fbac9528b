"""From Airflow's DAG run to aiflow's: the partition, the names and the params, the same however the run was started."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from aiflow_sdk.bundles.airflow import digest_in_airflow, run_id_in_airflow
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.plan import Plan, Run, make_run
from aiflow_sdk.plan.run import Cause

PARTITION = "partition"
"""The key of a run's ``conf`` that names its partition where the run itself has none: ``{"partition": "2026-11-20"}``,
of a pipeline that takes ranges also ``2026-11-01..2026-11-20``."""

_CAUSES: Mapping[str, Cause] = {
    "scheduled": "schedule",
    "asset_triggered": "dataset",
    "backfill": "backfill",
    "manual": "manual",
}


class DagRun(Protocol):
    """What is needed of Airflow's DAG run; see ``airflow.sdk.types.DagRunProtocol``."""

    dag_id: str
    run_id: str
    run_after: Any
    run_type: Any
    clear_number: int | None
    conf: dict[str, Any] | None
    partition_key: str | None


def run_of(plan: Plan, dag_run: DagRun, *, try_number: int, params: Mapping[str, Any]) -> Run:
    """Return the run of a plan that Airflow's DAG run stands for.

    Its partition is the DAG run's, else the one that its ``conf`` names, else the last that was complete when the run
    was to begin. Each clear is another execution. Every task of a run gets the same names. Raises as
    :func:`aiflow_sdk.plan.make_run`.
    """
    stated = dag_run.partition_key or (dag_run.conf or {}).get(PARTITION)
    if stated is not None and not isinstance(stated, str):
        raise ConfigurationError(
            "bad-date",
            f'"{PARTITION}" in the run\'s conf is text, not {stated!r}',
            hint='as in {"partition": "2026-11-20"}',
        )
    first, _, last = (stated or "").partition("..")
    execution = 1 + (dag_run.clear_number or 0)
    run = make_run(
        plan,
        partition=(first or None) if plan.partition else None,
        last_partition=(last or None) if plan.partition else None,
        params={name: value for name, value in params.items() if name in plan.params},
        cause="clear"
        if execution > 1
        else _CAUSES.get(str(getattr(dag_run.run_type, "value", dag_run.run_type)), "manual"),
        run_id=run_id_in_airflow(dag_run.dag_id, dag_run.run_id, _moment(dag_run)),
        execution=execution,
        attempt=max(1, try_number),
        external_id=dag_run.run_id,
        now=_moment(dag_run),
    )
    trace_id = digest_in_airflow("trace", dag_run.dag_id, dag_run.run_id).hex()[:32]
    return Run.model_validate({**dict(run), "trace_id": trace_id})


def _moment(dag_run: DagRun) -> datetime:
    return datetime.fromtimestamp(dag_run.run_after.timestamp(), UTC)
