"""Run events in the form of OpenLineage 2-0-2 (openlineage.io/spec/2-0-2/OpenLineage.json)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

EventType: TypeAlias = Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]
Facets: TypeAlias = Mapping[str, Mapping[str, Any]]

PRODUCER = "urn:aiflow:sdk"
"""The URI that events name as their producer."""

_RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"


@dataclass(frozen=True)
class Dataset:
    """A dataset that a run read or wrote."""

    namespace: str
    name: str
    facets: Facets = field(default_factory=dict)
    measured: Facets = field(default_factory=dict)
    """Facets about this run's reading or writing: ``inputFacets`` or ``outputFacets``."""


def run_event(
    event_type: EventType,
    *,
    run_id: str,
    job_namespace: str,
    job_name: str,
    time: datetime | None = None,
    run_facets: Facets | None = None,
    job_facets: Facets | None = None,
    inputs: Sequence[Dataset] = (),
    outputs: Sequence[Dataset] = (),
) -> dict[str, Any]:
    """Return a run event, JSON-ready. ``run_id`` is a UUID; ``time`` (now) is written in UTC with microseconds."""
    moment = (time or datetime.now(UTC)).astimezone(UTC)
    return {
        "eventType": event_type,
        "eventTime": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "producer": PRODUCER,
        "schemaURL": _RUN_EVENT,
        "run": {"runId": run_id, "facets": dict(run_facets or {})},
        "job": {"namespace": job_namespace, "name": job_name, "facets": dict(job_facets or {})},
        "inputs": [_dataset(one, "inputFacets") for one in inputs],
        "outputs": [_dataset(one, "outputFacets") for one in outputs],
    }


def job_run_id(run_id: str, *parts: object) -> str:
    """Return the UUID (version 5) of a part of a run, such as one attempt of a task: the same whoever computes it."""
    return str(uuid.uuid5(uuid.UUID(run_id), "/".join(map(str, parts))))


def _dataset(dataset: Dataset, measured: str) -> dict[str, Any]:
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "facets": dict(dataset.facets),
        measured: dict(dataset.measured),
    }
