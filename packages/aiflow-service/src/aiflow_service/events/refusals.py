"""What was refused: kept with its reason, the same thing once, and so much of it that a flood drives out the oldest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.database.bulk import insert_rows, select_in, update_rows
from aiflow_service.database.compression import compress, decompress
from aiflow_service.database.connection import Writing
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import refusals

MAX_KEPT_BYTES = 1024 * 1024
"""Of one: of what is longer the beginning is kept, which cannot be replayed."""
MAX_KEPT = 20_000
"""How many are kept."""
_BEGINNING_BYTES = 16_384


class RefusedEvent(Struct):
    """Something that was refused; ``raw`` as it came, ``size`` of all of it."""

    team_id: int
    digest: bytes
    code: str
    reason: str
    place: str | None
    moment: int
    size: int
    raw: bytes


def write_refusals(writing: Writing, refused: Sequence[RefusedEvent]) -> dict[bytes, int]:
    """Store what was refused and return the number of each, by its digest."""
    numbers: dict[bytes, int] = {}
    if not refused:
        return numbers
    times: dict[bytes, int] = {}
    last = {}
    for one in refused:
        times[one.digest] = times.get(one.digest, 0) + 1
        last[one.digest] = one
    statement = sa.select(refusals.c.digest, refusals.c.id, refusals.c.times)
    changed = []
    for row in select_in(writing.connection, statement, refusals.c.digest, last):
        one = last.pop(bytes(row.digest))
        numbers[one.digest] = row.id
        changed.append(
            (row.id, one.code, _text(one.reason), _text(one.place), one.moment, row.times + times[one.digest])
        )
    update_rows(writing, refusals, ("id", "code", "reason", "place", "last_at", "times"), changed)
    rows = []
    for digest, one in sorted(last.items()):
        is_whole = one.size == len(one.raw) <= MAX_KEPT_BYTES
        body = compress(one.raw if is_whole else one.raw[:_BEGINNING_BYTES])
        numbers[digest] = number = writing.number("refusals")
        rows.append(
            (
                *(number, digest, one.team_id, one.code, _text(one.reason), _text(one.place)),
                *(one.moment, one.moment, times[digest], one.size, int(is_whole), body),
            )
        )
    names = (
        "id",
        "digest",
        "team_id",
        "code",
        "reason",
        "place",
        "first_at",
        "last_at",
        "times",
        "size",
        "is_whole",
        "body",
    )
    insert_rows(writing, refusals, names, rows)
    oldest = writing.last_number("refusals") - MAX_KEPT
    if rows and oldest > 0:
        writing.connection.execute(refusals.delete().where(refusals.c.id <= oldest))
    return numbers


def list_refusals(
    connection: Connection, scope: Scope, *, before: int | None, limit: int, code: str | None = None
) -> tuple[list[dict[str, Any]], int | None]:
    """Return what was refused, the newest first, and where to go on."""
    statement = sa.select(*(column for column in refusals.c if column.name not in ("body", "digest")))
    statement = statement.where(scope.sees(refusals.c.team_id)).order_by(refusals.c.id.desc()).limit(limit + 1)
    if before is not None:
        statement = statement.where(refusals.c.id < before)
    if code is not None:
        statement = statement.where(refusals.c.code == code)
    rows = connection.execute(statement).all()
    return [_told(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None


def refused_body(connection: Connection, scope: Scope, number: int) -> tuple[bytes, bool] | None:
    """Return what was refused and whether it is all of it; None where there is none that the caller sees."""
    statement = sa.select(refusals.c.body, refusals.c.is_whole)
    row = connection.execute(statement.where(refusals.c.id == number, scope.sees(refusals.c.team_id))).first()
    return None if row is None else (decompress(row.body), bool(row.is_whole))


def team_of_refusal(connection: Connection, scope: Scope, number: int) -> int | None:
    """Return whose something is that was refused; None where there is none that the caller sees."""
    statement = sa.select(refusals.c.team_id).where(refusals.c.id == number, scope.sees(refusals.c.team_id))
    found: int | None = connection.execute(statement).scalar()
    return found


def mark_replayed(writing: Writing, number: int, moment: int) -> None:
    """Note that what was refused has been taken since."""
    writing.connection.execute(refusals.update().where(refusals.c.id == number).values(replayed_at=moment))


def _told(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "code": row.code,
        "reason": row.reason,
        "place": row.place,
        "first_at": moment_text(row.first_at),
        "last_at": moment_text(row.last_at),
        "times": row.times,
        "size": row.size,
        "is_whole": bool(row.is_whole),
        "replayed_at": moment_text(row.replayed_at),
    }


def _text(value: str | None) -> str | None:
    return None if value is None else value.replace("\0", "�").encode("utf-8", "replace").decode()
