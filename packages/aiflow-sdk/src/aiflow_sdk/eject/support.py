"""Whether a plan can be written down: its kinds, engines and clusters, and what its modules still import of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.errors import Where
from aiflow_sdk.partitions import Window, is_window
from aiflow_sdk.place import node_place
from aiflow_sdk.plan import Plan, PlanNode

_OURS = "aiflow_sdk."
_LOCAL = "local"
_HOUR = timedelta(hours=1)
_LOOKED_AT_YEARS = range(2020, 2040)
"""In which changes of a zone's clocks are looked for: what is still made again, and what is still to come."""


def check_support(plan: Plan, notes: Notes, places: Mapping[str, Where]) -> None:
    """Refuse what comes with other packages, and what only aiflow's own engine can do."""

    def refuse(node_id: str, message: str, hint: str) -> None:
        notes.refuse(message, node_place(places, plan.pipeline_id, node_id), hint)

    for node in plan.node_list:
        if node.plugin is not None and not node.plugin.startswith(_OURS):
            refuse(
                node.id,
                f"the {node.type} '{node.kind}' of '{node.id}' is a plugin ({node.plugin.partition(':')[0]}), whose "
                "plain code only its authors know",
                "write that part of the DAG by hand, from a pipeline without it",
            )
        if node.is_here:
            refuse(node.id, f"the function of '{node.id}' exists only where it was typed", "put it into a module")
    for task in plan.tasks:
        if not task.engine_plugin.startswith(_OURS):
            refuse(task.id, f"the engine '{task.engine}' of '{task.id}' is a plugin", "use python or spark")
        if not task.bounded:
            refuse(task.id, f"the task '{task.id}' never ends", "run it beside Airflow")
        stated = plan.environment.clusters.get(task.cluster)
        if stated is not None and stated.get("kind") != _LOCAL:
            refuse(
                task.id,
                f"the cluster '{task.cluster}' of '{task.id}' is of the kind '{stated.get('kind')}', a plugin",
                "eject for an environment in which it is local: --env dev",
            )
    if _counts_hours(plan) and not _has_whole_hours(plan.timezone):
        refuse(
            "",
            f"the clocks of {plan.timezone} change by other than whole hours, and an hour is then two partitions, "
            "which plain code does not count",
            "give the pipeline another timezone, or days",
        )
    if "partition" in plan.params or "append_again" in plan.params:
        refuse("", "a param of the pipeline is called 'partition' or 'append_again', as one of the DAG is", "rename it")


def _counts_hours(plan: Plan) -> bool:
    return plan.partition == "hour" or any(_reads_hours(node) for node in plan.node_list)


def _reads_hours(node: PlanNode) -> bool:
    asked = node.options.get("partitions")
    values = asked.values() if isinstance(asked, Mapping) else ()
    return any(is_window(value) and Window.from_json(value).grain == "hour" for value in values)


@cache
def _has_whole_hours(timezone: str) -> bool:
    """Tell whether the zone's clocks change by whole hours, at a full hour."""
    zone = ZoneInfo(timezone)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta()

    moment, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (_LOOKED_AT_YEARS.start, _LOOKED_AT_YEARS.stop))
    while moment < end:
        later = moment + timedelta(days=1)
        before, after = offset(moment), offset(later)
        if after != before:
            # One of the hours that the clocks showed before has to end with the change.
            ends = (moment - before % _HOUR + number * _HOUR for number in range(26))
            is_full = any(offset(one) == after and offset(one - timedelta(seconds=1)) == before for one in ends)
            if not is_full or (after - before) % _HOUR:
                return False
        moment = later
    return True


def modules_of_ours(plan: Plan, code: CodeIndex) -> list[str]:
    """Return the project's files that the functions reach and that import aiflow, sorted."""
    entrypoints = {node.entrypoint for node in plan.node_list if node.entrypoint}
    files = {path for entrypoint in entrypoints for path in code.closure(entrypoint)}
    return sorted(
        path
        for path in files
        if any(name.split(":")[0].split(".")[0] == "aiflow_sdk" for name in code.source(path).imports)
    )
