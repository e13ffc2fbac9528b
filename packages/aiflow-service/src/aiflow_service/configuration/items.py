"""One connection or variable: changed, listed, told with all its versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_sdk.config import secret_problems
from aiflow_service.access import Scope
from aiflow_service.audit import Caller, Entry, record
from aiflow_service.database import Writing
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import configuration_items as items
from aiflow_service.database.tables import teams

Kind = Literal["connection", "variable"]
_ENCODER = msgspec.json.Encoder(order="deterministic")


class LiteralSecret(Exception):  # noqa: N818 it is an answer
    """A value holds what looks like a secret; the message names the field and does not show it."""


class Conflict(Exception):  # noqa: N818 it is an answer
    """Somebody else has changed the item meanwhile."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the newest version is {version}")
        self.version = version


def change_item(
    writing: Writing,
    team_id: int,
    environment: str,
    kind: Kind,
    name: str,
    value: Any,
    moment: int,
    *,
    caller: Caller,
    after: int | None = None,
) -> int:
    """Write the next version of an item and return its number; None as the value removes it.

    The only place where one is changed, and recorded by whom. The same value again is no new version. ``after``: the
    version that is meant to be the newest now, 0 for none. Raises :class:`LiteralSecret`, :class:`Conflict`.
    """
    for problem in secret_problems({name: value}, where_it_stands="the service"):
        raise LiteralSecret(f"{problem.message}; {problem.hint}")
    mine = (items.c.team_id == team_id) & (items.c.environment == environment)
    mine &= (items.c.kind == kind) & (items.c.name == name)
    newest = writing.connection.execute(sa.select(items).where(mine).order_by(items.c.version.desc()).limit(1)).first()
    version = newest.version if newest else 0
    if after is not None and after != version:
        raise Conflict(version)
    data = None if value is None else _ENCODER.encode(value)
    before = None if newest is None or newest.value is None else bytes(newest.value)
    if data == before:
        return version
    writing.connection.execute(
        items.insert().values(
            id=writing.number("configuration_items"),
            team_id=team_id,
            environment=environment,
            kind=kind,
            name=name,
            version=version + 1,
            value=data,
            changed_at=moment,
        )
    )
    action = f"{kind}.removed" if value is None else f"{kind}.set"
    facts = {"version": version + 1}  # the value stands in that version, and nobody need guess whether it is a secret
    record(writing, Entry(caller, action, kind, name, team_id=team_id, environment=environment, details=facts))
    return version + 1


def list_items(
    connection: Connection,
    scope: Scope,
    environment: str,
    kind: Kind | None,
    team_id: int | None = None,
    *,
    after: int,
    limit: int,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return what holds in an environment, in the order of its last change, and where to go on."""
    newest = (
        sa.select(sa.func.max(items.c.id))
        .where(items.c.environment == environment, scope.sees(items.c.team_id))
        .group_by(items.c.team_id, items.c.kind, items.c.name)
    )
    statement = _selected(scope).where(items.c.id.in_(newest), items.c.value.is_not(None), items.c.id > after)
    if team_id is not None:
        statement = statement.where(items.c.team_id == team_id)
    if kind is not None:
        statement = statement.where(items.c.kind == kind)
    rows = connection.execute(statement.order_by(items.c.id).limit(limit + 1)).all()
    return [_told(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None


def find_item(
    connection: Connection, scope: Scope, team_id: int, environment: str, kind: Kind, name: str
) -> dict[str, Any] | None:
    """Return the newest version of an item; None where there is none, or it was removed."""
    rows = connection.execute(_versions(scope, team_id, environment, kind, name).limit(1)).all()
    return _told(rows[0]) if rows and rows[0].value is not None else None


def list_versions(
    connection: Connection,
    scope: Scope,
    team_id: int,
    environment: str,
    kind: Kind,
    name: str,
    *,
    before: int | None,
    limit: int,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the versions of an item, the newest first, and where to go on."""
    statement = _versions(scope, team_id, environment, kind, name)
    if before is not None:
        statement = statement.where(items.c.id < before)
    rows = connection.execute(statement.limit(limit + 1)).all()
    return [_told(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None


def _versions(scope: Scope, team_id: int, environment: str, kind: Kind, name: str) -> sa.Select[Any]:
    mine = (items.c.team_id == team_id) & (items.c.environment == environment)
    mine &= (items.c.kind == kind) & (items.c.name == name)
    return _selected(scope).where(mine).order_by(items.c.id.desc())


def _selected(scope: Scope) -> sa.Select[Any]:
    joined = sa.select(items, teams.c.name.label("team")).join(teams, teams.c.id == items.c.team_id)
    return joined.where(scope.sees(items.c.team_id))


def _told(row: Any) -> dict[str, Any]:
    return {
        "team": row.team,
        "environment": row.environment,
        "kind": row.kind,
        "name": row.name,
        "version": row.version,
        "value": None if row.value is None else msgspec.Raw(bytes(row.value)),
        "changed_at": moment_text(row.changed_at),
    }
