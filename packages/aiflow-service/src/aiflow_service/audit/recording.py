"""Adds rows to the chain, in the transaction of the change that they tell of."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from aiflow_sdk.audit import GENESIS, AuditRow, chained_hash
from aiflow_service.audit.entries import Entry, stored_details, stored_text
from aiflow_service.database import Writing, moment_text, now
from aiflow_service.database.bulk import insert_rows
from aiflow_service.database.tables import audit, teams

_LOG = logging.getLogger("aiflow_service.audit")
_NAMES = tuple(column.name for column in audit.c)


def record(writing: Writing, *entries: Entry) -> int:
    """Record what is done in this transaction, durable or undone with it; returns the number of the last row.

    Whoever writes is alone (:meth:`~aiflow_service.database.Database.writing`), which makes the rows one chain.
    """
    last = writing.last_number("audit")
    previous = _hash_of(writing, last)
    rows = []
    for entry in entries:
        team = entry.team if entry.team is not None else _team_named(writing, entry.team_id)
        details = {**entry.details, "by": entry.caller.by} if entry.caller.by else entry.details
        moment = now() if entry.moment is None else entry.moment
        row = AuditRow(
            seq=writing.number("audit"),
            at=moment_text(moment) or "",
            actor=stored_text(entry.caller.actor) or "",
            action=entry.action,
            object_kind=entry.object_kind,
            object_name=stored_text(entry.object_name) or "",
            team_id=entry.team_id,
            team=stored_text(team),
            environment=stored_text(entry.environment),
            result=entry.result,
            origin=stored_text(entry.caller.origin),
            trace_id=stored_text(entry.caller.trace_id),
            details=stored_details(details),
            previous=previous,
            hash=b"",
        )
        previous = chained_hash(row)
        rows.append((row.seq, moment, *row[2:14], previous))
    insert_rows(writing, audit, _NAMES, rows)
    return writing.last_number("audit")


def _team_named(writing: Writing, team_id: int | None) -> str | None:
    """Return the name of a team, which the row keeps when the team is gone."""
    if team_id is None:
        return None
    name: str | None = writing.connection.execute(sa.select(teams.c.name).where(teams.c.id == team_id)).scalar()
    return name


def _hash_of(writing: Writing, seq: int) -> bytes:
    if seq == 0:
        return GENESIS
    found = writing.connection.execute(sa.select(audit.c.hash).where(audit.c.seq == seq)).scalar()
    if not isinstance(found, bytes):
        # The work goes on: the gap stays for ever, and whoever verifies sees it.
        _LOG.error("row %d of the audit is gone, or its hash is none", seq)
        return GENESIS
    return found
