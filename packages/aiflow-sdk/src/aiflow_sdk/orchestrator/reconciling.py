"""Tells the metadata service of runs in an Airflow whose beginning or end nobody told it of.

What is told is read off Airflow's REST API, as events of OpenLineage with the facet ``aiflow_reconciled``: of the same
state of a run always the same events, and whatever the run itself tells, sooner or later, outdoes them.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from aiflow_sdk import events
from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.bundles.airflow import digest_in_airflow, run_id_in_airflow
from aiflow_sdk.errors import RunError
from aiflow_sdk.lineage.story import error_facets
from aiflow_sdk.local.store import RunRecord
from aiflow_sdk.orchestrator.airflow import Airflow
from aiflow_sdk.orchestrator.deployed import DeployedPipeline, PipelinesOfDags
from aiflow_sdk.orchestrator.logs import read_error

_ENDS: Mapping[str, events.EventType] = {
    "success": "COMPLETE",
    "failed": "FAIL",
    "up_for_retry": "FAIL",
    "skipped": "ABORT",
    "removed": "ABORT",
}
_PAGE = 500
_MOST_EVENTS = 100
"""In one request to the service."""
_VERSION = 7
"""Of the UUIDs that are runs' ids: they begin with a moment, in milliseconds."""
_LATEST = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)


class Recorder(Protocol):
    """The metadata service; each may raise ``ReceiverError``."""

    def get(self, path: str, **query: Any) -> Any:
        """Return what lies at a path, None where nothing does."""

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list."""

    def post(self, path: str, data: Any) -> Any:
        """Post data and return the answer."""


@dataclass
class Reconciled:
    """What was found out."""

    runs: list[str] = field(default_factory=list)
    """The ids of the runs of which something was told."""
    attempts: int = 0
    refused: list[str] = field(default_factory=list)
    """Why the service did not take an event."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {"runs": self.runs, "attempts": self.attempts, "refused": self.refused}


def reconcile_runs(airflow: Airflow, service: Recorder, since: datetime) -> Reconciled:
    """Tell the service how the environment's runs in Airflow stand, where it does not know.

    Looked at are runs that changed in Airflow since a moment, and all that the service believes to be running, however
    old. May be broken off and repeated. Raises ``OrchestratorError``, ``ReceiverError``.
    """
    return _Reconciliation(airflow, service).run(since)


