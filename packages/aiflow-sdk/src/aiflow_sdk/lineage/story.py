"""A run of a plan as OpenLineage events: of the pipeline and of its tasks, with datasets and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias

from aiflow_sdk import events
from aiflow_sdk.ir import thaw
from aiflow_sdk.lineage.columns import Facets, column_facets
from aiflow_sdk.plan import NodeFacts, Plan, PlanNode, PlanTask, Run, TaskResult, making_of

EngineVersion: TypeAlias = Callable[[PlanTask], str | None]
"""Returns the version of what a task's engine stands on, where it is known: the engine is installed where it runs."""


class Lineage:
    """Makes the events of one run of a plan. Whoever makes them, the same happening has the same run id and job."""

    def __init__(self, plan: Plan, run: Run, engine_version: EngineVersion = lambda task: None) -> None:
        self.plan = plan
        self.run = run
        self._engine_version = engine_version
        self.namespace = f"aiflow/{plan.environment.name}"
        self.name = f"{plan.project}/{plan.pipeline_id}"

    def run_event(
        self,
        event_type: events.EventType,
        *,
        results: Iterable[TaskResult] = (),
        error: Mapping[str, Any] | None = None,
        time: datetime | None = None,
        columns: Mapping[str, Facets] | None = None,
    ) -> dict[str, Any]:
        """Return the event of the whole run; ``error`` as ``AiflowError.to_dict`` has it.

        ``columns`` are what :func:`column_facets` gave where the packages are that it needs; None: look for it here.
        """
        facts = {facts.node_id: facts for result in results for facts in result.nodes}
        if event_type != "COMPLETE":
            columns = {}
        elif columns is None:
            columns = column_facets(self.plan, facts)
        return events.run_event(
            event_type,
            time=time,
            run_id=self.run.run_id,
            job_namespace=self.namespace,
            job_name=self.name,
            run_facets={**self._run_facets(), "aiflow_making": self._making_facet, **error_facets(error)},
            job_facets={
                "jobType": events.job_type_facet("PIPELINE", bounded=all(task.bounded for task in self.plan.tasks)),
                **({"ownership": events.owner_facet(self.plan.owner)} if self.plan.owner else {}),
                **({"tags": events.tags_facet(self.plan.tags)} if self.plan.tags else {}),
            },
            inputs=list(self._datasets("source", self.plan.node_list, facts)),
            outputs=list(self._datasets("sink", self.plan.node_list, facts, columns)),
        )

    def task_event(
        self,
        event_type: events.EventType,
        task: PlanTask,
        attempt: int,
        *,
        result: TaskResult | None = None,
        error: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
        time: datetime | None = None,
    ) -> dict[str, Any]:
        """Return the event of one attempt of a task; ``usage`` as :class:`aiflow_sdk.usage.Meter` tells it."""
        nodes = [self.plan.nodes[node_id] for node_id in task.node_ids]
        facts = {facts.node_id: facts for facts in result.nodes} if result else {}
        queries = [node.sql for node in nodes if node.sql]
        engine = self._engine_version(task)
        told = [
            {
                "node_id": one.node_id,
                **{k: v for k, v in one.to_dict().items() if k in ("rows", "bytes", "seconds", "counts")},
            }
            for one in facts.values()
        ]
        if event_type in ("FAIL", "ABORT"):  # what it used, it used for these, of which nothing was measured
            told = [{"node_id": node_id} for node_id in task.node_ids]
        return events.run_event(
            event_type,
            time=time,
            run_id=events.job_run_id(self.run.run_id, self.run.execution, task.id, attempt),
            job_namespace=self.namespace,
            job_name=f"{self.name}/{task.id}",
            run_facets={
                **self._run_facets(task_id=task.id, attempt=attempt),
                "parent": events.parent_facet(self.run.run_id, self.namespace, self.name),
                **({"processing_engine": events.processing_engine_facet(task.engine, engine)} if engine else {}),
                **({"aiflow_nodes": events.own_facet("nodes", {"nodes": told})} if told else {}),
                **({"aiflow_usage": events.own_facet("usage", usage)} if usage else {}),
                **error_facets(error),
            },
            job_facets={
                "jobType": events.job_type_facet("TASK", bounded=task.bounded),
                **({"sql": events.sql_facet(";\n".join(queries))} if queries else {}),
            },
            inputs=list(self._datasets("source", nodes, facts)),
            outputs=list(self._datasets("sink", nodes, facts)),
        )

    @cached_property
    def _making_facet(self) -> dict[str, Any]:
        """What the run makes partitions by: all that the rule compares which says whether one has to be made again."""
        making = making_of(self.plan)
        ours = {
            "definition": making.definition,
            "meaning": making.meaning,
            "lock": making.lock,
            "code": dict(making.code),
            "params": thaw(self.run.params),
            "grain": self.plan.partition,
            "timezone": self.plan.timezone,
            "scheduled": self.plan.schedule is not None,
        }
        return events.own_facet("making", ours)

    def _run_facets(self, **identifiers: Any) -> dict[str, Any]:
        run = self.run
        partitions = run.partitions
        times = (
            {"nominalTime": events.nominal_time_facet(partitions[0].start, partitions[-1].end)} if partitions else {}
        )
        ours = {
            "pipeline_id": run.pipeline_id,
            "project": run.project,
            "environment": run.environment,
            "run_id": run.run_id,
            "execution": run.execution,
            "generation": run.generation,
            "cause": run.cause,
            "partition": run.partition_text if partitions else None,
            "version": self.plan.version,
            "trace_id": run.trace_id,
            **identifiers,
        }
        if handed_out := self.plan.environment.configuration:
            ours["configuration"] = [one.to_full_dict() for one in handed_out]
        return {**times, "aiflow_run": events.own_facet("run", ours)}

    def _datasets(
        self,
        node_type: str,
        nodes: Iterable[PlanNode],
        facts: Mapping[str, NodeFacts],
        columns: Mapping[str, Facets] | None = None,
    ) -> Iterator[events.Dataset]:
        for node in nodes:
            known = facts.get(node.id, NodeFacts(node_id=node.id))
            if node.type == node_type and (dataset := known.dataset or node.dataset):
                yield _dataset(node, known, dataset, (columns or {}).get(node.id, {}))
            for how, namespace, name in known.touched:
                if (how == "read") == (node_type == "source"):
                    yield events.Dataset(namespace, name)


