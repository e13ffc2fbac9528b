"""``sla_minutes`` as Airflow's deadline of a run: counted from when the run was due, and none for a backfill.

Airflow's own references do not fit: a run of ours has no logical date (its partition says what it is for), and a run
that was queued late, because the scheduler was down, would be given the delay as a present.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert, deadline_reference

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from aiflow_sdk.plan import Plan


@deadline_reference
class RunDue(BaseDeadlineReference):
    """The moment at which a run was due: its firing, else when it was asked for; none for a backfill's."""

    required_kwargs = frozenset({"dag_id", "run_id"})

    def _evaluate_with(self, *, session: Session, **names: Any) -> datetime | None:
        from airflow.models import DagRun
        from sqlalchemy import select

        columns = select(DagRun.run_type, DagRun.run_after)
        found = session.execute(columns.where(DagRun.dag_id == names["dag_id"], DagRun.run_id == names["run_id"]))
        run = found.one_or_none()
        if run is None or str(getattr(run.run_type, "value", run.run_type)) == "backfill":
            return None
        due: datetime = run.run_after
        return due


def deadline_of(plan: Plan) -> DeadlineAlert | None:
    """Return the deadline of a plan's runs: whoever the plan notifies hears of one that is missed."""
    if not plan.sla_minutes:
        return None
    return DeadlineAlert(
        reference=RunDue(),
        interval=timedelta(minutes=plan.sla_minutes),
        callback=AsyncCallback(
            "aiflow_airflow.notices.tell_missed",
            kwargs={
                "targets": list(plan.notify),
                "pipeline": f"{plan.project}/{plan.pipeline_id}",
                "owner": plan.owner,
                "sla_minutes": plan.sla_minutes,
            },
        ),
        name=f"sla of {plan.sla_minutes:g} minutes",
    )
