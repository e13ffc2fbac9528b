"""One request to run a plan, and the names that its doing is known by."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple

from pydantic import Field

from aiflow_sdk.ir import Frozen, FrozenMap, PlainMap, canonical_json
from aiflow_sdk.partitions import Partition, partitions_between
from aiflow_sdk.variables import run_facts

Cause = Literal["manual", "schedule", "dataset", "backfill", "clear", "test"]


class Run(Frozen):
    """One request (``run_id``), one doing of it (``execution``) and one try of a task (``attempt``)."""

    run_id: str
    """A UUID of version 7, so that ids sort by the moment they were made."""
    environment: str
    project: str
    pipeline_id: str
    partition_key: str | None = None
    """Key of the partition that the run is for; of a range its first."""
    last_partition_key: str | None = None
    """Of a range its last partition, included."""
    partition_grain: Literal["hour", "day", "week", "month"] | None = None
    timezone: str = "UTC"
    params: PlainMap = FrozenMap()
    """The pipeline's params with what the request gave instead."""
    cause: Cause = "manual"
    execution: int = Field(default=1, ge=1)
    attempt: int = Field(default=1, ge=1)
    generation: int = Field(default=1, ge=1)
    """Grows with each execution of the pipeline in the environment; fixed when the execution starts."""
    version: str = ""
    """Of the pipeline that is run; see ``Plan.version``."""
    trace_id: str = ""
    """32 hexadecimal digits, as W3C Trace Context has it."""

    @property
    def partition(self) -> Partition | None:
        """The partition that the run is for; of a range its first."""
        if self.partition_key is None or self.partition_grain is None:
            return None
        return Partition.parse(self.partition_key, self.partition_grain, self.timezone)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions that the run is for, in order; empty where it has none."""
        first = self.partition
        if first is None or self.last_partition_key is None:
            return (first,) if first else ()
        return tuple(partitions_between(first, Partition.parse(self.last_partition_key, first.grain, self.timezone)))

    @property
    def partition_text(self) -> str:
        """The key, ``first..last`` of a range, or ``-`` where there is none."""
        first = self.partition_key or "-"
        return f"{first}..{self.last_partition_key}" if self.last_partition_key else first

    def facts(self) -> dict[str, Any]:
        """Return what templates may name, by name; see :mod:`aiflow_sdk.variables`."""
        return run_facts(self.partition, run_id=self.run_id, pipeline_id=self.pipeline_id, params=self.params)

    def write_key(self, node_id: str) -> str:
        """Return the write's identity without its generation: environment, pipeline, sink and partition."""
        return f"aiflow:{self.environment}/{self.project}/{self.pipeline_id}/{node_id}/{self.partition_text}"

    def idempotency_key(self, node_id: str) -> str:
        """Return the write's identity as 32 hexadecimal digits: the same for every attempt of one execution."""
        text = canonical_json([self.write_key(node_id), self.generation])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Token(NamedTuple):
    """Names a submission, so that the same one never starts a second job."""

    text: str


class JobHandle(Frozen):
    """A job that a cluster runs, as plain data: any other process can take it over."""

    cluster: str
    id: str
    details: PlainMap = FrozenMap()


class JobState(Frozen):
    """What a cluster says of a job."""

    phase: Literal["pending", "running", "succeeded", "failed", "cancelled", "unknown"]
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.phase in ("succeeded", "failed", "cancelled")
