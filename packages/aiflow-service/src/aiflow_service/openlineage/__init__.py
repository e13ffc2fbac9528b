"""OpenLineage as it arrives: bytes to a checked, frozen event, or a refusal that says why."""

from aiflow_service.openlineage.events import ColumnSource, DatasetMention, Event, EventKind, Field, RunMention, Schema
from aiflow_service.openlineage.reading import read_event
from aiflow_service.openlineage.refusal import Refusal

__all__ = [
    "ColumnSource",
    "DatasetMention",
    "Event",
    "EventKind",
    "Field",
    "Refusal",
    "RunMention",
    "Schema",
    "read_event",
]
