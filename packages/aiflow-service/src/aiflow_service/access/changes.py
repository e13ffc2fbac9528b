"""The door that everything passes which changes who may do what, and every sign-in and denial."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_service.access.scope import Caller
from aiflow_service.database import Writing

_LOG = logging.getLogger("aiflow_service.access")


@dataclass(frozen=True)
class Change:
    """Something that was done: ``action`` as ``token.made``, ``subject`` what it was done to; never a secret."""

    caller: Caller
    action: str
    subject: str
    team_id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def record(writing: Writing | None, change: Change) -> None:
    """Note a change, in the transaction that makes it; None for what changes nothing (a denial)."""
    told = {"action": change.action, "caller": change.caller.name, "subject": change.subject, **change.facts}
    _LOG.info("access", extra={"facts": {**told, "team_id": change.team_id, "stored": writing is not None}})
