"""From a plan to Airflow's DAG: a function of the plan and of Airflow's settings, and of nothing else.

Equal plans give equal DAGs in all processes of one installation, as long as all of them have the same packages: a task
that asks for more of its machine has a pod override where pods are how tasks run and Kubernetes' client is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, Context, Param, TaskGroup

from aiflow_airflow.assets import asset_of, restated_asset
from aiflow_airflow.deadlines import deadline_of
from aiflow_airflow.notices import tell_failed
from aiflow_airflow.operator import AiflowOperator, BrokenOperator
from aiflow_airflow.pods import executor_config_of
from aiflow_airflow.schedule import schedule_of
from aiflow_airflow.supply import Supply
from aiflow_sdk.bundles.airflow import ABOUT, BROKEN_TAG, about_broken, about_plan, short_version, what_of
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir import thaw
from aiflow_sdk.plan import Plan, PlanNode, PlanTask

_LONGEST_TAG = 100


def dag_of_plan(plan: Plan, dag_id: str, supply: Supply | None = None) -> DAG:
    """Return the DAG of a plan; ``supply`` gives its tasks what they run with, and without it none can run."""
    optional = {**_defaults(), **_own_fields(plan.extra, ("access_control", "owner_links"))}
    if plan.concurrency:
        optional["max_active_tasks"] = plan.concurrency
    dag = DAG(
        dag_id,
        schedule=schedule_of(plan),
        description=_first_line(plan.description) or None,
        doc_md=_documentation(plan),
        start_date=_moment(plan.start_date, plan.timezone),
        catchup=plan.catchup,
        max_active_runs=plan.max_active_runs,
        dagrun_timeout=timedelta(seconds=plan.timeout_seconds) if plan.timeout_seconds else None,
        deadline=deadline_of(plan),
        tags=[tag[:_LONGEST_TAG] for tag in plan.tags],
        params={name: _param(value) for name, value in plan.params.items()},
        default_args={"owner": plan.owner or "aiflow", ABOUT: about_plan(plan)},
        # Fix, deploy, clear: what is done again is done by the code that is current then.
        rerun_with_latest_version=True,
        **optional,
    )
    groups = _Groups(dag, plan)
    operators: dict[str, AiflowOperator] = {}
    for task in plan.tasks:
        operators[task.id] = _operator(dag, plan, task, supply, groups)
        for upstream in task.upstream:
            operators[upstream] >> operators[task.id]
    return dag


def make_broken_dag(dag_id: str, error: BaseException) -> DAG:
    """Return the DAG that stands for a pipeline whose plan cannot be used: it says why, and runs to an error."""
    text = f"error[{error.code}]: {error}" if isinstance(error, AiflowError) else f"{type(error).__name__}: {error}"
    dag = DAG(
        dag_id,
        schedule=None,
        catchup=False,
        tags=[BROKEN_TAG],
        default_args={ABOUT: about_broken(text)},
        description="the plan of this pipeline cannot be used",
        doc_md=f"**The plan of this pipeline cannot be used.**\n\n```\n{text}\n```\n\nDeploy the pipeline again.",
    )
    BrokenOperator(task_id="broken", message=text, dag=dag)
    return dag


@cache
def _defaults() -> dict[str, Any]:
    """Return what Airflow's configuration gives a DAG that does not say it; a DAG alone would look it up each time."""
    from airflow.configuration import conf

    return {
        "max_active_tasks": conf.getint("core", "max_active_tasks_per_dag"),
        "max_consecutive_failed_dag_runs": conf.getint("core", "max_consecutive_failed_dag_runs_per_dag"),
        "disable_bundle_versioning": conf.getboolean("dag_processor", "disable_bundle_versioning"),
    }


def _operator(dag: DAG, plan: Plan, task: PlanTask, supply: Supply | None, groups: _Groups) -> AiflowOperator:
    nodes = [plan.nodes[node_id] for node_id in task.node_ids]
    return AiflowOperator(
        task_id=task.id,
        dag=dag,
        task_group=groups.of(task),
        plan=plan,
        plan_task=task,
        supply=supply,
        doc_md=_task_documentation(task, nodes),
        inlets=_assets(plan, (node for node in nodes if node.type == "source")),
        outlets=_outlets(plan, [node for node in nodes if node.type == "sink"]),
        on_failure_callback=_callback(plan),
        retries=task.retries,
        retry_delay=timedelta(seconds=task.retry_delay_seconds),
        retry_exponential_backoff=task.retry_backoff if task.retry_backoff > 1 else 0,
        executor_config=executor_config_of(task),
        execution_timeout=timedelta(seconds=task.timeout_seconds) if task.timeout_seconds else None,
        max_active_tis_per_dag=plan.concurrency,
        **_own_fields(plan.extra, ("pool", "pool_slots", "queue", "priority_weight", "weight_rule")),
    )


