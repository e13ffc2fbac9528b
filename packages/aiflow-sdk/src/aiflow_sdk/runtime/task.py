"""Does one task: reads its sources and staged inputs, calls its functions, writes its sinks and stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from aiflow_sdk.code import enter_project
from aiflow_sdk.config import SERVICE, Environment, ReadThrough, resolve_secrets
from aiflow_sdk.config.configuration import ConfigurationItem
from aiflow_sdk.errors import DefinitionError, Where
from aiflow_sdk.ir import FrozenMap, thaw
from aiflow_sdk.place import node_place, placed
from aiflow_sdk.plan import JobHandle, NodeFacts, Plan, PlanNode, PlanTask, Run, TaskResult
from aiflow_sdk.plugins import (
    Engine,
    Frame,
    FrameWrite,
    Pending,
    Scan,
    Session,
    Sink,
    Source,
    UserFunction,
    VersionedSource,
    Write,
    Written,
    load_plugin,
)
from aiflow_sdk.runtime.context import Context
from aiflow_sdk.runtime.functions import load_function
from aiflow_sdk.runtime.grants import Gate
from aiflow_sdk.runtime.readiness import await_partitions
from aiflow_sdk.runtime.rendering import (
    TouchedDataset,
    WantedPartitions,
    fill_values,
    render_options,
    shown_facts,
    touched_dataset,
)
from aiflow_sdk.runtime.staging import Staging, StoreStaging
from aiflow_sdk.service import Touch, touch_of
from aiflow_sdk.usage import Meter
from aiflow_sdk.variables import render, render_query

Report = Callable[[dict[str, Any]], None]


def execute_task(
    plan: Plan,
    task_id: str,
    run: Run,
    *,
    root: Path,
    report: Report | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    overrides: Mapping[str, Source | Sink] | None = None,
    staging: Staging | None = None,
    audits: Mapping[str, Callable[[Pending], None]] | None = None,
    places: Mapping[str, Where] | None = None,
    patient: bool = True,
    meter: Meter | None = None,
) -> TaskResult:
    """Do one attempt of a task and return what it did.

    ``root`` is the project's folder, where user code and relative addresses lie. ``report`` hears ``node-started`` and
    ``node-finished`` records. ``functions`` are objects that stand for entrypoints (node id → function), ``overrides``
    connectors that stand for those of the plan (node id → plugin), for tests and notebooks. ``audits`` (sink →
    function) look at what is written before anybody sees it: if one raises, nothing of the task is written. ``places``
    tells where each node was written (node id → place; ``""``: the pipeline), for errors. A task that only waits is
    told at once what is missing unless ``patient``. A continuous task is started and goes on: the result holds its job.
    ``meter`` measures the attempt, and is told of a server that computes for it.

    What the pipeline's team may not read or write is refused before anything else (:mod:`aiflow_sdk.runtime.grants`),
    unless the run is a test. Repeating it is safe: sinks and stages write all or nothing, known by the run's
    generation. Raises ``AiflowError`` of whatever went wrong; a user's exception is the cause of a ``UserCodeError``.
    """
    task = plan.task(task_id)
    enter_project(root)
    environment = bound_environment(plan, root)
    work = _Work(
        plan,
        task,
        run,
        root,
        environment,
        report or (lambda _: None),
        functions or {},
        overrides or {},
        audits or {},
        places or {},
    )
    started = time.perf_counter()
    work.check_grants()
    if task.waits:
        work.wait(patient)
        return TaskResult(task_id=task_id, seconds=round(time.perf_counter() - started, 6))
    work.staging = staging or StoreStaging(environment)
    engine = load_plugin(task.engine_plugin, Engine, kind=task.engine).load(task.resources, environment)
    if not (task.bounded or engine.continuous):
        raise DefinitionError(
            "no-continuous-tasks",
            f"the task '{task_id}' has no end, and the engine '{task.engine}' runs only what ends",
            hint="take an engine that runs continuous tasks, or a source that ends",
        )
    work.dialect = engine.sql_dialect
    pipeline = work.where()
    where = Where(pipeline.path, pipeline.line, about=f"{pipeline.about}, task '{task_id}'")
    with placed(where), engine.open(task, run) as session:
        if meter and (server := session.server):
            meter.follow(server.pid)
        work.do(session)
    return TaskResult(
        task_id=task_id,
        seconds=round(time.perf_counter() - started, 6),
        nodes=tuple(work.facts.values()),
        job=work.job,
    )


def bound_environment(plan: Plan, root: Path) -> Environment:
    """Return the plan's environment at work in the project's folder, where its relative folders lie."""
    stated = plan.environment
    named = (one.options for one in stated.listeners if one.name == SERVICE and one.kind == "openlineage")
    service: Mapping[str, Any] = next(named, {})
    return Environment(
        name=stated.name,
        lake=stated.lake,
        staging=stated.staging,
        staging_keep_days=stated.staging_keep_days,
        spark=stated.spark,
        clusters=thaw(stated.clusters),
        secrets=thaw(stated.secrets),
        storage=thaw(stated.storage),
        reads=tuple(ReadThrough(one.environment, one.lake, thaw(one.storage)) for one in stated.reads),
        service=service.get("url"),
        service_token=service.get("api_key"),
        service_over_http=True,  # else the plan would not have been made, nor a login been kept
        grants_keep_hours=stated.grants_keep_hours,
        handed_out=tuple(ConfigurationItem(**one.to_full_dict()) for one in stated.configuration),
        root=root,
    )


def siblings_of(plan: Plan, node: PlanNode) -> tuple[str, ...]:
    """Return the plan's other sinks that write to the same dataset: together they make a partition of it."""
    if node.dataset is None:
        return ()
    return tuple(
        other.id
        for other in plan.node_list
        if other.type == "sink" and other.id != node.id and other.dataset == node.dataset
    )


