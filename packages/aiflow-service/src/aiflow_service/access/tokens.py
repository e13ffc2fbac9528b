"""Tokens: random secrets of which only the SHA-256 is stored, narrowed to a team, a role and an environment."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access.changes import Change, record
from aiflow_service.access.roles import Role
from aiflow_service.access.scope import Caller, Denied, Scope, Unseen
from aiflow_service.access.teams import GIVEN, give_role, make_principal, roles_of
from aiflow_service.database import Writing, moment_text, now
from aiflow_service.database.tables import memberships, principals, teams, tokens

PREFIX = "aiflow_"
"""By it scanners of code know a secret that was left lying."""
MACHINE, SESSION = "machine", "session"
_RANDOM_BYTES = 32


@dataclass(frozen=True)
class Narrowing:
    """What a token is for; ``team_id`` None: every team."""

    name: str
    team_id: int | None
    role: Role
    environment: str | None
    expires_at: int


class Made(NamedTuple):
    """A token that was made: its secret is told this once; ``expires_at`` may be sooner than was asked for."""

    id: int
    secret: str
    expires_at: int


def digest_of(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def make_token(writing: Writing, scope: Scope, wanted: Narrowing, account: str | None) -> Made:
    """Make a machine token.

    With ``account`` it acts for this service account of the team, which is made where it is new: that takes an owner,
    and an administrator for an administrator's. Without, it acts for the caller, and never with a greater role; whoever
    calls with a machine token makes tokens for accounts alone, which end with that token, so that one that leaks cannot
    outlive itself.
    A token of one environment makes tokens of this one, for accounts that have the role already.
    Raises :class:`Denied`, :class:`Unseen`.
    """
    if account is None and scope.caller.principal_id is not None and scope.caller.token_id is None:
        scope.require(wanted.role, wanted.team_id)
        principal_id = scope.caller.principal_id
    else:
        scope.require(max(Role.OWNER, wanted.role), wanted.team_id)
        principal_id = _make_account(writing, scope, account or wanted.name, wanted.team_id, wanted.role)
    if scope.caller.environment is not None and wanted.environment != scope.caller.environment:
        where = f"in all environments, and not in {scope.caller.environment} alone"
        raise Denied(scope.caller, wanted.role, None, wanted.team_id, where)
    maker_id = scope.caller.token_id
    if maker_id is not None:
        wanted = replace(wanted, expires_at=min(wanted.expires_at, _end_of(writing.connection, maker_id)))
    number, secret = _store(writing, MACHINE, wanted.name, principal_id, wanted, scope.caller.name, maker_id=maker_id)
    told = {
        "role": wanted.role.label,
        "principal": principal_id,
        "environment": wanted.environment,
        "until": moment_text(wanted.expires_at),
    }
    record(writing, Change(scope.caller, "token.made", f"{number} {wanted.name}", wanted.team_id, told))
    return Made(number, secret, wanted.expires_at)


def make_session(writing: Writing, principal_id: int, name: str, expires_at: int) -> str:
    """Return the secret of a new session of somebody who has signed in; those that are over are forgotten."""
    ended = (tokens.c.expires_at < now()) | tokens.c.revoked_at.is_not(None)
    writing.connection.execute(tokens.delete().where(tokens.c.kind == SESSION, ended))
    _, secret = _store(writing, SESSION, name, principal_id, None, name, expires_at)
    record(writing, Change(Caller(name, "user", principal_id), "session.made", name))
    return secret


def revoke_token(writing: Writing, scope: Scope, token_id: int) -> None:
    """End a token and all that were made with it; again changes nothing. Raises what a stranger is told.

    Whom it acts for may, with a token of one environment only what is of this one; and an owner of its team.
    """
    row = writing.connection.execute(sa.select(tokens).where(tokens.c.id == token_id, _visible(scope))).first()
    if row is None:
        raise Unseen("token")
    is_mine = row.principal_id == scope.caller.principal_id
    if not is_mine or scope.caller.environment not in (None, row.environment):
        scope.require_unlimited(Role.OWNER, row.team_id)
    ended = list(writing.connection.execute(_with_descendants(token_id)))
    writing.connection.execute(tokens.update().where(tokens.c.id.in_(one.id for one in ended)).values(revoked_at=now()))
    for one in ended:
        told = {} if one.id == token_id else {"why": f"token {token_id}, by way of which it was made, was revoked"}
        record(writing, Change(scope.caller, "token.revoked", f"{one.id} {one.name}", one.team_id, told))


def list_tokens(connection: Connection, scope: Scope, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return the tokens that the caller's teams have, and the caller's own; never a secret."""
    statement = (
        sa.select(tokens, principals.c.name.label("principal"), teams.c.name.label("team"))
        .outerjoin(principals, principals.c.id == tokens.c.principal_id)
        .outerjoin(teams, teams.c.id == tokens.c.team_id)
        .where(_visible(scope), tokens.c.id > after)
        .order_by(tokens.c.id)
        .limit(limit)
    )
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "name": row.name,
            "principal": row.principal,
            "team": row.team,
            "role": Role(row.role).label if row.role else None,
            "environment": row.environment,
            "created_at": moment_text(row.created_at),
            "created_by": row.created_by,
            "expires_at": moment_text(row.expires_at),
            "revoked_at": moment_text(row.revoked_at),
            "used_at": moment_text(row.used_at),
        }
        for row in connection.execute(statement)
    ]


