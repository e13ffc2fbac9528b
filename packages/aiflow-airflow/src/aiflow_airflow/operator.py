"""The one operator: it does a plan's task in the user's own environment and passes on what it says.

Here, in Airflow's process, runs none of the user's code. What Airflow stores of it is small: the plan's version and the
nodes, so that a DAG gets a new version when its plan has changed, and only then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from aiflow_airflow.assets import UNPARTITIONED, asset_of, is_restated, restated_asset
from aiflow_airflow.child import TaskProcess
from aiflow_airflow.housekeeping import keep_house
from aiflow_airflow.run import run_of
from aiflow_airflow.telling import FORWARDING_SECONDS, Telling
from aiflow_airflow.warm import keep_warm
from aiflow_sdk.bundles.airflow import short_version
from aiflow_sdk.errors import AiflowError, RunError, Where, plural
from aiflow_sdk.lineage import worker_home
from aiflow_sdk.plan import NodeFacts, Plan, PlanTask, Run, TaskResult

if TYPE_CHECKING:
    from airflow.sdk import Context

    from aiflow_airflow.supply import Supply

_user_log = logging.getLogger("aiflow.task")
_COLORS = {"python": "#dbeafe", "spark": "#ffedd5"}
_LOOK_AGAIN = timedelta(seconds=30)
"""How often a task that waits for its data looks; meanwhile it holds no worker."""
_RESTATED_SECONDS = 86_400.0
"""How long a run that an input started which was made again waits for the others. The events of those that are there
already have gone into this run, so that no other run will be started for its partition."""
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
        self.custom_operator_name = plan_task.engine
        self._plan = plan
        self._plan_task = plan_task
        self._supply = supply
        self._process: TaskProcess | None = None
        self._is_preparing = False
        self._is_killed = False
        self._again: frozenset[str] = frozenset()
        self._telling: Telling | None = None

    def execute(self, context: Context) -> Any:
        """Do the task. Raises ``AirflowFailException`` where trying again cannot help, else ``TaskFailed``."""
        return self._attempt(context, since=time.time())

    def look_again(self, context: Context, event: Any = None, since: float = 0) -> Any:
        """Go on with waiting for data, after a while without a worker."""
        return self._attempt(context, since=since, resumed=True)

    def on_kill(self) -> None:
        """End the user's process, or the making of what it needs."""
        self._is_killed = True
        if self._process:
            self._process.kill()
        elif self._is_preparing:  # Airflow calls this in the midst of it
            raise TaskFailed("ended while it was made what it runs with")

    def _attempt(self, context: Context, *, since: float, resumed: bool = False) -> Any:
        try:
            run = run_of(
                self._plan,
                context["dag_run"],
                try_number=context["ti"].try_number,
                params=context["params"],
            )
        except AiflowError as error:  # without a run there is nothing to tell of
            self._fail(error)
        is_final = run.attempt > context["ti"].max_tries
        telling = self._telling = Telling(
            self._plan,
            self._plan_task,
            run,
            resumed=resumed,
            is_final=is_final,
            states=lambda: _states(context),
        )
        try:
            result = self._do(run)
        except AiflowError as error:
            if error.code in _NOT_READY:
                if time.time() < since + self._patience_seconds(context):
                    telling.put_off()
                    self._wait(error, since)
                if _is_restated(context):
                    telling.left()
                    telling.forward()
                    raise AirflowSkipException(f"an input was made again, and others are missing: {error}") from None
            telling.failed(error, again=error.retryable)
            # Airflow gives who is killed five seconds.
            telling.forward(seconds=0.1 if self._is_killed else FORWARDING_SECONDS)
            self._fail(error)
        except BaseException as error:  # a time-out, a kill while it was prepared; it goes on up
            telling.failed(_ended_by(error), again=True)
            telling.forward(seconds=0.1)
            raise
        telling.succeeded(result)
        telling.forward()
        keep_house(worker_home(), self._supply.objects if self._supply else None)
        self._tell(context, run, result)
        return {"partition": run.partition_text, "version": run.version, "seconds": result.seconds}

    def _do(self, run: Run) -> TaskResult:
        from aiflow_airflow.secrets import secrets_of

        plan, task = self._plan, self._plan_task
        self._check_cluster()
        if self._supply is None:
            raise RunError("not-deployed", f"the DAG of '{plan.pipeline_id}' was made for looking at it alone")
        with self._preparing(), self._supply.ready() as ready:
            if self._telling:
                self._telling.prepared(ready)
            order = {
                "plan": str(ready.plan),
                "task": task.id,
                "run": run.to_json(),
                "project": str(ready.folder),
                "folder": str(ready.scratch),
                "secrets": secrets_of(plan, task),
                "places": {node: [where.path, where.line] for node, where in ready.places.items()},
                "patient": not task.waits,
            }
            _user_log.info(
                "%s %s, version %s, execution %d, attempt %d",
                plan.pipeline_id,
                run.partition_text,
                short_version(plan),
                run.execution,
                run.attempt,
            )
            self._process = TaskProcess(ready.python, order, environment=ready.environment)
            try:
                result = TaskResult.from_dict(self._process.watch(_say, self._hear))
            except BaseException:  # a time-out or a kill ends the user's process too; it goes on up
                self._process.kill()
                raise
            finally:
                self._process = None
            if ready.never_changes:
                keep_warm(ready.python, ready.environment, ready.plan, task.id)
            return result

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        """While the block runs and there is no process yet, a kill breaks off what is under way."""
        self._is_preparing = True
        try:
            yield
        finally:
            self._is_preparing = False

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

    def _patience_seconds(self, context: Context) -> float:
        """Return how long the task waits for its data: as its source says, or for what else a restated input lacks."""
        minutes = [self._plan.nodes[node_id].options.get("wait_minutes") for node_id in self._plan_task.node_ids]
        stated = [60.0 * one for one in minutes if isinstance(one, int | float)] if self._plan_task.waits else []
        return max([*stated, _RESTATED_SECONDS if _is_restated(context) else 0.0])

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
        """Leave, of the assets that the task may write, those that it wrote, with what is known of the writing.

        Of one that was made for the first time it is the asset itself, of one that was made again its restated twin:
        whoever waits for all of its partitions has had this one. A clear may repair what nobody was ever told of, and
        tells both.
        """
        keys = [partition.key for partition in run.partitions] or [UNPARTITIONED]
        environment, written = self._plan.environment.name, []
        for node_id in self._plan_task.node_ids:
            node, facts = self._plan.nodes[node_id], result.node(node_id)
            if node.type != "sink" or node.dataset is None or facts.superseded:
                continue
            is_again = node_id in self._again
            for make, is_due in ((asset_of, not is_again or run.execution > 1), (restated_asset, is_again)):
                if is_due:
                    written.append(make(environment, node.dataset[1]))
                    event = context["outlet_events"][written[-1]]
                    event.extra = _event(run, facts, node_id)
                    event.add_partitions(keys)
        self.outlets = written

    def _hear(self, record: Mapping[str, Any]) -> None:
        if self._telling:
            self._telling.hear(record)
        match record["record"]:
            case "task-began":
                self._again = frozenset(record["again"])
            case "node-finished":
                _show(NodeFacts.from_dict(record))


