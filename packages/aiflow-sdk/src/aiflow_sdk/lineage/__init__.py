"""What is told of a run, whoever does its tasks: OpenLineage events of what happens, and where they lie until heard."""

from aiflow_sdk.lineage.columns import column_facets
from aiflow_sdk.lineage.records import RECORDS, event_of_record
from aiflow_sdk.lineage.spooled import (
    AttemptMark,
    RunSpool,
    begin_hearing,
    end_open,
    ends_with,
    is_heard,
    open_starts,
    position_in,
    position_of,
    receiver_in,
    refusals_of,
    settle,
    spools_below,
    worker_home,
    worker_spools,
)
from aiflow_sdk.lineage.story import EngineVersion, Lineage

__all__ = [
    "RECORDS",
    "AttemptMark",
    "EngineVersion",
    "Lineage",
    "RunSpool",
    "begin_hearing",
    "column_facets",
    "end_open",
    "ends_with",
    "event_of_record",
    "is_heard",
    "open_starts",
    "position_in",
    "position_of",
    "receiver_in",
    "refusals_of",
    "settle",
    "spools_below",
    "worker_home",
    "worker_spools",
]
