"""Events: OpenLineage run events and the spool that they lie in before anything else happens to them."""

from aiflow_sdk.events.facets import (
    Dependency,
    column_lineage_facet,
    dataset_version_facet,
    error_facet,
    input_statistics_facet,
    input_subset_facet,
    job_type_facet,
    nominal_time_facet,
    output_statistics_facet,
    output_subset_facet,
    own_facet,
    owner_facet,
    parent_facet,
    processing_engine_facet,
    schema_facet,
    sql_facet,
    tags_facet,
)
from aiflow_sdk.events.openlineage import PRODUCER, Dataset, EventType, job_run_id, run_event
from aiflow_sdk.events.spool import Spool

__all__ = [
    "PRODUCER",
    "Dataset",
    "Dependency",
    "EventType",
    "Spool",
    "column_lineage_facet",
    "dataset_version_facet",
    "error_facet",
    "input_statistics_facet",
    "input_subset_facet",
    "job_run_id",
    "job_type_facet",
    "nominal_time_facet",
    "output_statistics_facet",
    "output_subset_facet",
    "own_facet",
    "owner_facet",
    "parent_facet",
    "processing_engine_facet",
    "run_event",
    "schema_facet",
    "sql_facet",
    "tags_facet",
]
