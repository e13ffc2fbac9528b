"""An Airflow's pipelines, runs and backfills: what is deployed, and what it can be told to do with it.

Everything is Airflow's own but what aiflow must know of a pipeline; see :mod:`aiflow_sdk.orchestrator.deployed`.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, TypeAlias

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.config import Environment
from aiflow_sdk.errors import (
    ConfigurationError,
    OrchestratorError,
    UnknownNameError,
    did_you_mean,
)
from aiflow_sdk.local.store import RunRecord, short_run_id
from aiflow_sdk.orchestrator.client import AirflowClient, Answer
from aiflow_sdk.orchestrator.deployed import DeployedPipeline, read_details, read_nodes
from aiflow_sdk.orchestrator.patience import ENDED
from aiflow_sdk.partitions import Partition, partition_range

Reprocess: TypeAlias = Literal["none", "failed", "completed"]
"""Of the partitions that have a run already, which a backfill makes again: none, the failed ones, or all that ended."""

_STATES = {"success": "succeeded"}
_CAUSES = {"scheduled": "schedule", "asset_triggered": "dataset"}
_MOST_NAMES = 1000
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True)
class Request:
    """What a backfill is for."""

    first: str
    last: str
    reprocess: Reprocess = "none"
    params: Mapping[str, Any] = field(default_factory=dict)
    max_active_runs: int = 10


@dataclass(frozen=True)
class Backfill:
    """A backfill that an Airflow has begun."""

    id: int
    created_at: str
    first: str
    last: str
    due: tuple[str, ...]
    """The keys of the partitions that it makes."""
    skipped: tuple[str, ...]
    """Those of its range that have had their run, or have it now."""


class Airflow:
    """One Airflow, as an environment names it."""

    def __init__(self, client: AirflowClient) -> None:
        self.client = client

    @classmethod
    def open(cls, environment: Environment) -> Airflow:
        """Return an environment's Airflow; raises as :meth:`AirflowClient.open`."""
        return cls(AirflowClient.open(environment))

    def find(self, project: str, pipeline_id: str) -> DeployedPipeline:
        """Return a pipeline that is deployed.

        Raises ``UnknownNameError`` (``not-in-airflow``), ``DocumentError`` (``broken-dag``), ``ConfigurationError``:
        ``foreign-dag`` for one that aiflow did not deploy, ``other-environment``.
        """
        dag_id = dag_id_of(project, pipeline_id)
        answer = self.client.call("GET", f"{_dag(dag_id)}/details")
        if answer.status == 404 or (answer.is_ok and answer.data.get("is_stale")):
            raise self._not_there(dag_id, pipeline_id)
        if not answer.is_ok:
            raise self.client.refused(answer)
        deployed = read_details(answer.data)
        if deployed.environment != self.client.environment:
            raise ConfigurationError(
                "other-environment",
                f"the pipeline '{pipeline_id}' of the Airflow at {self.client.address} is of the environment "
                f"'{deployed.environment}', not of '{self.client.environment}'",
                hint=f"use --env {deployed.environment}, or name this environment's own Airflow in aiflow.toml",
            )
        return deployed

    def trigger(self, pipeline: DeployedPipeline, key: str | None, params: Mapping[str, Any]) -> RunRecord:
        """Start a run for a partition, a range (``first..last``) or none, and return it.

        Raises ``OrchestratorError``: ``dag-paused``, ``airflow-refused``.
        """
        self._refuse_paused(pipeline)
        is_range = ".." in (key or "")
        body = {
            "logical_date": None,
            "partition_key": None if is_range else key,
            "conf": {**params, **({"partition": key} if is_range else {})},
        }
        return self.record(self.client.send("POST", f"{_dag(pipeline.dag_id)}/dagRuns", body))

    def pause(self, pipeline: DeployedPipeline, is_paused: bool) -> bool:
        """Let the pipeline start no more runs, or let it again; return whether that changed anything."""
        self.client.send("PATCH", _dag(pipeline.dag_id), {"is_paused": is_paused})
        return pipeline.is_paused != is_paused

    def plan_backfill(self, pipeline: DeployedPipeline, request: Request) -> tuple[str, ...]:
        """Return the keys of the partitions that a backfill would make."""
        found = self.client.send("POST", "backfills/dry_run", _body(pipeline, request))
        return tuple(one["partition_key"] for one in found["backfills"] if one.get("partition_key"))

    def partitions(self, pipeline: DeployedPipeline, request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the keys of the partitions that a backfill would make, and of those of its range that it would not."""
        due = self.plan_backfill(pipeline, request)
        return due, tuple(key for key in _keys_between(pipeline, request) if key not in set(due))

    def backfill(self, pipeline: DeployedPipeline, request: Request, is_patient: Callable[[], bool]) -> Backfill | None:
        """Begin a backfill and return it, or the one of the same range that is under way; None: nothing is due.

        That one has ended Airflow finds out some seconds later: ``is_patient`` waits a while for that, until it returns
        False. Raises ``OrchestratorError``: ``dag-paused``, ``backfill-running``, ``airflow-refused``.
        """
        self._refuse_paused(pipeline)
        due = self.plan_backfill(pipeline, request)
        while True:
            if not due and (running := self._same(pipeline, request)):
                return running
            if not due:
                return None
            answer = self.client.call("POST", "backfills", _body(pipeline, request))
            if answer.is_ok:
                return self._begun(pipeline, request, answer.data, due)
            if answer.status != 409:
                raise self.client.refused(answer)
            if running := self._same(pipeline, request):
                return running
            if any(self._unfinished(pipeline)) or not is_patient():
                raise self._already_running(pipeline, answer)

    def runs(
        self, dag_id: str | None, *, project: str = "", known: Iterable[str] | None = None, limit: int = 20
    ) -> list[RunRecord]:
        """Return runs, the newest first: of a DAG, or of all of a project, or of the DAGs in ``known``."""
        query: dict[str, Any] = {"order_by": "-id", "limit": min(limit, 100)}
        if dag_id is None and project:
            query["dag_id_prefix_pattern"] = f"{dag_id_of(project, '')}"
        of = set(known) if known is not None else None
        found = self.client.pages(f"{_dag(dag_id or '~')}/dagRuns", "dag_runs", **query)
        if of is not None:
            found = (run for run in islice(found, _MOST_LOOKED_AT) if run["dag_id"] in of)
        return [self.record(run, project) for run in islice(found, limit)]

    def run(self, dag_id: str, run_id: str) -> RunRecord:
        """Return a run as it is now."""
        return self.record(self.client.get(_run(dag_id, run_id)))

    def find_run(self, text: str) -> RunRecord:
        """Return the run of that id, or of the unique end of one. Raises ``UnknownNameError``."""
        pages = self.client.pages("dags/~/dagRuns", "dag_runs", run_id_pattern=text, order_by="-id")
        runs = [self.record(run) for run in islice(pages, _MOST_LOOKED_AT) if run["dag_run_id"].endswith(text)]
        if len(runs) == 1:
            return runs[0]
        if not runs:
            raise UnknownNameError(
                "unknown-run",
                f"unknown run '{text}'",
                hint="aiflow runs --on airflow lists them",
                notes=[f"looked in the Airflow at {self.client.address}"],
            )
        raise UnknownNameError(
            "ambiguous-run",
            f"{len(runs)} runs end with '{text}'",
            hint="write more of the end of the id"
            if len({run.run_id for run in runs}) > 1
            else f"several pipelines have a run of this id: name the pipeline for its newest run, or look at "
            f"{self.client.address}",
            notes=[f"{short_run_id(run.run_id)} of {run.pipeline_id} ({run.run_id})" for run in runs[:10]],
        )

    def runs_of(self, pipeline: DeployedPipeline, backfill: Backfill) -> dict[str, RunRecord]:
        """Return the runs of a backfill by the key of their partition."""
        pages = self.client.pages(
            f"{_dag(pipeline.dag_id)}/dagRuns",
            "dag_runs",
            run_type="backfill",
            updated_at_gte=backfill.created_at,
            order_by="-id",
        )
        wanted, found = set(backfill.due), dict[str, RunRecord]()
        for run in pages:
            key = run.get("partition_key")
            if key in wanted and key not in found and (run.get("queued_at") or "") >= backfill.created_at[:19]:
                found[key] = self.record(run)
        return found

    def is_finished(self, backfill: Backfill) -> bool:
        """Tell whether Airflow holds the backfill for done, or somebody has cancelled it."""
        return self.client.get(f"backfills/{backfill.id}").get("completed_at") is not None

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the pipeline's tasks, each with its nodes as the deployment describes them."""
        details = self.client.get(f"{_dag(dag_id)}/details")
        found = self.client.get(f"{_dag(dag_id)}/tasks")["tasks"]
        return [{**task, "nodes": read_nodes(details, task)} for task in found]

    def attempts(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return how each task of a run stands, in the order in which they began."""
        found = list(self.client.pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances"))
        return sorted(found, key=lambda task: (task.get("start_date") or "~", task["task_id"]))

    def written(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return what the run's events tell of what it wrote: node, rows, bytes, version, partition, task."""
        events = self.client.pages("assets/events", "asset_events", source_dag_id=dag_id, source_run_id=run_id)
        return [{**(event.get("extra") or {}), "task_id": event.get("source_task_id")} for event in events]

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> list[Any]:
        """Return the log of one attempt as Airflow has it; nothing where it has none yet."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{urllib.parse.quote(task_id, safe='')}/logs/{attempt}"
        answer = self.client.call("GET", path, full_content="true")
        if answer.status == 404:
            return []
        if not answer.is_ok:
            raise self.client.refused(answer)
        content = answer.data.get("content") if isinstance(answer.data, dict) else None
        return content if isinstance(content, list) else []

    def page_of(self, dag_id: str, run_id: str = "") -> str:
        """Return the address of the page that shows a pipeline or a run."""
        return f"{self.client.address}/{_run(dag_id, run_id, 'runs') if run_id else _dag(dag_id)}"

    def record(self, run: Mapping[str, Any], project: str = "") -> RunRecord:
        """Return Airflow's account of a run as one of ours."""
        dag_id, conf = str(run["dag_id"]), run.get("conf") or {}
        key = run.get("partition_key") or conf.get("partition")
        first, _, last = key.partition("..") if isinstance(key, str) else ("", "", "")
        began, ended = _seconds(run.get("start_date")), _seconds(run.get("end_date"))
        queued = _seconds(run.get("queued_at") or run.get("run_after")) or 0.0
        prefix = dag_id_of(project, "") if project else ""
        state = _STATES.get(run["state"], run["state"])
        if state not in ENDED:
            ended = None
        now = datetime.now(UTC).timestamp()
        told = {
            "run_id": run["dag_run_id"],
            "pipeline_id": dag_id.removeprefix(prefix),
            "dag_id": dag_id,
            "environment": self.client.environment,
            "partition_key": first or None,
            "last_partition_key": last or None,
            "cause": _CAUSES.get(run["run_type"], run["run_type"]),
            "by": run.get("triggering_user_name"),
            "params": {name: value for name, value in conf.items() if name != "partition"},
        }
        return RunRecord(
            run=told,
            state=state,
            started=began or queued,
            seconds=max(0.0, (ended or now) - began) if began else 0.0,
            timeout_seconds=None,
            version=run.get("bundle_version") or "",
            definition="",
            selection={},
            errors=(),
            folder=self.page_of(dag_id, run["dag_run_id"]),
        )

    def _refuse_paused(self, pipeline: DeployedPipeline) -> None:
        if pipeline.is_paused:
            raise OrchestratorError(
                "dag-paused",
                f"the pipeline '{pipeline.pipeline_id}' is paused in the Airflow at {self.client.address}, so a run "
                "would wait there",
                hint=f"let it run with: aiflow unpause {pipeline.pipeline_id} --env {pipeline.environment}",
            )

    def _not_there(self, dag_id: str, pipeline_id: str) -> UnknownNameError:
        pages = self.client.pages("dags", "dags", exclude_stale="true", order_by="dag_id")
        prefix = dag_id.removesuffix(dag_id_of("default", pipeline_id))  # the project's
        known = [dag["dag_id"].removeprefix(prefix) for dag in islice(pages, _MOST_NAMES)]
        return UnknownNameError(
            "not-in-airflow",
            f"the pipeline '{pipeline_id}' is not in the Airflow at {self.client.address}",
            hint=did_you_mean(pipeline_id, known)
            or f"publish it with: aiflow deploy --env {self.client.environment}; Airflow shows it some seconds later",
            notes=[f"looked for the DAG '{dag_id}' among {len(known)}"],
        )

    def _begun(
        self, pipeline: DeployedPipeline, request: Request, told: Mapping[str, Any], due: tuple[str, ...]
    ) -> Backfill:
        skipped = tuple(key for key in _keys_between(pipeline, request) if key not in set(due))
        return Backfill(int(told["id"]), str(told["created_at"]), request.first, request.last, due, skipped)

    def _unfinished(self, pipeline: DeployedPipeline) -> Iterator[dict[str, Any]]:
        states = ["queued", "running"]
        yield from self.client.pages(
            f"{_dag(pipeline.dag_id)}/dagRuns", "dag_runs", run_type="backfill", state=states, limit=1
        )

    def _active(self, pipeline: DeployedPipeline) -> dict[str, Any] | None:
        found = self.client.pages("backfills", "backfills", dag_id=pipeline.dag_id, order_by="-id", limit=20)
        return next((one for one in islice(found, 20) if one.get("completed_at") is None), None)

    def _same(self, pipeline: DeployedPipeline, request: Request) -> Backfill | None:
        """Return the backfill of this range that is under way, so that the same command goes on looking at it."""
        active, body = self._active(pipeline), _body(pipeline, request)
        if active is None or not any(self._unfinished(pipeline)):
            return None
        alike = {name: _seconds(active[name]) == _seconds(body[name]) for name in ("from_date", "to_date")}
        if not all(alike.values()) or (active.get("dag_run_conf") or {}) != body["dag_run_conf"]:
            return None
        probe = Backfill(
            int(active["id"]),
            str(active["created_at"]),
            request.first,
            request.last,
            tuple(_keys_between(pipeline, request)),
            (),
        )
        made = self.runs_of(pipeline, probe)
        due = tuple(key for key in probe.due if key in made)
        skipped = tuple(key for key in probe.due if key not in made)
        return Backfill(probe.id, probe.created_at, probe.first, probe.last, due, skipped)

    def _already_running(self, pipeline: DeployedPipeline, answer: Answer) -> OrchestratorError:
        active = self._active(pipeline) or {}
        about = f": {active['from_date'][:16]} to {active['to_date'][:16]}" if active else ""
        return OrchestratorError(
            "backfill-running",
            f"another backfill of '{pipeline.pipeline_id}' is under way{about}",
            hint=f"wait for it, or cancel it on {self.page_of(pipeline.dag_id)}",
            retryable=True,
            notes=[answer.detail],
        )


def _body(pipeline: DeployedPipeline, request: Request) -> dict[str, Any]:
    first, last = partition_range(pipeline.pipeline_id, pipeline.grain, pipeline.timezone, request.first, request.last)
    if last < first:
        raise ConfigurationError("reversed-range", f"{last} comes before {first}", hint="name the earlier one first")
    return {
        "dag_id": pipeline.dag_id,
        "from_date": bound_of(first),
        "to_date": bound_of(last),
        "reprocess_behavior": request.reprocess,
        "max_active_runs": request.max_active_runs,
        "dag_run_conf": dict(request.params),
    }


def bound_of(partition: Partition) -> str:
    """Return a moment that our timetables read as the partition: what is written is by the pipeline's own clocks.

    Of an hour it lies within, because a day's midnight stands for the whole day.
    """
    if partition.grain == "hour":
        return f"{partition.key[:13]}:00:01Z"
    return f"{partition.key}T00:00:00Z"


def _keys_between(pipeline: DeployedPipeline, request: Request) -> Iterator[str]:
    at, last = partition_range(pipeline.pipeline_id, pipeline.grain, pipeline.timezone, request.first, request.last)
    now = datetime.now(UTC)
    while at <= last and at.end <= now:
        yield at.key
        at = at.next()


def _dag(dag_id: str) -> str:
    return f"dags/{urllib.parse.quote(dag_id, safe='~')}"


def _run(dag_id: str, run_id: str, word: str = "dagRuns") -> str:
    return f"{_dag(dag_id)}/{word}/{urllib.parse.quote(run_id, safe=':+')}"


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
