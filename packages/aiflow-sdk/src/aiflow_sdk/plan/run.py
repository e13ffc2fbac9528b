"""One request to run a plan, and the names that its doing is known by."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import (
    Frozen,
    FrozenMap,
    PlainMap,
    Upgrade,
    canonical_json,
    invalid_document,
    json_schema,
    upgrade_document,
)
from aiflow_sdk.partitions import Partition, partitions_between
from aiflow_sdk.variables import run_facts

RUN_VERSION = 1
RUN_UPGRADES: Mapping[int, Upgrade] = {}
"""For each older version, how its document becomes one of the next version."""

Cause = Literal["manual", "schedule", "dataset", "backfill", "clear", "test"]

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What may be a part of a path, of a key and of an address, whoever sent it."""


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
    external_id: str = ""
    """What another system calls the run (Airflow's run_id): stored, shown and searched for, never a key."""

    pins: PlainMap = FrozenMap()
    """Source → ``{"environment": …, "version": …}``: which version of another environment's table is read."""

    @field_validator("run_id")
    @classmethod
    def _is_uuid(cls, value: str) -> str:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            raise DefinitionError(
                "bad-run-id",
                f"a run's id is a UUID, not {value!r}",
                hint="leave it out, and one is made; another system's name of the run is its external_id",
            ) from None

    @field_validator("environment", "project", "pipeline_id")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        if not _SAFE.fullmatch(value):
            raise DefinitionError(
                "bad-id",
                f"{value!r} cannot be the name of a run's environment, project or pipeline",
                hint="letters, digits, '_', '-' and '.', the first neither '-' nor '.'",
            )
        return value

    @property
    def partition(self) -> Partition | None:
        """The partition that the run is for; of a range its first."""
        if self.partition_key is None or self.partition_grain is None:
            return None
        return Partition.parse(self.partition_key, self.partition_grain, self.timezone)

    @property
    def last_partition(self) -> Partition | None:
        """The last partition that the run is for; of one that is no range its only one."""
        first = self.partition
        if first is None or self.last_partition_key is None:
            return first
        return Partition.parse(self.last_partition_key, first.grain, self.timezone)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions that the run is for, in order; empty where it has none."""
        first = self.partition
        if first is None or self.last_partition_key is None:
            return (first,) if first else ()
        last = self.last_partition
        return tuple(partitions_between(first, last)) if last else ()

    @property
    def partition_text(self) -> str:
        """The key, ``first..last`` of a range, or ``-`` where there is none."""
        first = self.partition_key or "-"
        return f"{first}..{self.last_partition_key}" if self.last_partition_key else first

    def facts(self) -> dict[str, Any]:
        """Return what templates may name, by name; see :mod:`aiflow_sdk.variables`."""
        first, last = self.partition, None
        if first is not None and self.last_partition_key is not None:
            last = Partition.parse(self.last_partition_key, first.grain, self.timezone)
        return run_facts(
            first, run_id=self.run_id, pipeline_id=self.pipeline_id, params=self.params, last_partition=last
        )

    def write_key(self, node_id: str) -> str:
        """Return the write's identity without its generation: environment, pipeline, sink and partition."""
        return f"aiflow:{self.environment}/{self.project}/{self.pipeline_id}/{node_id}/{self.partition_text}"

    def idempotency_key(self, node_id: str) -> str:
        """Return the write's identity as 32 hexadecimal digits: the same for every attempt of one execution."""
        text = canonical_json([self.write_key(node_id), self.generation])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Return the run's document: canonical JSON with its version, every value spelled out; see :func:`read_run`."""
        return canonical_json({"run_version": RUN_VERSION, **self.to_full_dict()})


def read_run(document: str | bytes | Mapping[str, Any]) -> Run:
    """Return the run that ``document`` (JSON text or its data) describes, whichever version wrote it.

    Raises ``DocumentError`` when it is no such document or a newer aiflow wrote it.
    """
    data = upgrade_document(document, "run_version", RUN_VERSION, RUN_UPGRADES, "run")
    try:
        return Run.model_validate(data)
    except ValidationError as error:
        raise invalid_document("run", error) from error


def run_schema() -> dict[str, Any]:
    """Return the JSON Schema of a run document, as published in ``docs/schemas``."""
    return json_schema(Run, "run_version", RUN_VERSION)


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
