"""Facets: OpenLineage's (openlineage.io/spec/facets) and our own, each as a JSON-ready dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiflow_sdk.events.openlineage import PRODUCER

_SPECIFICATION = "https://openlineage.io/spec/facets"
_OURS = "urn:aiflow:facets:1"


def schema_facet(columns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the ``schema`` of a dataset: name and Arrow type name of each column, in order."""
    return _facet("1-2-0", "SchemaDatasetFacet", fields=[{"name": name, "type": kind} for name, kind in columns])


Dependency = tuple[str, str, str, Sequence[tuple[str, str]]]
"""Namespace, name and column of an input, and type and subtype of each way in which it is used."""


def column_lineage_facet(
    fields: Mapping[str, Sequence[Dependency]], dataset: Sequence[Dependency] = ()
) -> dict[str, Any]:
    """Return the ``columnLineage`` of a dataset: what each column comes from, and what decides which rows there are."""
    told: dict[str, Any] = {name: {"inputFields": list(map(_input_field, found))} for name, found in fields.items()}
    return _facet("1-2-0", "ColumnLineageDatasetFacet", fields=told, dataset=list(map(_input_field, dataset)))


def input_statistics_facet(rows: int | None, size: int | None) -> dict[str, Any]:
    """Return the ``inputStatistics`` of a dataset: rows and bytes read, as far as known."""
    return _facet("1-0-0", "InputStatisticsInputDatasetFacet", **_known(rowCount=rows, size=size))


def output_statistics_facet(rows: int | None, size: int | None) -> dict[str, Any]:
    """Return the ``outputStatistics`` of a dataset: rows and bytes written, as far as known."""
    return _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", **_known(rowCount=rows, size=size))


def input_subset_facet(locations: Sequence[str]) -> dict[str, Any]:
    """Return the ``subset`` of an input: where the parts lie that were read, where not all of the dataset was."""
    return _subset("InputSubsetInputDatasetFacet", inputCondition=_located(locations))


def output_subset_facet(locations: Sequence[str]) -> dict[str, Any]:
    """Return the ``subset`` of an output: where the parts lie that were written."""
    return _subset("OutputSubsetOutputDatasetFacet", outputCondition=_located(locations))


def dataset_version_facet(version: int | str) -> dict[str, Any]:
    """Return the ``version`` of a dataset: of a Delta table its number as text."""
    return _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=str(version))


def parent_facet(run_id: str, job_namespace: str, job_name: str) -> dict[str, Any]:
    """Return the ``parent`` of a run, which is also the root of the story."""
    run, job = {"runId": run_id}, {"namespace": job_namespace, "name": job_name}
    return _facet("1-2-0", "ParentRunFacet", run=run, job=job, root={"run": run, "job": job})


def nominal_time_facet(start: datetime, end: datetime | None) -> dict[str, Any]:
    """Return the ``nominalTime`` of a run: the half-open interval that its partition stands for."""
    times = _known(nominalStartTime=start.isoformat(), nominalEndTime=end.isoformat() if end else None)
    return _facet("1-0-1", "NominalTimeRunFacet", **times)


def error_facet(message: str, lines: Sequence[str] = ()) -> dict[str, Any]:
    """Return the ``errorMessage`` of a run, with the lines of a traceback."""
    trace = {"stackTrace": "\n".join(lines)} if lines else {}
    return _facet("1-0-1", "ErrorMessageRunFacet", message=message, programmingLanguage="python", **trace)


def processing_engine_facet(name: str, version: str) -> dict[str, Any]:
    """Return the ``processing_engine`` of a run."""
    return _facet("1-1-1", "ProcessingEngineRunFacet", name=name, version=version)


def job_type_facet(job_type: str, *, bounded: bool = True) -> dict[str, Any]:
    """Return the ``jobType`` of a job: ``PIPELINE`` or ``TASK``, batch or streaming."""
    processing = "BATCH" if bounded else "STREAMING"
    return _facet("2-0-4", "JobTypeJobFacet", processingType=processing, integration="AIFLOW", jobType=job_type)


def owner_facet(owner: str) -> dict[str, Any]:
    """Return the ``ownership`` of a job."""
    return _facet("1-0-1", "OwnershipJobFacet", owners=[{"name": owner, "type": "OWNER"}])


def tags_facet(tags: Sequence[str]) -> dict[str, Any]:
    """Return the ``tags`` of a job."""
    return _facet("1-0-0", "TagsJobFacet", tags=[{"key": tag, "value": "true", "source": "AIFLOW"} for tag in tags])


def sql_facet(query: str) -> dict[str, Any]:
    """Return the ``sql`` of a job."""
    return _facet("1-1-0", "SQLJobFacet", query=query)


def own_facet(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a facet of our own, described in ``docs/events.md`` under its name."""
    return {"_producer": PRODUCER, "_schemaURL": f"{_OURS}:{name}", **fields}


def _facet(version: str, name: str, /, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPECIFICATION}/{version}/{name}.json#/$defs/{name}", **fields}


def _subset(name: str, /, **condition: Any) -> dict[str, Any]:
    address = f"{_SPECIFICATION}/1-0-0/BaseSubsetDatasetFacet.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": address, **condition}


def _located(locations: Sequence[str]) -> dict[str, Any]:
    return {"type": "location", "locations": list(locations)}


def _input_field(one: Dependency) -> dict[str, Any]:
    namespace, name, column, ways = one
    told = [{"type": kind, "subtype": subtype} for kind, subtype in ways]
    return {"namespace": namespace, "name": name, "field": column, "transformations": told}


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
