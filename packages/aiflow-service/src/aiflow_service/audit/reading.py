"""Searches, exports and verifies the audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from aiflow_sdk.audit import (
    CHECKPOINT_SIGNED,
    DATABASE_FILLED,
    AuditRow,
    Checkpoint,
    Verdict,
    canonical_details,
    told_checkpoint,
    verify_chain,
)
from aiflow_service.database import MICROSECONDS, moment_text
from aiflow_service.database.tables import audit, counters

_BLOCK = 2_000
_OPTIONAL = frozenset({"team_id", "team", "environment", "origin", "trace_id"})
_PYTHON = {sa.BigInteger: int, sa.Integer: int, sa.Text: str, sa.LargeBinary: bytes}
_KINDS = frozenset(
    product(
        *(
            (_PYTHON[type(column.type)], type(None)) if column.name in _OPTIONAL else (_PYTHON[type(column.type)],)
            for column in audit.c
        )
    )
)
"""Of the values that rows have. SQLite keeps whatever it is given, and whoever tampers may give it anything."""


class Sight(Protocol):
    """What a caller sees: the scope that access gives, which stands above this package."""

    def sees(self, team_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Return the condition that a row of the team in this column is visible."""


@dataclass(frozen=True)
class AuditFilter:
    """Which rows; recorded between two moments (the second excluded)."""

    actor: str | None = None
    action: str | None = None
    """An action, or a noun that stands for all of its actions."""
    object_kind: str | None = None
    object_name: str | None = None
    team: str | None = None
    environment: str | None = None
    result: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no row is left out."""
        return self == AuditFilter()


def list_entries(
    connection: Connection,
    scope: Sight,
    wanted: AuditFilter,
    *,
    behind: int | None,
    limit: int,
    oldest_first: bool = False,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return rows, the newest first or the oldest, those behind a place, and where to go on."""
    order = audit.c.seq if oldest_first else audit.c.seq.desc()
    statement = _selected(scope, wanted).order_by(order).limit(limit + 1)
    if behind is not None:
        statement = statement.where(audit.c.seq > behind if oldest_first else audit.c.seq < behind)
    rows = connection.execute(statement).all()
    return [_told(row) for row in rows[:limit]], rows[limit - 1].seq if len(rows) > limit else None


def export_entries(
    connection: Connection, scope: Sight, wanted: AuditFilter, *, behind: int | None = None, limit: int | None = None
) -> Iterator[AuditRow]:
    """Yield rows in the order in which they were recorded, those behind a place, a few at a time."""
    statement = _selected(scope, wanted).order_by(audit.c.seq).limit(limit)
    return _streamed(connection, statement if behind is None else statement.where(audit.c.seq > behind))


def verify_entries(connection: Connection, checkpoints: Sequence[Checkpoint], *, begins_at: int = 1) -> Verdict:
    """Check the whole chain, or what stands from a row on, against itself and checkpoints."""
    # Asked for first: rows that come meanwhile are no fewer.
    counted = sa.select(counters.c.value).where(counters.c.name == "audit")
    ends_at = connection.execute(counted).scalar() or 0
    statement = sa.select(audit).order_by(audit.c.seq)
    if begins_at > 1:  # else what somebody has put before the first row is read too
        statement = statement.where(audit.c.seq >= begins_at)
    try:
        return verify_chain(_streamed(connection, statement), checkpoints, begins_at=begins_at, ends_at=ends_at)
    except OperationalError as error:
        if "Could not decode to UTF-8" not in str(error.orig):
            raise
    with _any_text(connection):  # which takes twice as long
        return verify_chain(_streamed(connection, statement), checkpoints, begins_at=begins_at, ends_at=ends_at)


@contextmanager
def _any_text(connection: Connection) -> Iterator[None]:
    """Let SQLite give texts that are none, as half characters: no row that was recorded holds one."""
    driver: Any = connection.connection.dbapi_connection
    driver.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = str


def told_checkpoint_number(connection: Connection) -> int:
    """Return the number of the newest checkpoint that the chain tells of, 0 where it tells of none."""
    telling = sa.select(audit).where(audit.c.action.in_((CHECKPOINT_SIGNED, DATABASE_FILLED)))
    for row in connection.execute(telling.order_by(audit.c.seq.desc()).limit(_BLOCK)):
        if (number := told_checkpoint(row_of(row))) is not None:
            return number
    return 0


def _streamed(connection: Connection, statement: sa.Select[Any]) -> Iterator[AuditRow]:
    found = connection.execute(statement.execution_options(stream_results=True, max_row_buffer=_BLOCK))
    for block in found.partitions(_BLOCK):
        yield from map(row_of, block)


@lru_cache(maxsize=1024)
def _second_text(seconds: int) -> str:
    return (moment_text(seconds * MICROSECONDS) or "")[:19]


def row_of(row: Any) -> AuditRow:
    """Return a row of the table as the chain has it; one that none of ours can be as one that no hash fits."""
    if tuple(map(type, row)) not in _KINDS:
        return _foreign(row)
    return AuditRow(row[0], _moment_text(row[1]), *row[2:])


def _moment_text(moment: int) -> str:
    seconds, micros = divmod(moment, MICROSECONDS)
    try:
        return f"{_second_text(seconds)}.{micros:06}Z"
    except OverflowError:
        return f"no moment: {moment}"


def _foreign(row: Any) -> AuditRow:
    """Return a row of which somebody has made values of another kind: these are told as they would be written."""
    seq, moment, *texts, details, _, _ = row
    at = _moment_text(moment) if type(moment) is int else f"no moment: {moment!r}"
    told = [one if one is None or type(one) in (int, str) else repr(one) for one in texts]
    return AuditRow._make([seq, at, *told, canonical_details({"unreadable": repr(details)}), b"", b""])


def _selected(scope: Sight, wanted: AuditFilter) -> sa.Select[Any]:
    statement = sa.select(audit).where(scope.sees(audit.c.team_id))
    for column, value in (
        (audit.c.actor, wanted.actor),
        (audit.c.object_kind, wanted.object_kind),
        (audit.c.object_name, wanted.object_name),
        (audit.c.team, wanted.team),
        (audit.c.environment, wanted.environment),
        (audit.c.result, wanted.result),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.action is not None:
        # "/" comes right behind "." in the order of both databases' plain texts.
        is_noun = (audit.c.action >= f"{wanted.action}.") & (audit.c.action < f"{wanted.action}/")
        statement = statement.where((audit.c.action == wanted.action) | is_noun)
    if wanted.since is not None:
        statement = statement.where(audit.c.moment >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(audit.c.moment < wanted.until)
    return statement


def _told(row: Any) -> dict[str, Any]:
    one = row_of(row)
    told = one._asdict()
    return {
        **told,
        "details": msgspec.Raw(one.details.encode()),
        "previous": one.previous.hex(),
        "hash": one.hash.hex(),
    }