def _dataset(node: PlanNode, facts: NodeFacts, name: tuple[str, str], columns: Facets) -> events.Dataset:
    about: dict[str, Any] = {}
    if facts.columns:
        about["schema"] = events.schema_facet(facts.columns)
    if facts.table_version is not None:
        about["version"] = events.dataset_version_facet(facts.table_version)
    ours = {"node_id": node.id, "partitions": list(facts.partitions), "superseded": facts.superseded or None}
    if facts.environment is not None:
        ours["environment"] = facts.environment
    measured: dict[str, Any] = {
        "aiflow_node": events.own_facet("node", {k: v for k, v in ours.items() if v is not None})
    }
    if facts.location is not None:
        tell = events.input_subset_facet if node.type == "source" else events.output_subset_facet
        measured["subset"] = tell([facts.location])
    if facts.rows is not None or facts.bytes is not None:
        if node.type == "source":
            measured["inputStatistics"] = events.input_statistics_facet(facts.rows, facts.bytes)
        else:
            measured["outputStatistics"] = events.output_statistics_facet(facts.rows, facts.bytes)
    return events.Dataset(*name, facets={**about, **columns}, measured=measured)


def error_facets(error: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the run facets of an error, as ``AiflowError.to_dict`` has it; none of none."""
    if not error:
        return {}
    ours = {name: error.get(name) for name in ("code", "retryable", "where", "hint") if error.get(name) is not None}
    return {
        "errorMessage": events.error_facet(str(error["message"]), list(map(str, error.get("notes") or ()))),
        "aiflow_error": events.own_facet("error", ours),
    }
