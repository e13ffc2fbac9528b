"""Teams, their members, and what they claim."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access.changes import Change, record
from aiflow_service.access.roles import Role
from aiflow_service.access.scope import Caller, Denied, Scope, Unseen
from aiflow_service.database import Writing, moment_text, now
from aiflow_service.database.tables import claims, memberships, principals, teams

GIVEN, BY_GROUPS = "given", "groups"


class Taken(Exception):  # noqa: N818 it is an answer
    """There is one of this name already."""


def find_team(connection: Connection, scope: Scope, name: str) -> int:
    """Return a team's id. Raises :class:`Unseen` where there is none that the caller is in."""
    statement = sa.select(teams.c.id).where(teams.c.name == name, scope.sees(teams.c.id))
    found: int | None = connection.execute(statement).scalar()
    if found is None:
        raise Unseen("team")
    return found


def any_team(connection: Connection, scope: Scope, name: str) -> int:
    """Return a team's id, one's own or not: for an owner who names whom a grant is for. Raises :class:`Unseen`."""
    if not any(scope.may(Role.OWNER, team_id) for team_id in (None, *scope.roles)):
        return find_team(connection, scope, name)
    found: int | None = connection.execute(sa.select(teams.c.id).where(teams.c.name == name)).scalar()
    if found is None:
        raise Unseen("team")
    return found


