"""What will run: tasks that hold nodes, every value spelled out, complete enough for another machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from aiflow_sdk.errors import unknown_name
from aiflow_sdk.ir import HERE, Frozen, FrozenMap, NodeType, PlainMap, canonical_json, fingerprint, json_schema
from aiflow_sdk.ir.schedule import DatasetCondition
from aiflow_sdk.partitions import Grain

PLAN_VERSION = 1


class PlanNode(Frozen):
    """One node with everything resolved but its templates, which are rendered where it runs."""

    id: str
    type: NodeType
    kind: str | None = None
    """Of a source or sink: which plugin."""
    plugin: str | None = None
    """Of a source or sink: ``module:object`` of the plugin, so that any process can load it."""
    options: PlainMap = FrozenMap()
    """Of a source or sink: every option, defaults spelled out; templates and secret references raw."""
    dataset: tuple[str, str] | None = None
    """Of a source or sink: namespace and name for lineage, where they are known before the run."""
    engine: str | None = None
    entrypoint: str | None = None
    sql: str | None = None
    params: PlainMap = FrozenMap()
    """What the user's function gets as ``params``, raw."""
    input_ids: tuple[str, ...] = ()
    output_schema: PlainMap | None = None
    external: bool = False
    bounded: bool = True
    fill: PlainMap = FrozenMap()
    """Of a sink: partition columns that the frame may lack, and the template that gives their one value."""
    time: str | None = None
    """Of a sink: the partition column that holds the run's partition; None replaces the whole."""
    code: str | None = None
    """Fingerprint of the project's code that a transform's function, or the project's own source or sink, reaches."""

    @property
    def is_here(self) -> bool:
        """Whether its function exists only in the process that built the pipeline."""
        return self.entrypoint is not None and self.entrypoint.startswith(HERE)

    @property
    def local_id(self) -> str:
        """The id inside its branch: ``enrich`` of ``enrich.us``."""
        return self.id.split(".", 1)[0]


class PlanTask(Frozen):
    """What an orchestrator schedules: nodes that one engine runs in one process, on one cluster."""

    id: str
    """The id of its last transform; of a mere copy the sink's; of one that waits the source's."""
    engine: str
    engine_plugin: str
    code: str | None = None
    """Of a project's own engine: fingerprint of the code that it reaches."""
    cluster: str
    """The cluster's name in the environment; ``local`` is the machine that the task runs on."""
    resources: PlainMap = FrozenMap()
    node_ids: tuple[str, ...]
    """Each after its inputs. A source stands in every task that reads it."""
    staged_inputs: tuple[str, ...] = ()
    """Nodes of other tasks whose staged frames this one reads."""
    stages: tuple[str, ...] = ()
    """Nodes of this task whose frames it stages for others."""
    upstream: tuple[str, ...] = ()
    """Tasks that must have succeeded."""
    retries: int
    retry_delay_seconds: float
    """The pause after the first attempt."""
    retry_backoff: float = 1.0
    """How many times as long each further pause is; none grows beyond a day."""
    timeout_seconds: float | None
    bounded: bool
    """Whether the task ends by itself; one that does not is a job with savepoints."""
    waits: bool = False
    """Whether all it does is wait for the partitions of its one source, which its downstream tasks read."""


class PlanLake(Frozen):
    """The lake of another environment, which is only read."""

    environment: str
    lake: str
    storage: PlainMap = FrozenMap()


class PlanListener(Frozen):
    """One who hears of the events of runs."""

    name: str
    kind: str
    plugin: str
    """``module:object``, so that any process can load it."""
    options: PlainMap = FrozenMap()
    """References to secrets raw."""


class PlanItem(Frozen):
    """A connection or variable that the metadata service handed out when the plan was compiled; its value stands where
    the setting of its name does."""

    environment: str
    """Whose it is: this plan's, or one that it reads from."""
    kind: str
    """``connection`` or ``variable``."""
    name: str
    version: int
    team: str


class PlanEnvironment(Frozen):
    """The environment that the plan was compiled for, as a task needs it; see ``aiflow_sdk.config.Environment``."""

    name: str
    lake: str
    staging: str
    staging_keep_days: float
    spark: str | None = None
    """``sc://`` address of a Spark Connect server; None: an embedded one."""
    clusters: PlainMap = FrozenMap()
    secrets: PlainMap = FrozenMap()
    storage: PlainMap = FrozenMap()
    """How the lake's store is opened; references to secrets raw."""
    reads: tuple[PlanLake, ...] = ()
    """The lakes in which a table is looked for that is absent in this one, nearest first."""
    listeners: tuple[PlanListener, ...] = ()
    """Who hears of the events of runs that the local runner does not do."""
    grants_keep_hours: float = 72
    """How long what the metadata service said of grants is gone by while it is silent."""
    configuration: tuple[PlanItem, ...] = ()
    """What the metadata service handed out of all this."""


class Plan(Frozen):
    """All that is needed to schedule a pipeline and to run any of its tasks."""

    project: str
    pipeline_id: str
    version: str
    """Of the pipeline: fingerprint of the definition, the code of each node, and the lock."""
    definition: str
    """Fingerprint of the IR."""
    lock: str
    """Fingerprint of the lock file, else of the installed packages."""
    environment: PlanEnvironment
    schedule: str | DatasetCondition | None
    owner: str
    sla_minutes: float | None
    tags: tuple[str, ...]
    extra: PlainMap
    description: str
    start_date: str | None
    timezone: str
    catchup: bool
    max_active_runs: int
    concurrency: int | None
    timeout_seconds: float | None
    notify: tuple[str, ...]
    params: PlainMap
    partition: Grain | None
    ranges: bool
    node_list: tuple[PlanNode, ...] = Field(alias="nodes")
    """Each after its inputs."""
    tasks: tuple[PlanTask, ...]
    """Each after its upstream tasks."""

    @cached_property
    def nodes(self) -> Mapping[str, PlanNode]:
        """The nodes by id, each after its inputs."""
        return {node.id: node for node in self.node_list}

    def task(self, task_id: str) -> PlanTask:
        """Return the task of that id. Raises ``UnknownNameError`` with the nearest one."""
        for task in self.tasks:
            if task.id == task_id:
                return task
        raise unknown_name("unknown-task", "task", task_id, (task.id for task in self.tasks))

    def task_of(self, node_id: str) -> PlanTask:
        """Return the task that makes the node (a source: the first that reads it)."""
        holding = [task for task in self.tasks if node_id in task.node_ids]
        if not holding:
            raise unknown_name("unknown-node", "node", node_id, self.nodes)
        return next((task for task in holding if not task.waits), holding[0])

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The plan as JSON-ready data, every value spelled out; all who ask share it, so nobody may change it."""
        return self.to_full_dict()

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the whole plan, environment included."""
        return fingerprint(self.document)

    def to_json(self) -> str:
        """Return the canonical JSON, every value spelled out."""
        return canonical_json({"plan_version": PLAN_VERSION, **self.document})


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan document, as published in ``docs/schemas``."""
    return json_schema(Plan, "plan_version", PLAN_VERSION)
