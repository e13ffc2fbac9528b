"""Events as they came, kept to be given back, and what was refused, kept to be replayed."""

from aiflow_service.events.reading import EventFilter, event_body, list_events
from aiflow_service.events.refusals import (
    RefusedEvent,
    list_refusals,
    mark_replayed,
    refused_body,
    team_of_refusal,
    write_refusals,
)
from aiflow_service.events.writing import EventRow, known_digests, write_events

__all__ = [
    "EventFilter",
    "EventRow",
    "RefusedEvent",
    "event_body",
    "known_digests",
    "list_events",
    "list_refusals",
    "mark_replayed",
    "refused_body",
    "team_of_refusal",
    "write_events",
    "write_refusals",
]