def list_teams(connection: Connection, scope: Scope, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return the caller's teams, in the order in which they were made."""
    statement = sa.select(teams).where(scope.sees(teams.c.id), teams.c.id > after).order_by(teams.c.id).limit(limit)
    return [tell_team(scope, row) for row in connection.execute(statement)]


def tell_team(scope: Scope, row: Any) -> dict[str, Any]:
    """Return a team as it is answered, with the caller's role in it."""
    role = scope.role_in(row.id)
    return {
        "id": row.id,
        "name": row.name,
        "created_at": moment_text(row.created_at),
        "role": role.label if role else None,
    }


def make_team(writing: Writing, scope: Scope, name: str) -> int:
    """Make a team and return its id. Raises :class:`Taken`, :class:`Denied`."""
    scope.require_unlimited(Role.ADMIN, None)
    if writing.connection.execute(sa.select(teams.c.id).where(teams.c.name == name)).scalar() is not None:
        raise Taken(f"there is a team '{name}' already")
    number = writing.number("teams")
    writing.connection.execute(teams.insert().values(id=number, name=name, created_at=now()))
    record(writing, Change(scope.caller, "team.made", name, number))
    return number


def list_members(connection: Connection, team_id: int, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return the members of a team, each once for each source of a role."""
    statement = (
        sa.select(memberships, principals.c.kind, principals.c.name, principals.c.issuer, principals.c.subject)
        .join(principals, principals.c.id == memberships.c.principal_id)
        .where(memberships.c.team_id == team_id, memberships.c.id > after)
        .order_by(memberships.c.id)
        .limit(limit)
    )
    return [
        {
            "id": row.id,
            "principal": row.principal_id,
            "kind": row.kind,
            "name": row.name,
            "issuer": row.issuer or None,
            "subject": row.subject,
            "role": Role(row.role).label,
            "source": row.source,
            "since": moment_text(row.since),
        }
        for row in connection.execute(statement)
    ]


def set_member(writing: Writing, scope: Scope, team_id: int, principal_id: int, role: Role | None) -> None:
    """Give a principal a role in a team, or with None take it away; what its groups give it stays.

    An owner gives and takes roles up to owner, an administrator every one. Raises :class:`Denied`, :class:`Unseen`.
    """
    mine = (
        (memberships.c.principal_id == principal_id)
        & (memberships.c.team_id == team_id)
        & (memberships.c.source == GIVEN)
    )
    before = writing.connection.execute(sa.select(memberships.c.role).where(mine)).scalar()
    highest = max(role or Role.VIEWER, Role(before or Role.VIEWER))
    scope.require_unlimited(max(Role.OWNER, highest), team_id)
    # Another team's service account is not to be seen here: a token of it is for that team alone.
    is_anothers = (principals.c.kind == "service") & ~principals.c.subject.startswith(f"{team_id}/")
    taken = sa.select(principals.c.name).where(principals.c.id == principal_id)
    if before is None:
        taken = taken.where(~is_anothers)
    known = writing.connection.execute(taken).scalar()
    if known is None or (role is None and before is None):
        raise Unseen("member")
    if role is None:
        writing.connection.execute(memberships.delete().where(mine))
    elif before is None:
        give_role(writing, principal_id, team_id, role, GIVEN)
    else:
        writing.connection.execute(memberships.update().where(mine).values(role=int(role)))
    told = {"role": role.label if role else None, "before": Role(before).label if before else None}
    record(writing, Change(scope.caller, "member.set", known, team_id, told))


def give_role(writing: Writing, principal_id: int, team_id: int | None, role: Role, source: str) -> None:
    """Store that a principal has a role in a team, or in every team (None), which it has not from this source yet."""
    row = {"principal_id": principal_id, "team_id": team_id, "role": int(role), "source": source, "since": now()}
    writing.connection.execute(memberships.insert().values(id=writing.number("memberships"), **row))


def roles_of(connection: Connection, principal_id: int) -> tuple[dict[int, Role], Role | None]:
    """Return a principal's roles by team, and its role in every team."""
    roles: dict[int, Role] = {}
    everywhere: Role | None = None
    statement = sa.select(memberships.c.team_id, memberships.c.role).where(memberships.c.principal_id == principal_id)
    for team_id, stored in connection.execute(statement):
        role = Role(stored)
        if team_id is None:
            everywhere = max(role, everywhere or role)
        else:
            roles[team_id] = max(role, roles.get(team_id, role))
    return roles, everywhere


def make_principal(writing: Writing, kind: str, issuer: str, subject: str, name: str) -> int:
    """Find or make a principal and return its id."""
    statement = sa.select(principals.c.id, principals.c.name)
    row = writing.connection.execute(
        statement.where(principals.c.issuer == issuer, principals.c.subject == subject)
    ).first()
    if row is not None:
        if row.name != name:
            writing.connection.execute(principals.update().where(principals.c.id == row.id).values(name=name))
        return int(row.id)
    number = writing.number("principals")
    values = {"id": number, "kind": kind, "issuer": issuer, "subject": subject, "name": name, "created_at": now()}
    writing.connection.execute(principals.insert().values(**values))
    return number


def replace_group_roles(
    writing: Writing, principal_id: int, roles: dict[str, Role], everywhere: Role | None, caller: Caller
) -> None:
    """Store the roles that a principal's groups give it, by the team's name; teams that are absent are made."""
    by_id: dict[int | None, Role] = {}
    for name, role in sorted(roles.items()):
        team_id = writing.connection.execute(sa.select(teams.c.id).where(teams.c.name == name)).scalar()
        if team_id is None:
            team_id = writing.number("teams")
            writing.connection.execute(teams.insert().values(id=team_id, name=name, created_at=now()))
            record(writing, Change(caller, "team.made", name, team_id, {"why": "a group names it"}))
        by_id[team_id] = role
    if everywhere is not None:
        by_id[None] = everywhere
    mine = (memberships.c.principal_id == principal_id) & (memberships.c.source == BY_GROUPS)
    stored = writing.connection.execute(sa.select(memberships.c.team_id, memberships.c.role).where(mine))
    before = {row.team_id: Role(row.role) for row in stored}
    if before == by_id:
        return
    writing.connection.execute(memberships.delete().where(mine))
    for number, role in by_id.items():
        give_role(writing, principal_id, number, role, BY_GROUPS)
    for changed in before.keys() | by_id.keys():
        old, new = before.get(changed), by_id.get(changed)
        if old != new:
            told = {"role": new.label if new else None, "before": old.label if old else None, "source": BY_GROUPS}
            record(writing, Change(caller, "member.set", caller.name, changed, told))


def list_claims(connection: Connection, scope: Scope, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return what the caller's teams claim."""
    statement = (
        sa.select(claims, teams.c.name.label("team"))
        .join(teams, teams.c.id == claims.c.team_id)
        .where(scope.sees(claims.c.team_id), claims.c.id > after)
        .order_by(claims.c.id)
        .limit(limit)
    )
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "name": row.name,
            "team": row.team,
            "created_at": moment_text(row.created_at),
        }
        for row in connection.execute(statement)
    ]


def make_claim(writing: Writing, scope: Scope, kind: str, name: str, team_id: int) -> int:
    """Say that a project or the namespaces that begin so belong to a team. Raises :class:`Taken`, :class:`Denied`."""
    scope.require_unlimited(Role.ADMIN, None)
    there = sa.select(claims.c.id).where(claims.c.kind == kind, claims.c.name == name)
    if writing.connection.execute(there).scalar() is not None:
        raise Taken(f"the {kind} '{name}' is claimed already")
    number = writing.number("claims")
    writing.connection.execute(
        claims.insert().values(id=number, kind=kind, name=name, team_id=team_id, created_at=now())
    )
    _count_change(writing)
    record(writing, Change(scope.caller, "claim.made", f"{kind} {name}", team_id))
    return number


def drop_claim(writing: Writing, scope: Scope, claim_id: int) -> None:
    """Take a claim back; what came in under it stays the team's. Raises :class:`Unseen`, :class:`Denied`."""
    row = writing.connection.execute(
        sa.select(claims).where(claims.c.id == claim_id, scope.sees(claims.c.team_id))
    ).first()
    if row is None:
        raise Unseen("claim")
    scope.require_unlimited(Role.ADMIN, None)
    writing.connection.execute(claims.delete().where(claims.c.id == claim_id))
    _count_change(writing)
    record(writing, Change(scope.caller, "claim.dropped", f"{row.kind} {row.name}", row.team_id))


class Claims:
    """All claims, as a writer remembers them; :meth:`refresh` reads them again where they have changed."""

    def __init__(self) -> None:
        self._version = -1
        self._projects: dict[str, int] = {}
        self._namespaces: list[tuple[str, int]] = []

    def refresh(self, writing: Writing) -> None:
        """Read the claims, unless none has changed, here or at another replica."""
        version = writing.last_number("claim_changes")
        if version == self._version:
            return
        rows = list(writing.connection.execute(sa.select(claims.c.kind, claims.c.name, claims.c.team_id)))
        self._projects = {row.name: row.team_id for row in rows if row.kind == "project"}
        named = [(row.name, row.team_id) for row in rows if row.kind == "namespace"]
        self._namespaces = sorted(named, key=lambda one: -len(one[0]))
        self._version = version

    def team_of(self, namespace: str, project: str | None = None) -> int | None:
        """Return the team that claims a project, or the longest beginning of a namespace."""
        if project is not None and project in self._projects:
            return self._projects[project]
        return next((team_id for begin, team_id in self._namespaces if namespace.startswith(begin)), None)


def claiming_team(connection: Connection, namespace: str, project: str | None = None) -> int | None:
    """Return the team that claims a project, or the longest beginning of a namespace; as :meth:`Claims.team_of`."""
    begins = sa.func.substr(sa.literal(namespace), 1, sa.func.length(claims.c.name)) == claims.c.name
    mine = (claims.c.kind == "namespace") & begins
    if project is not None:
        mine |= (claims.c.kind == "project") & (claims.c.name == project)
    statement = sa.select(claims.c.team_id).where(mine)
    statement = statement.order_by(claims.c.kind.desc(), sa.func.length(claims.c.name).desc()).limit(1)
    found: int | None = connection.execute(statement).scalar()
    return found


def _count_change(writing: Writing) -> None:
    writing.number("claim_changes")


__all__ = [
    "BY_GROUPS",
    "GIVEN",
    "Claims",
    "Denied",
    "Taken",
    "any_team",
    "claiming_team",
    "drop_claim",
    "find_team",
    "give_role",
    "list_claims",
    "list_members",
    "list_teams",
    "make_claim",
    "make_principal",
    "make_team",
    "replace_group_roles",
    "roles_of",
    "set_member",
    "tell_team",
]