def _callback(plan: Plan) -> Callable[[Context], None] | None:
    if not plan.notify:
        return None
    pipeline = f"{plan.project}/{plan.pipeline_id}"
    return partial(tell_failed, targets=plan.notify, pipeline=pipeline, owner=plan.owner)


class _Groups:
    """The task groups of a DAG: one for each branch."""

    def __init__(self, dag: DAG, plan: Plan) -> None:
        self._dag = dag
        self._ids = _group_ids(plan)
        self._made: dict[str, TaskGroup] = {}

    def of(self, task: PlanTask) -> TaskGroup:
        """Return the group of the branch that the task lies in (``enrich.us``: ``us``), else the DAG's own."""
        branch = _branch_of(task)
        if not branch:
            return self._dag.task_group
        if branch not in self._made:
            self._made[branch] = TaskGroup(
                self._ids[branch], prefix_group_id=False, dag=self._dag, parent_group=self._dag.task_group
            )
        return self._made[branch]


def _group_ids(plan: Plan) -> dict[str, str]:
    """Return what the group of each branch is called: like the branch, unless a task is called so.

    Airflow has one set of ids for tasks and groups. No other name is taken that a branch could have for its own.
    """
    branches = sorted({branch for task in plan.tasks if (branch := _branch_of(task))})
    tasks = {task.id for task in plan.tasks}
    taken = tasks | set(branches)
    found: dict[str, str] = {}
    for branch in branches:
        names = (f"{branch}-branch{number if number > 1 else ''}" for number in count(1))
        found[branch] = branch if branch not in tasks else next(name for name in names if name not in taken)
        taken.add(found[branch])
    return found


def _branch_of(task: PlanTask) -> str:
    return task.id.partition(".")[2]


def _assets(plan: Plan, nodes: Iterable[PlanNode]) -> list[Asset]:
    names = dict.fromkeys(node.dataset[1] for node in nodes if node.dataset)
    return [asset_of(plan.environment.name, name) for name in names]


def _outlets(plan: Plan, sinks: list[PlanNode]) -> list[Asset]:
    """Return what the task may write: each dataset, and each as one that is made again."""
    names = dict.fromkeys(node.dataset[1] for node in sinks if node.dataset)
    return [*_assets(plan, sinks), *(restated_asset(plan.environment.name, name) for name in names)]


def _param(value: Any) -> Param:
    """Return a param whose form takes what the default is like."""
    plain = thaw(value)
    match plain:
        case bool():
            kind: Any = "boolean"
        case int():
            kind = "integer"
        case float():
            kind = "number"
        case str():
            kind = "string"
        case list():
            kind = "array"
        case dict():
            kind = "object"
        case _:
            return Param(plain)
    return Param(plain, type=kind)


def _moment(text: str | None, timezone: str) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))


def _own_fields(extra: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: thaw(extra[name]) for name in names if name in extra}


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _documentation(plan: Plan) -> str:
    lines = [plan.description.strip(), ""] if plan.description.strip() else []
    lines += [
        f"`{plan.project}/{plan.pipeline_id}` in the environment `{plan.environment.name}`, "
        f"version `{short_version(plan)}`"
        + (f", a run for one {plan.partition} ({plan.timezone})." if plan.partition else "."),
        "",
        "| task | engine | nodes |",
        "| --- | --- | --- |",
        *(
            f"| `{task.id}` | {task.engine} | {' → '.join(f'`{node}`' for node in task.node_ids)} |"
            for task in plan.tasks
        ),
        "",
        "Written with aiflow: change the pipeline's own code, then `aiflow deploy`.",
    ]
    return "\n".join(lines)


def _task_documentation(task: PlanTask, nodes: Iterable[PlanNode]) -> str:
    told = (f"- `{node.id}` ({node.type}): `{what_of(node)}`" for node in nodes)
    return "\n".join([f"On {task.engine}:", "", *told])
