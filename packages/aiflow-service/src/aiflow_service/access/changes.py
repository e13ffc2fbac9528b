"""The door that everything passes which changes who may do what, and every sign-in and denial: into the audit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_service import audit
from aiflow_service.access.scope import Caller
from aiflow_service.audit import Entry
from aiflow_service.audit.entries import Result
from aiflow_service.database import Writing
from aiflow_service.logs import ORIGIN, TRACE_ID

_LOG = logging.getLogger("aiflow_service.access")


@dataclass(frozen=True)
class Change:
    """Something that was done: ``action`` as ``token.made``, ``subject`` what it was done to; never a secret."""

    caller: Caller
    action: str
    subject: str
    team_id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    result: Result = "done"


def record(writing: Writing, change: Change) -> None:
    """Record a change, in the transaction that makes it."""
    audit.record(writing, entry_of(change))
    told = {"action": change.action, "caller": change.caller.name, "subject": change.subject, **change.facts}
    _LOG.info("access", extra={"facts": {**told, "team_id": change.team_id}})


def entry_of(change: Change) -> Entry:
    """Return what the audit keeps of a change, or of a denial, which no transaction carries."""
    noun = change.action.partition(".")[0]
    return Entry(
        audited(change.caller),
        change.action,
        noun,
        change.subject,
        team_id=change.team_id,
        environment=change.caller.environment,
        result=change.result,
        details=change.facts,
    )


def audited(caller: Caller) -> audit.Caller:
    """Return a caller as the audit has it, with what is known of the present request."""
    numbers = {"principal": caller.principal_id, "token": caller.token_id}
    by = {name: number for name, number in numbers.items() if number is not None}
    return audit.Caller(caller.actor, ORIGIN.get(), TRACE_ID.get(), by)
