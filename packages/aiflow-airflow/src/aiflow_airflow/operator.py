"""The one operator: it does a plan's task in the user's own environment and passes on what it says.

Here, in Airflow's process, runs none of the user's code. What Airflow stores of it is small: the plan's version and the
nodes, so that a DAG gets a new version when its plan has changed, and only then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from aiflow_airflow.assets import asset_of, is_restated, restated_alias, restated_asset
from aiflow_airflow.child import TaskProcess
from aiflow_airflow.run import run_of
from aiflow_sdk.errors import AiflowError, RunError, Where
from aiflow_sdk.plan import NodeFacts, Plan, PlanTask, Run, TaskResult

if TYPE_CHECKING:
    from airflow.sdk import Context

    from aiflow_airflow.supply import Supply

_user_log = logging.getLogger("aiflow.task")
_COLORS = {"python": "#dbeafe", "spark": "#ffedd5"}
_LOOK_AGAIN = timedelta(seconds=30)
"""How often a task that waits for its data looks; meanwhile it holds no worker."""
_NOT_READY = ("input-absent", "input-incomplete")


class TaskFailed(AirflowException):
    """The task went wrong in a way that another attempt may not."""


class AiflowOperator(BaseOperator):
    """Does one task of a plan."""

    template_fields: Sequence[str] = ("version", "nodes")
    """What is shown of an attempt: which version of the pipeline it was, and what it did."""

    def __init__(self, *, plan: Plan, plan_task: PlanTask, supply: Supply | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.version = plan.version
        self.nodes = list(plan_task.node_ids)
        self.ui_color = _COLORS.get(plan_task.engine, "#f1f5f9")
        self._plan = plan
        self._plan_task = plan_task
        self._supply = supply
        self._process: TaskProcess | None = None
        self._is_again = False

    def execute(self, context: Context) -> Any:
        """Do the task. Raises ``AirflowFailException`` where trying again cannot help, else ``TaskFailed``."""
        return self._attempt(context, since=time.time())

    def look_again(self, context: Context, event: Any = None, since: float = 0) -> Any:
        """Go on with waiting for data, after a while without a worker."""
        return self._attempt(context, since=since)

    def on_kill(self) -> None:
        """End the user's process."""
        if self._process:
            self._process.kill()

    def _attempt(self, context: Context, *, since: float) -> Any:
        try:
            run = run_of(
                self._plan,
                context["dag_run"],
                try_number=context["ti"].try_number,
                params=context["params"],
            )
            result = self._do(run, only_again=_is_restated(context))
        except AiflowError as error:
            if self._plan_task.waits and error.code in _NOT_READY and time.time() < since + self._patience_seconds:
                self._wait(error, since)
            self._fail(error)
        if result is None:
            raise AirflowSkipException(
                f"an input was made again, and {run.partition_text} was never made from it: nothing to make again"
            )
        self._tell(context, run, result)
        return {"partition": run.partition_text, "version": run.version, "seconds": result.seconds}

    def _do(self, run: Run, *, only_again: bool) -> TaskResult | None:
        from aiflow_airflow.secrets import secrets_of

        plan, task = self._plan, self._plan_task
        self._check_cluster()
        if self._supply is None:
            raise RunError("not-deployed", f"the DAG of '{plan.pipeline_id}' was made for looking at it alone")
        with self._supply.ready() as ready:
            order = {
                "plan": str(ready.plan),
                "task": task.id,
                "run": run.to_json(),
                "project": str(ready.folder),
                "secrets": secrets_of(plan, task),
                "places": {node: [where.path, where.line] for node, where in ready.places.items()},
                "only_again": only_again,
                "patient": not task.waits,
            }
            _user_log.info(
                "%s %s, version %s, execution %d, attempt %d",
                plan.pipeline_id,
                run.partition_text,
                plan.version.rpartition(":")[2][:12],
                run.execution,
                run.attempt,
            )
            self._process = TaskProcess(ready.python, order, environment=ready.environment, folder=ready.folder)
            try:
                result = self._process.watch(_say, self._hear)
                return TaskResult.from_dict(result) if result else None
            except BaseException:
                self._process.kill()
                raise
            finally:
                self._process = None

    def _check_cluster(self) -> None:
        cluster, name = self._plan_task.cluster, self._plan.environment.name
        kind = (self._plan.environment.clusters.get(cluster) or {}).get("kind", "local")
        if kind != "local":
            raise RunError(
                "cluster-not-local",
                f"task '{self._plan_task.id}' runs on the cluster '{cluster}', which is '{kind}' in the environment "
                f"'{name}', and not on this machine",
                where=Where("aiflow.toml", about=f"environments.{name}.clusters.{cluster}"),
                hint="this version of aiflow-airflow does tasks on the worker alone",
            )

    @property
    def _patience_seconds(self) -> float:
        minutes = [self._plan.nodes[node_id].options.get("wait_minutes") for node_id in self._plan_task.node_ids]
        return 60 * max((float(one) for one in minutes if isinstance(one, int | float)), default=0.0)

    def _wait(self, error: AiflowError, since: float) -> None:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        _user_log.info("not there yet: %s", error.message)
        self.defer(trigger=TimeDeltaTrigger(_LOOK_AGAIN), method_name="look_again", kwargs={"since": since})

    def _fail(self, error: AiflowError) -> None:
        for note in error.notes:
            _user_log.error("%s", note)
        message = f"error[{error.code}]: {error}"
        _user_log.error("%s", message)
        raise (TaskFailed if error.retryable else AirflowFailException)(message) from None

    def _tell(self, context: Context, run: Run, result: TaskResult) -> None:
        """Give the events of the assets that were written what is known of the writing."""
        keys = [partition.key for partition in run.partitions]
        for node_id in self._plan_task.node_ids:
            node, facts = self._plan.nodes[node_id], result.node(node_id)
            if node.type != "sink" or node.dataset is None:
                continue
            environment, name = self._plan.environment.name, node.dataset[1]
            events, told = context["outlet_events"], _event(run, facts, node_id)
            event = events[asset_of(environment, name)]
            event.extra = told
            if keys:
                event.add_partitions(keys)
            if self._is_again and not facts.superseded:
                events[restated_alias(environment, name)].add(restated_asset(environment, name), extra=told)

    def _hear(self, record: Mapping[str, Any]) -> None:
        match record["record"]:
            case "task-began":
                self._is_again = record["is_again"]
            case "node-finished":
                _show(NodeFacts.model_validate({name: value for name, value in record.items() if name != "record"}))


