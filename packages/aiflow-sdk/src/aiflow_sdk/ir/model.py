"""What a pipeline means: nodes, their inputs, and when it runs. No address, no machine, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Literal, NamedTuple, Self, assert_never

from aiflow_sdk.errors import DefinitionError, Where, unknown_name
from aiflow_sdk.ir.canonical import canonical_json, fingerprint_of_json
from aiflow_sdk.ir.frozen import EMPTY_MAP, FrozenMap, freeze
from aiflow_sdk.ir.schedule import DatasetCondition
from aiflow_sdk.ir.value import Value, limited
from aiflow_sdk.partitions import Grain

IR_VERSION = 1
_VERSION = "ir_version"

NodeType = Literal["source", "transform", "sink"]

RESERVED_NODE_IDS = frozenset({"inputs", "params", "context", "spark", "env"})
"""What a user's function may ask for by name, so no node can be called so."""

HERE = "__here__:"
"""Begins the entrypoint of a function that exists only in one process (a lambda, a notebook's function)."""

MAX_ID_LENGTH = 200
_NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_PIPELINE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class DatasetName(NamedTuple):
    """How lineage calls a dataset, after OpenLineage's naming rules: a namespace and a name within it."""

    namespace: str
    name: str


class NodeIR(Value):
    """One node: where data comes from, how it is transformed, or where it goes."""

    id: str
    type: NodeType
    engine: str | None = None
    """``python``, ``spark``, ``flink`` or a plugin's; only of transforms."""
    entrypoint: str | None = None
    """``pkg.mod:function`` of a transform in Python."""
    sql: str | None = None
    """The query of a transform in SQL; ``{node}`` names an input."""
    params: FrozenMap = EMPTY_MAP
    """Of a source or sink its options with ``kind``, raw (templates not rendered); of a transform the user's own."""
    resources: FrozenMap = EMPTY_MAP
    """``engine``, ``cluster`` and what the engine may be given; empty means the environment's default."""
    input_ids: tuple[str, ...] = ()
    output_schema: FrozenMap | None = None
    """Column names and Arrow type names, where the author states them."""
    retries: int | None = limited(None, ge=0)
    retry_delay_minutes: float | None = limited(None, ge=0)
    retry_backoff: float | None = limited(None, ge=1)
    timeout_minutes: float | None = limited(None, gt=0)
    fuse: bool = True
    external: bool = False
    """The function writes by itself and may return nothing."""
    implicit: bool = False
    """A sink that ``output_table`` or ``output_path`` of its input stands for."""
    bounded: bool = True
    """Whether a source ends; what follows an unbounded one is unbounded."""

    @cached_property
    def kind(self) -> str | None:
        """Which plugin a source or sink is."""
        kind = self.params.get("kind") if self.type != "transform" else None
        return kind if isinstance(kind, str) else None

    @cached_property
    def options(self) -> FrozenMap:
        """The options of a source or sink, without ``kind``."""
        return self.params.without("kind")

    @property
    def is_here(self) -> bool:
        """Whether its function exists only in the process that built the pipeline."""
        return self.entrypoint is not None and self.entrypoint.startswith(HERE)

    @property
    def local_id(self) -> str:
        """The id inside its branch: ``enrich`` of ``enrich.us``."""
        return self.id.split(".", 1)[0]

    def _settle(self) -> None:
        about = f"node '{self.id}'"
        check_id(self.id, _NODE_ID, "node id", about)
        if self.local_id in RESERVED_NODE_IDS:
            raise DefinitionError(
                "reserved-node-id",
                f"'{self.local_id}' is what a function calls one of its arguments, so no node may be called so",
                where=Where(about=about),
                hint="choose another id",
            )
        for text in (self.engine, self.entrypoint, self.sql):
            if text is not None and not text.isascii():
                freeze(text)  # half a character stands in no document
        match self.type:
            case "source":
                whole = self.kind and not (self.input_ids or self.engine or self.entrypoint or self.sql)
            case "transform":
                whole = self.engine and bool(self.entrypoint) != bool(self.sql)
            case "sink":
                whole = self.kind and len(self.input_ids) == 1 and not (self.engine or self.entrypoint or self.sql)
            case _ as never:
                assert_never(never)
        if not whole:
            raise DefinitionError(
                "incomplete-node",
                f"{self.type} '{self.id}' lacks or mixes what makes a {self.type}",
                where=Where(about=about),
            )