def find_bearer(connection: Connection, digest: bytes) -> Any | None:
    """Return the token of this digest with its principal, if it is neither revoked nor over."""
    statement = sa.select(tokens, principals.c.name.label("principal"), principals.c.kind.label("principal_kind"))
    statement = statement.join(principals, principals.c.id == tokens.c.principal_id)
    alive = tokens.c.revoked_at.is_(None) & (tokens.c.expires_at > now())
    return connection.execute(statement.where(tokens.c.digest == digest, alive)).first()


def narrowed_roles(connection: Connection, row: Any) -> tuple[dict[int, Role], Role | None]:
    """Return what the bearer of a token may do: the principal's roles, within what the token is for."""
    roles, everywhere = roles_of(connection, row.principal_id)
    if row.role is None:
        return roles, everywhere
    most = Role(row.role)
    if row.team_id is None:
        return {}, min(most, everywhere) if everywhere else None
    mine = [role for role in (roles.get(row.team_id), everywhere) if role is not None]
    return ({row.team_id: min(most, max(mine))} if mine else {}), None


def _end_of(connection: Connection, token_id: int) -> int:
    """Return when a token is over. Raises :class:`Unseen` where it has just been revoked at another replica."""
    alive = (tokens.c.id == token_id) & tokens.c.revoked_at.is_(None)
    expires_at: int | None = connection.execute(sa.select(tokens.c.expires_at).where(alive)).scalar()
    if expires_at is None:
        raise Unseen("token")
    return expires_at


def _with_descendants(token_id: int) -> sa.Select[Any]:
    """Select a token, those made with it, those made with these and so on, unless they are revoked already."""
    found = sa.select(tokens.c.id).where(tokens.c.id == token_id).cte(recursive=True)
    found = found.union_all(sa.select(tokens.c.id).where(tokens.c.maker_id == found.c.id))
    wanted = sa.select(tokens.c.id, tokens.c.name, tokens.c.team_id).where(tokens.c.revoked_at.is_(None))
    return wanted.where(tokens.c.id.in_(sa.select(found.c.id))).order_by(tokens.c.id)


def _visible(scope: Scope) -> sa.ColumnElement[bool]:
    """A machine token is seen by whom it acts for, and by owners of its team; a session by nobody."""
    mine = tokens.c.principal_id == (scope.caller.principal_id or 0)
    if not scope.may(Role.OWNER, None):
        owned = [team_id for team_id in scope.roles if scope.may(Role.OWNER, team_id)]
        mine = scope.sees(tokens.c.team_id) & (mine | tokens.c.team_id.in_(owned))
    else:
        mine = sa.true()
    return mine & (tokens.c.kind == MACHINE)


def _make_account(writing: Writing, scope: Scope, name: str, team_id: int | None, role: Role) -> int:
    principal_id = make_principal(writing, "service", "", f"{team_id or 0}/{name}", name)
    of_team = memberships.c.team_id.is_(None) if team_id is None else memberships.c.team_id == team_id
    mine = (memberships.c.principal_id == principal_id) & of_team & (memberships.c.source == GIVEN)
    stored = writing.connection.execute(sa.select(memberships.c.role).where(mine)).scalar()
    if stored is not None and stored >= role:
        return principal_id
    # The account may have tokens of other environments, to which its greater role gives more too.
    scope.require_unlimited(max(Role.OWNER, role), team_id)
    if stored is None:
        give_role(writing, principal_id, team_id, role, GIVEN)
    else:
        writing.connection.execute(memberships.update().where(mine).values(role=int(role)))
    told = {"role": role.label, "before": Role(stored).label if stored else None}
    record(writing, Change(scope.caller, "member.set", name, team_id, told))
    return principal_id


def _store(
    writing: Writing,
    kind: str,
    name: str,
    principal_id: int,
    wanted: Narrowing | None,
    by: str,
    expires_at: int = 0,
    maker_id: int | None = None,
) -> tuple[int, str]:
    secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    number = writing.number("tokens")
    writing.connection.execute(
        tokens.insert().values(
            id=number,
            digest=digest_of(secret),
            kind=kind,
            name=name,
            principal_id=principal_id,
            team_id=wanted.team_id if wanted else None,
            role=int(wanted.role) if wanted else None,
            environment=wanted.environment if wanted else None,
            created_at=now(),
            created_by=by,
            expires_at=wanted.expires_at if wanted else expires_at,
            maker_id=maker_id,
        )
    )
    return number, secret