class BrokenOperator(BaseOperator):
    """Stands for a pipeline whose plan cannot be used, and fails with the reason."""

    def __init__(self, *, message: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.message = message

    def execute(self, context: Context) -> Any:
        """Raise ``AirflowFailException``."""
        raise AirflowFailException(self.message)


def _ended_by(error: BaseException) -> RunError:
    if type(error).__name__ == "AirflowTaskTimeout":
        return RunError("task-timeout", "the task took longer than it may", hint="raise timeout_minutes of its node")
    return RunError("task-crashed", f"{type(error).__name__}: {error}")


def _states(context: Context) -> Mapping[str, Any]:
    """Return Airflow's states of the run's tasks."""
    dag_run = context["dag_run"]
    states: Mapping[str, Any] = context["ti"].get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])
    found: Mapping[str, Any] = states.get(dag_run.run_id, {})
    return found


def _say(level: int, logger: str, text: str) -> None:
    (logging.getLogger(logger) if logger else _user_log).log(level, "%s", text)


def _show(facts: NodeFacts) -> None:
    measured = [
        *([plural(facts.rows, "row")] if facts.rows is not None else []),
        *([plural(facts.bytes, "byte")] if facts.bytes is not None else []),
        *([f"{facts.seconds:.2f} s"] if facts.seconds is not None else []),
        *([f"version {facts.table_version}"] if facts.table_version is not None else []),
        *(["superseded: a newer run had written there"] if facts.superseded else []),
    ]
    _user_log.info("%s: %s", facts.node_id, ", ".join(measured) or "done")


def _is_restated(context: Context) -> bool:
    """Tell whether the run was started by an input that was made again, be the others there or not."""
    return any(is_restated(event.asset.name) for event in context["dag_run"].consumed_asset_events)


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
    }
    return {name: value for name, value in told.items() if value is not None}