class _Reconciliation:
    """One look at all."""

    def __init__(self, airflow: Airflow, service: Recorder) -> None:
        self._airflow, self._service = airflow, service
        self._environment = airflow.client.environment
        self._pipelines = PipelinesOfDags(airflow.client)
        self._teams: dict[str, str] = {}
        """By project."""
        self._told = Reconciled()

    def run(self, since: datetime) -> Reconciled:
        running = self._known(state="running")
        known = self._known(since=since.isoformat()) | running
        seen = set()
        client = self._airflow.client
        for found in client.pages("dags/~/dagRuns", "dag_runs", updated_at_gte=since.isoformat(), order_by="id"):
            deployed = self._pipelines.find(found["dag_id"])
            if deployed is not None and deployed.environment == self._environment:
                key = self._team(deployed.project), _run_id(found)
                seen.add(key)
                self._settle(deployed, found, key[1], known.get(key))
        for key, one in running.items():
            if key not in seen and (of_it := self._find(one)):
                self._settle(*of_it, key[1], one)
        return self._told

    def _known(self, **wanted: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Return runs that the service knows, by team and id: who sees several teams sees each one's of an id."""
        found = self._service.pages("runs", environment=self._environment, limit=_PAGE, **wanted)
        return {(one["team"], one["run_id"]): one for one in found}

    def _team(self, project: str) -> str:
        """Return the team whose runs those of a project are, if this one who asks tells of them."""
        if project not in self._teams:
            question = {"project": project, "environment": self._environment, "datasets": []}
            self._teams[project] = self._service.post("grants/decisions", question)["team"]
        return self._teams[project]

    def _find(self, one: Mapping[str, Any]) -> tuple[DeployedPipeline, dict[str, Any]] | None:
        """Return the DAG run that a run is which the service knows: the run's id says when it was to begin."""
        number = UUID(one["run_id"])
        deployed = self._pipelines.find(dag_id_of(one["project"] or "default", one["pipeline"]))
        milliseconds = number.int >> 80
        is_a_moment = number.version == _VERSION and milliseconds < _LATEST
        if deployed is None or deployed.environment != self._environment or not is_a_moment:
            return None
        if one["team"] != self._team(deployed.project):
            return None
        first, last = (datetime.fromtimestamp(at / 1000, UTC).isoformat() for at in (milliseconds, milliseconds + 1))
        path = f"dags/{urllib.parse.quote(deployed.dag_id, safe='~')}/dagRuns"
        pages = self._airflow.client.pages(path, "dag_runs", run_after_gte=first, run_after_lte=last)
        return next(((deployed, found) for found in pages if _run_id(found) == one["run_id"]), None)

    def _settle(
        self, deployed: DeployedPipeline, found: Mapping[str, Any], run_id: str, known: Mapping[str, Any] | None
    ) -> None:
        """Tell of one run what the service lacks of it."""
        if found.get("start_date") is None:
            return
        if known is not None and _is_told(known, found):
            return
        story = self._service.get(f"runs/{run_id}", team=self._team(deployed.project))
        if story is not None and _is_told(story, found):
            return
        execution = _execution(story, found)
        has_ended = found["state"] in _ENDS
        record = self._airflow.record(found, deployed.project)
        run = _Told(deployed, found, record, run_id, execution, self._airflow.client.address)
        attempts = list(self._attempts(run, story))
        told = [run.event("START", found["start_date"])]
        told += [event for _, some in attempts for event in some]
        if has_ended:
            errors = [error for error, _ in attempts if error]
            error = (errors or [_error_of(record)])[0] if found["state"] == "failed" else None
            ended = found.get("end_date") or found["start_date"]
            told.append(run.event(_ENDS[found["state"]], ended, error=error))
        self._send(told)
        self._told.runs.append(run_id)
        self._told.attempts += len(attempts)

    def _attempts(
        self, run: _Told, story: Mapping[str, Any] | None
    ) -> Iterator[tuple[Mapping[str, Any] | None, list[dict[str, Any]]]]:
        """Yield, of each attempt of this execution that the service does not know to have ended, error and events."""
        ended = {
            attempt["run_id"]
            for task in (story or {}).get("tasks", ())
            for attempt in task["attempts"]
            if attempt["state"] != "running" and not _is_by_hand(attempt)
        }
        for task in self._airflow.attempts(run.dag_id, run.dag_run_id):
            for one in self._tries(run, task):
                began, number = one.get("start_date"), one.get("try_number") or 1
                # Before the run's present beginning it was another execution's, and nobody knows which one's.
                if not began or (run.execution > 1 and _moment(began) < _moment(run.found["start_date"])):
                    continue
                attempt_id = events.job_run_id(run.run_id, run.execution, task["task_id"], number)
                if attempt_id in ended:
                    continue
                told = [run.event("START", began, task_id=task["task_id"], attempt=number)]
                kind, error = _ENDS.get(one.get("state") or ""), None
                if kind and one.get("end_date"):
                    if kind == "FAIL":
                        lines = self._airflow.log(run.dag_id, run.dag_run_id, task["task_id"], number)
                        error = read_error(lines, run.record, task["task_id"])
                    told.append(run.event(kind, one["end_date"], task_id=task["task_id"], attempt=number, error=error))
                yield error, told

    def _tries(self, run: _Told, task: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        if (task.get("try_number") or 1) == 1:
            return [task]
        path = f"{run.path}/taskInstances/{urllib.parse.quote(task['task_id'], safe='')}/tries"
        answer = self._airflow.client.call("GET", path)
        return answer.data["task_instances"] if answer.is_ok else [task]

    def _send(self, told: Sequence[Mapping[str, Any]]) -> None:
        for begin in range(0, len(told), _MOST_EVENTS):
            answer = self._service.post("lineage/batch", told[begin : begin + _MOST_EVENTS]) or {}
            self._told.refused += [str(one.get("reason")) for one in answer.get("failed_events", ())]


@dataclass(frozen=True)
class _Told:
    """A run as Airflow has it, and the events that say so."""

    deployed: DeployedPipeline
    found: Mapping[str, Any]
    record: RunRecord
    run_id: str
    execution: int
    address: str

    @property
    def dag_id(self) -> str:
        return self.deployed.dag_id

    @property
    def dag_run_id(self) -> str:
        return str(self.found["dag_run_id"])

    @property
    def path(self) -> str:
        return (
            f"dags/{urllib.parse.quote(self.dag_id, safe='~')}/dagRuns/{urllib.parse.quote(self.dag_run_id, safe=':+')}"
        )

    def event(
        self,
        kind: events.EventType,
        at: str,
        *,
        task_id: str | None = None,
        attempt: int | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return an event of the run, or of an attempt of a task of it."""
        deployed = self.deployed
        namespace, name = f"aiflow/{deployed.environment}", f"{deployed.project}/{deployed.pipeline_id}"
        told = self.record.run
        last = told["last_partition_key"]
        ours = {
            "pipeline_id": deployed.pipeline_id,
            "project": deployed.project,
            "environment": deployed.environment,
            "run_id": self.run_id,
            "execution": self.execution,
            "cause": "clear" if self.execution > 1 else told["cause"],
            "partition": f"{told['partition_key']}..{last}" if last else told["partition_key"],
            "trace_id": digest_in_airflow("trace", self.dag_id, self.dag_run_id).hex()[:32],
        }
        facets = {
            "aiflow_reconciled": events.own_facet("reconciled", {"from": "airflow"}),
            **error_facets(error),
        }
        shown = f"{self.address}/dags/{self.dag_id}/runs/{urllib.parse.quote(self.dag_run_id, safe=':+')}"
        run_id = self.run_id
        if task_id is not None:
            ours |= {"task_id": task_id, "attempt": attempt}
            facets["parent"] = events.parent_facet(self.run_id, namespace, name)
            run_id = events.job_run_id(self.run_id, self.execution, task_id, attempt)
            name = f"{name}/{task_id}"
            shown += f"/tasks/{task_id}?try_number={attempt}"
        where = {"dag_id": self.dag_id, "dag_run_id": self.dag_run_id, "log_url": shown}
        return events.run_event(
            kind,
            run_id=run_id,
            job_namespace=namespace,
            job_name=name,
            time=_moment(at),
            run_facets={
                "aiflow_run": events.own_facet("run", ours),
                "aiflow_airflow": events.own_facet("airflow", where),
                **facets,
            },
            job_facets={"jobType": events.job_type_facet("TASK" if task_id else "PIPELINE", bounded=True)},
        )


def _run_id(found: Mapping[str, Any]) -> str:
    return run_id_in_airflow(found["dag_id"], found["dag_run_id"], _moment(found["run_after"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _execution(known: Mapping[str, Any] | None, found: Mapping[str, Any]) -> int:
    """Return which execution of its run Airflow tells of; it does not say so, but only when it began."""
    if known is None:
        return 1
    execution: int = known["execution"] or 1
    return execution + _is_begun_anew(known, found)


def _is_begun_anew(known: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Tell whether a run has begun since the service last heard of its end: it was cleared."""
    ended = known["ended_at"]
    return ended is not None and _moment(found["start_date"]) > _moment(ended)


def _is_told(known: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Tell whether the service knows already how a run stands."""
    if known["state"] != "running" and not _is_by_hand(known):
        return not _is_begun_anew(known, found)
    return found["state"] not in _ENDS


def _is_by_hand(known: Mapping[str, Any]) -> bool:
    """Tell whether somebody said that a run or attempt is over (``aiflow sync --end``): Airflow knows better."""
    return (known.get("error") or {}).get("code") == "ended-by-hand"


def _error_of(record: RunRecord) -> Mapping[str, Any]:
    return RunError(
        "run-failed-in-airflow",
        f"the run for {record.partition} failed and none of its tasks did",
        hint=f"it may have been marked as failed, or have taken too long: {record.folder}",
    ).to_dict()
