"""Grants: what one team lets another do with its datasets, until when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access.changes import Change, record
from aiflow_service.access.roles import Role
from aiflow_service.access.scope import Scope, Unseen, is_granted, is_in_force
from aiflow_service.database import Writing, moment_text, now
from aiflow_service.database.tables import claims, datasets, grants, teams


@dataclass(frozen=True)
class Granted:
    """What is granted: a dataset by its name, or all whose name begins so; ``namespace`` None: in whichever."""

    namespace: str | None
    name: str
    is_prefix: bool
    writes: bool
    until: int | None

    @property
    def pattern(self) -> str:
        """The name as people write it: a prefix ends with ``*``."""
        return self.name + "*" if self.is_prefix else self.name


def make_grant(writing: Writing, scope: Scope, from_team: int, to_team: int, granted: Granted) -> int:
    """Let a team read, or read and write, another's datasets. Raises :class:`~.scope.Denied`, :class:`Unseen`."""
    scope.require_unlimited(Role.OWNER, from_team)
    number = writing.number("grants")
    writing.connection.execute(
        grants.insert().values(
            id=number,
            from_team_id=from_team,
            to_team_id=to_team,
            namespace=granted.namespace,
            name=granted.name,
            is_prefix=int(granted.is_prefix),
            writes=int(granted.writes),
            until=granted.until,
            created_at=now(),
            created_by=scope.caller.name,
        )
    )
    told = {"to_team_id": to_team, "access": "write" if granted.writes else "read", "until": moment_text(granted.until)}
    record(writing, Change(scope.caller, "grant.made", granted.pattern, from_team, told))
    return number


def revoke_grant(writing: Writing, scope: Scope, grant_id: int) -> None:
    """End a grant at once, on every replica; again changes nothing. Raises :class:`~.scope.Denied`, :class:`Unseen`."""
    row = writing.connection.execute(sa.select(grants).where(grants.c.id == grant_id, _concerns(scope))).first()
    if row is None:
        raise Unseen("grant")
    scope.require_unlimited(Role.OWNER, row.from_team_id if scope.role_in(row.from_team_id) else row.to_team_id)
    if row.revoked_at is None:
        writing.connection.execute(grants.update().where(grants.c.id == grant_id).values(revoked_at=now()))
        record(writing, Change(scope.caller, "grant.revoked", row.name, row.from_team_id))


def list_grants(
    connection: Connection, scope: Scope, *, after: int, limit: int, grant_id: int | None = None
) -> list[dict[str, Any]]:
    """Return the grants that the caller's teams gave or were given, those that are over too."""
    statement = _selected().where(_concerns(scope), grants.c.id > after).order_by(grants.c.id).limit(limit)
    if grant_id is not None:
        statement = statement.where(grants.c.id == grant_id)
    return [_told(row) for row in connection.execute(statement)]


def effective_grants(connection: Connection, team_id: int) -> dict[str, Any]:
    """Return all that lets a team touch datasets: what it claims itself, and the grants to it that are in force."""
    own = sa.select(claims.c.kind, claims.c.name).where(claims.c.team_id == team_id).order_by(claims.c.id)
    given = _selected().where(grants.c.to_team_id == team_id, is_in_force()).order_by(grants.c.id)
    return {
        "made_at": moment_text(now()),
        "claims": [{"kind": row.kind, "name": row.name} for row in connection.execute(own)],
        "grants": [_told(row) for row in connection.execute(given)],
    }


def givers_of_writes(connection: Connection, team_id: int) -> set[int]:
    """Return the teams that let a team write something of theirs."""
    statement = sa.select(grants.c.from_team_id).where(grants.c.to_team_id == team_id, grants.c.writes == 1)
    return set(connection.execute(statement.where(is_in_force())).scalars())


def may_write(connection: Connection, team_id: int, dataset_id: int) -> bool:
    """Tell whether a dataset's owner lets a team write it."""
    return connection.execute(_MAY_WRITE, {"dataset": dataset_id, "team": team_id}).first() is not None


_MAY_WRITE = sa.select(datasets.c.id).where(
    datasets.c.id == sa.bindparam("dataset"),
    is_granted(datasets, [sa.bindparam("team", type_=sa.BigInteger)], writes=True),
)


def _concerns(scope: Scope) -> sa.ColumnElement[bool]:
    return scope.sees(grants.c.from_team_id) | scope.sees(grants.c.to_team_id)


def _selected() -> sa.Select[Any]:
    giver, taker = teams.alias(), teams.alias()
    return (
        sa.select(grants, giver.c.name.label("from_team"), taker.c.name.label("to_team"))
        .join(giver, giver.c.id == grants.c.from_team_id)
        .join(taker, taker.c.id == grants.c.to_team_id)
    )


def _told(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "from_team": row.from_team,
        "to_team": row.to_team,
        "namespace": row.namespace,
        "dataset": row.name + "*" if row.is_prefix else row.name,
        "access": "write" if row.writes else "read",
        "until": moment_text(row.until),
        "created_at": moment_text(row.created_at),
        "created_by": row.created_by,
        "revoked_at": moment_text(row.revoked_at),
    }