class BrokenOperator(BaseOperator):
    """Stands for a pipeline whose plan cannot be used, and fails with the reason."""

    def __init__(self, *, message: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.message = message

    def execute(self, context: Context) -> Any:
        """Raise ``AirflowFailException``."""
        raise AirflowFailException(self.message)


def _say(level: int, logger: str, text: str) -> None:
    (logging.getLogger(logger) if logger else _user_log).log(level, "%s", text)


def _show(facts: NodeFacts) -> None:
    measured = [
        *([f"{facts.rows:,} rows"] if facts.rows is not None else []),
        *([f"{facts.bytes:,} bytes"] if facts.bytes is not None else []),
        *([f"{facts.seconds:.2f} s"] if facts.seconds is not None else []),
        *([f"version {facts.table_version}"] if facts.table_version is not None else []),
    ]
    _user_log.info("%s: %s", facts.node_id, ", ".join(measured) or "done")


def _is_restated(context: Context) -> bool:
    """Tell whether all that started the run are inputs that were made again."""
    dag_run = context["dag_run"]
    events = dag_run.consumed_asset_events
    return (
        str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "asset_triggered"
        and bool(events)
        and all(is_restated(event.asset.name) for event in events)
    )


def _event(run: Run, facts: NodeFacts, node_id: str) -> dict[str, Any]:
    told = {
        "pipeline": f"{run.project}/{run.pipeline_id}",
        "node": node_id,
        "run_id": run.run_id,
        "execution": run.execution,
        "partition": run.partition_key and run.partition_text,
        "rows": facts.rows,
        "bytes": facts.bytes,
        "table_version": facts.table_version,
        "address": facts.address,
        "superseded": facts.superseded or None,
    }
    return {name: value for name, value in told.items() if value is not None}
