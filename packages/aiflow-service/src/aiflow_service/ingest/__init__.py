"""Takes events in: unpacks requests, collects what waits into groups, writes each group in one transaction."""

from aiflow_service.ingest.body import split_batch, unpack
from aiflow_service.ingest.declaring import declare_release
from aiflow_service.ingest.group import GroupWriter, Outcome, Submission
from aiflow_service.ingest.sender import Sender
from aiflow_service.ingest.writer import EventWriter, Overloaded, Unwritable

__all__ = [
    "EventWriter",
    "GroupWriter",
    "Outcome",
    "Overloaded",
    "Sender",
    "Submission",
    "Unwritable",
    "declare_release",
    "split_batch",
    "unpack",
]