class PipelineIR(Value):
    """What one pipeline means. Equal meaning gives an equal value, an equal JSON and an equal fingerprint."""

    id: str
    schedule: str | DatasetCondition | None = None
    """Cron text, an ISO 8601 duration (``P1D``), datasets, or None: only by hand."""
    owner: str = ""
    sla_minutes: float | None = 60.0
    tags: tuple[str, ...] = ()
    extra: FrozenMap = EMPTY_MAP
    """``project``, ``team``, ``env``, ``cost_center`` and whatever else the author labels the pipeline with."""
    description: str = ""
    start_date: str | None = None
    """ISO 8601 date or moment."""
    timezone: str = "UTC"
    catchup: bool = False
    retries: int = limited(0, ge=0)
    retry_delay_minutes: float = limited(5.0, ge=0)
    retry_backoff: float = limited(1.0, ge=1)
    """How many times as long each further pause is."""
    timeout_minutes: float | None = limited(None, gt=0)
    max_active_runs: int = limited(16, ge=1)
    concurrency: int | None = limited(None, ge=1)
    notify: tuple[str, ...] = ()
    params: FrozenMap = EMPTY_MAP
    partition: Grain | None = None
    """What one run is for."""
    ranges: bool = False
    """Whether one run can be for a range of partitions."""
    node_list: tuple[NodeIR, ...] = limited((), alias="nodes")
    """Sorted by id."""

    def _settle(self) -> None:
        if self.tags:
            self.__dict__["tags"] = tuple(sorted(set(self.tags)))
        about = f"pipeline '{self.id}'"
        check_id(self.id, _PIPELINE_ID, "pipeline id", about)
        if self.extra.get("project") is not None:
            check_id(str(self.extra["project"]), _PIPELINE_ID, "project", about)
        if self.node_list:
            self._settle_nodes()

    def _settle_nodes(self) -> None:
        self.__dict__["node_list"] = tuple(sorted(self.node_list, key=_id_of))
        about = f"pipeline '{self.id}'"
        nodes: dict[str, NodeIR] = {}
        for node in self.node_list:
            if node.id in nodes:
                raise DefinitionError(
                    "duplicate-node-id",
                    f"two nodes are called '{node.id}'",
                    where=Where(about=about),
                    hint="rename one",
                )
            nodes[node.id] = node
        for node in self.node_list:
            for input_id in node.input_ids:
                if input_id not in nodes:
                    raise unknown_name(
                        "unknown-input", "input", input_id, nodes, where=Where(about=f"{about}, node '{node.id}'")
                    )
                if nodes[input_id].type == "sink":
                    raise DefinitionError(
                        "sink-as-input",
                        f"'{node.id}' reads the sink '{input_id}'",
                        where=Where(about=about),
                        hint="read the sink's input",
                    )
        _ = self.order

    @property
    def origin(self) -> str | None:
        """The project's folder that this process found it in, no part of the value; None where nobody looked for it."""
        return self.__dict__.get("_origin")

    def found_in(self, folder: str) -> Self:
        """Note the project's folder and return the pipeline itself."""
        self.__dict__["_origin"] = folder
        return self

    @cached_property
    def nodes(self) -> Mapping[str, NodeIR]:
        """The nodes by id, each after its inputs, otherwise sorted by id."""
        by_id = {node.id: node for node in self.node_list}
        return {node_id: by_id[node_id] for node_id in self.order}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The ids of all nodes, each after its inputs, otherwise sorted. Raises ``DefinitionError`` for a cycle."""
        waiting: dict[str, int] = {}
        readers: dict[str, list[str]] = {node.id: [] for node in self.node_list}
        for node in self.node_list:
            inputs = set(node.input_ids)
            waiting[node.id] = len(inputs)
            for input_id in inputs:
                readers[input_id].append(node.id)
        order: list[str] = []
        layer = [node_id for node_id, count in waiting.items() if not count]
        while layer:
            order.extend(sorted(layer))
            for node_id in layer:
                del waiting[node_id]
            above, layer = layer, []
            for node_id in above:
                for reader in readers[node_id]:
                    waiting[reader] -= 1
                    if not waiting[reader]:
                        layer.append(reader)
        if waiting:
            raise DefinitionError(
                "cycle",
                f"these nodes wait for each other: {', '.join(sorted(waiting))}",
                where=Where(about=f"pipeline '{self.id}'"),
                hint="remove one of the inputs",
            )
        return tuple(order)

    def with_nodes(self, nodes: Iterable[NodeIR]) -> PipelineIR:
        """Return the pipeline with these nodes in place of its own. Raises ``DefinitionError``."""
        made = object.__new__(PipelineIR)
        vars(made).update({name: held for name, held in vars(self).items() if name in self.LIMITS})
        vars(made)["node_list"] = tuple(nodes)
        made._settle_nodes()
        return made

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Every (input id, node id)."""
        return tuple((input_id, node.id) for node in self.nodes.values() for input_id in node.input_ids)

    @property
    def project(self) -> str | None:
        """The project that the author names; None means the one of ``aiflow.toml``, else ``default``."""
        project = self.extra.get("project")
        return str(project) if project is not None else None

    @cached_property
    def fingerprint(self) -> str:
        """The definition's fingerprint; see :func:`aiflow_sdk.ir.fingerprint`."""
        return self.to_json_and_fingerprint()[1]

    def to_json(self) -> str:
        """Return the canonical JSON, with the version of its form and defaults left out."""
        return self.to_json_and_fingerprint()[0]

    def to_json_and_fingerprint(self) -> tuple[str, str]:
        """Return both, for the price of one: the version is all that the fingerprint's own text lacks."""
        content = self.to_dict()
        # Keys are sorted, and the id always comes before the version.
        before = canonical_json({key: value for key, value in content.items() if key < _VERSION})
        after = canonical_json({key: value for key, value in content.items() if key > _VERSION})
        before, after = before[:-1], f",{after[1:]}" if after != "{}" else "}"
        return f'{before},"{_VERSION}":{IR_VERSION}{after}', fingerprint_of_json(before + after)


_id_of = attrgetter("id")


def check_id(text: str, form: re.Pattern[str], what: str, about: str) -> None:
    """Raise ``DefinitionError`` unless ``text`` is an id of the given form and not too long."""
    if len(text) > MAX_ID_LENGTH:
        raise DefinitionError(
            "bad-id",
            f"the {what} has {len(text)} characters, at most {MAX_ID_LENGTH} are allowed",
            where=Where(about=about),
        )
    if not form.fullmatch(text):
        suggestion = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")
        raise DefinitionError(
            "bad-id",
            f"{text!r} is not a {what}: letters, digits, '_' and '-' only",
            where=Where(about=about),
            hint=f"write {suggestion!r}" if suggestion and suggestion[0] not in "0123456789" else None,
        )