@dataclass
class _Work:
    plan: Plan
    task: PlanTask
    run: Run
    root: Path
    environment: Environment
    report: Report
    functions: Mapping[str, Callable[..., Any]]
    overrides: Mapping[str, Source | Sink]
    audits: Mapping[str, Callable[[Pending], None]]
    places: Mapping[str, Where]
    staging: Staging = field(init=False)
    gate: Gate | None = None
    """Present where grants hold."""
    dialect: str | None = None
    job: JobHandle | None = None
    frames: dict[str, Frame] = field(default_factory=dict)
    facts: dict[str, NodeFacts] = field(default_factory=dict)
    contexts: dict[str, Context] = field(default_factory=dict)
    datasets: dict[str, TouchedDataset] = field(default_factory=dict)

    def where(self, node_id: str | None = None) -> Where:
        """Return where a node, or else the pipeline, was written."""
        return node_place(self.places, self.plan.pipeline_id, node_id)

    def check_grants(self) -> None:
        """Return if the team may read and write what the task does. Raises ``AccessError``."""
        if self.run.cause == "test":
            return
        self.gate = Gate.of(self.plan, self.environment, self.root)
        if self.gate is None:
            return
        touches: dict[Touch, Where] = {}
        for node_id in self.task.node_ids:
            node, where = self.plan.nodes[node_id], self.where(node_id)
            if node.type != "transform" and node_id not in self.overrides:
                with placed(where):
                    touch = touch_of(node.type, node.dataset or self.dataset(node, where).name)
                if touch is not None:
                    touches.setdefault(touch, where)
        if touches:
            self.gate.check(touches)

    def dataset(self, node: PlanNode, where: Where) -> TouchedDataset:
        """Return the dataset of a source or sink whose name the run decides."""
        options, _ = render_options(node, self.run, self.environment)
        kind: type[Source] | type[Sink] = Source if node.type == "source" else Sink
        connector = load_plugin(node.plugin or "", kind).load(options, self.environment, where=where)
        return touched_dataset(node, connector, self.run)

    def wait(self, patient: bool) -> None:
        """Return once the partitions are there that the task's sources ask for; at once unless ``patient``."""
        for node_id in self.task.node_ids:
            if node_id not in self.overrides:
                where = self.where(node_id)
                with placed(where):
                    source, wanted = self.source(self.plan.nodes[node_id], where)
                    await_partitions(source, wanted, self.run.timezone, where, wait=patient)

    def source(self, node: PlanNode, where: Where) -> tuple[Source, list[WantedPartitions]]:
        options, wanted = render_options(node, self.run, self.environment)
        return load_plugin(node.plugin or "", Source, kind=node.kind or "").load(
            options, self.environment, where=where
        ), wanted

    def do(self, session: Session) -> None:
        for node_id in self.task.staged_inputs:
            with placed(self.where(node_id)):
                self.frames[node_id] = session.read(self.staging.source(self.plan, node_id, self.run), Scan(self.run))
        writes: list[FrameWrite] = []
        for node_id in self.task.node_ids:
            node = self.plan.nodes[node_id]
            with placed(self.where(node_id)):
                match node.type:
                    case "source":
                        self.started(node_id)
                        self.read(session, node)
                    case "transform":
                        self.started(node_id)
                        self.transform(session, node)
                    case "sink":
                        writes.append(self.sink_write(node))
                    case _ as never:
                        assert_never(never)
        for node_id in self.task.stages:
            sink = self.staging.sink(self.task.id, node_id, self.run)
            writes.append(FrameWrite(self.frames[node_id], sink, Write(node_id, self.run, where=self.where(node_id))))
        for write in writes:
            if self.plan.nodes[write.request.node_id].type == "sink":
                self.started(write.request.node_id)
        if not self.task.bounded:
            self.job = session.start(writes)
            return
        began = time.perf_counter()
        # Of several that are computed together the engine alone may know which one failed.
        with placed(writes[0].request.where) if len(writes) == 1 else nullcontext():
            done = session.write(writes) if writes else ()
        for write, written in zip(writes, done, strict=True):
            # One write needs all the time; several share it, and whose part is whose nobody measured.
            seconds = time.perf_counter() - began if len(writes) == 1 else None
            self.finished_write(session, write, written, seconds)
        for node_id, context in self.contexts.items():
            # A lazy function counts only while its rows are computed.
            if context.counts and FrozenMap(context.counts) != self.facts[node_id].counts:
                self.finished(NodeFacts.model_validate({**dict(self.facts[node_id]), "counts": context.counts}))

    def read(self, session: Session, node: PlanNode) -> None:
        began = time.perf_counter()
        where = self.where(node.id)
        override = self.overrides.get(node.id)
        partitions: tuple[str, ...] = ()
        source: Source
        if isinstance(override, Source):
            source = override
        else:
            source, wanted = self.source(node, where)
            # Plans of former versions have no task that waits.
            waited = any(task.waits and node.id in task.node_ids for task in self.plan.tasks)
            if isinstance(source, VersionedSource) and (pin := self.run.pins.get(node.id)):
                source.pin(pin["environment"], pin["version"])  # first: what is awaited is what is read
            await_partitions(source, wanted, self.run.timezone, where, wait=not waited)
            partitions = tuple(f"{one.column}={key}" for one in wanted if one.follow_run for key in one.keys)
        identity = source.identity(self.run) if node.bounded else None
        self.frames[node.id] = session.read(source, Scan(self.run))
        rows, size = source.measure(self.run) if node.bounded else (None, None)
        dataset = touched_dataset(node, source, self.run) if source is not override else None
        if dataset and dataset.partition:
            partitions = (dataset.partition, *partitions)
        reading = source.reading() if isinstance(source, VersionedSource) and node.bounded else None
        self.finished(
            NodeFacts(
                node_id=node.id,
                rows=rows,
                bytes=size,
                seconds=round(time.perf_counter() - began, 6),
                identity=identity,
                dataset=dataset.name if dataset else None,
                location=dataset.location if dataset else None,
                columns=session.columns(self.frames[node.id]),
                partitions=partitions,
                table_version=reading.version if reading else None,
                environment=reading.environment if reading else None,
                address=reading.address if reading else None,
            )
        )

    def transform(self, session: Session, node: PlanNode) -> None:
        began = time.perf_counter()
        inputs = {input_id: self.frames[input_id] for input_id in node.input_ids}
        context = Context(self.run, node.id, self.task.id, permit=self.permit)
        if node.sql is not None:
            frame = session.sql(render_query(node.sql, self.run.facts(), self.dialect), inputs)
        else:
            entrypoint = node.entrypoint or ""
            function = load_function(entrypoint, node_id=node.id, functions=self.functions)
            params = render(resolve_secrets(thaw(node.params), self.environment), self.run.facts())
            frame = session.call(UserFunction(function, entrypoint, node.id, params, context, node.external), inputs)
        if frame is not None:
            self.frames[node.id] = frame
        rows = session.rows(frame) if frame is not None else None
        # Of a lazy frame nothing was computed yet, so the time of the call would be no measure of it.
        seconds = round(time.perf_counter() - began, 6) if rows is not None or frame is None else None
        facts = NodeFacts(
            node_id=node.id,
            rows=rows,
            seconds=seconds,
            counts=FrozenMap(context.counts),
            columns=session.columns(frame) if frame is not None else None,
            dialect=self.dialect if node.sql is not None else None,
            touched=tuple((how, *name) for how, name in context.touched),
        )
        self.contexts[node.id] = context
        self.finished(facts)

    def permit(self, touch: Touch) -> None:
        """Return if a function may touch what it names. Raises ``AccessError``."""
        if self.gate is not None:
            self.gate.check({touch: Where(about=f"pipeline '{self.plan.pipeline_id}'")})

    def sink_write(self, node: PlanNode) -> FrameWrite:
        (input_id,) = node.input_ids
        override = self.overrides.get(node.id)
        sink: Sink
        if isinstance(override, Sink):
            sink = override
        else:
            options, _ = render_options(node, self.run, self.environment)
            sink = load_plugin(node.plugin or "", Sink).load(options, self.environment, where=self.where(node.id))
            self.datasets[node.id] = touched_dataset(node, sink, self.run)
        request = Write(
            node.id,
            self.run,
            fill_values(node, self.run),
            node.time,
            siblings_of(self.plan, node),
            self.where(node.id),
            tuple(other.id for other in self.plan.node_list if other.type == "sink"),
        )
        return FrameWrite(self.frames[input_id], sink, request, self.audits.get(node.id))

    def finished_write(self, session: Session, write: FrameWrite, written: Written, seconds: float | None) -> None:
        node_id = write.request.node_id
        known = self.facts.get(node_id, NodeFacts(node_id=node_id))
        dataset = self.datasets.get(node_id)
        partitions = written.partitions
        if dataset and (part := dataset.partition):
            partitions = tuple(f"{part}/{one}" for one in partitions) or (part,)
        is_stage = self.plan.nodes[node_id].type != "sink"
        self.finished(
            NodeFacts(
                node_id=node_id,
                rows=written.rows if written.rows is not None else known.rows,
                bytes=written.bytes,
                seconds=known.seconds if is_stage else seconds and round(seconds, 6),
                counts=known.counts,
                table_version=written.table_version,
                columns=written.columns or session.columns(write.frame),
                dialect=known.dialect,
                identity=written.identity,
                dataset=dataset.name if dataset else None,
                location=dataset.location if dataset else None,
                superseded=written.superseded,
                address=None if is_stage else written.address,
                partitions=partitions,
                touched=known.touched,
            )
        )

    def started(self, node_id: str) -> None:
        self.report({"record": "node-started", "node_id": node_id})

    def finished(self, facts: NodeFacts) -> None:
        facts = shown_facts(facts)
        self.facts[facts.node_id] = facts
        self.report({"record": "node-finished", **facts.to_dict()})
