"""The scope of a caller: what is visible, and what may be done. Every function that reads takes one, and a query
without it does not exist: :meth:`Scope.sees` stands in its WHERE. Every route that changes something asks
:meth:`Scope.require`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from aiflow_service.access.roles import Role
from aiflow_service.audit.entries import LOCAL
from aiflow_service.database import now
from aiflow_service.database.protection import SEES_ALL
from aiflow_service.database.tables import dataset_names, datasets, grants, namespaces


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: ``name`` is for people and records, ``principal_id`` is absent in local mode."""

    name: str
    kind: str | None = None
    """As :data:`~aiflow_service.database.tables.principals` has it; None: of whom nobody vouches for."""
    principal_id: int | None = None
    token_id: int | None = None
    environment: str | None = None
    """The only environment that the caller's token may change things in."""

    @property
    def actor(self) -> str:
        """As the audit names the caller: no name that somebody chose can be taken for ``local`` or ``service``."""
        return self.name if self.kind is None else f"{self.kind}:{self.name}"


class Denied(Exception):  # noqa: N818 it is an answer
    """The caller sees the team and may not do this in it: its role is too low."""

    def __init__(
        self, caller: Caller, needed: Role, has: Role | None, team_id: int | None, where: str, within: str = ""
    ) -> None:
        mine = has.label if has else "none"
        super().__init__(f"this takes the role {needed.label} {where}; yours is {mine}{within}")
        self.caller = caller
        self.team_id = team_id


class Unseen(Exception):  # noqa: N818 it is an answer
    """What is asked for is not there, or the caller does not see it: the answer is the same."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller sees and may do: the things of some teams, or of all."""

    team_ids: frozenset[int] | None
    """None: of all teams, as in local mode."""
    roles: Mapping[int, Role] = field(default_factory=dict)
    """By team."""
    everywhere: Role | None = None
    """In every team, at least."""
    caller: Caller = Caller("anonymous")

    def sees(self, team_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Return the condition that a row of the team in this column is visible."""
        if self.team_ids is None:
            return sa.true()
        return team_id.in_(sorted(self.team_ids))

    def sees_dataset(self, table: sa.FromClause = datasets) -> sa.ColumnElement[bool]:
        """Return the condition that a row of ``datasets`` is visible: its team's, or granted under any of its names."""
        if self.team_ids is None:
            return sa.true()
        return self.sees(table.c.team_id) | is_granted(table, sorted(self.team_ids))

    def role_in(self, team_id: int | None) -> Role | None:
        """Return the caller's role in a team, or in every team (``None``)."""
        mine = self.roles.get(team_id) if team_id is not None else None
        if mine is None or self.everywhere is None:
            return mine or self.everywhere
        return max(mine, self.everywhere)

    def may(self, role: Role, team_id: int | None) -> bool:
        """Tell whether the caller has a role, or a greater one, in a team, or in every team (``None``)."""
        mine = self.role_in(team_id)
        return mine is not None and mine >= role

    def require(self, role: Role, team_id: int | None, environment: str | None = None) -> None:
        """Return if the caller has a role, and may change things in an environment where one is given.

        Raises :class:`Unseen` for a stranger's team, else :class:`Denied`.
        """
        if self.may(role, team_id):
            mine = self.caller.environment
            if environment is not None and mine not in (None, environment):
                within = f" in {mine} alone"
                raise Denied(self.caller, role, self.role_in(team_id), team_id, f"in {environment}", within)
            return
        if team_id is not None and self.role_in(team_id) is None:
            raise Unseen("team")
        where = "in this team" if team_id is not None else "in every team"
        raise Denied(self.caller, role, self.role_in(team_id), team_id, where)

    def require_unlimited(self, role: Role, team_id: int | None) -> None:
        """Return if the caller has a role and is limited to no environment: what is changed holds in all of them.

        Who may do what belongs to no environment, so a token of one changes nothing of it. Raises what :meth:`require`
        does.
        """
        self.require(role, team_id)
        if self.caller.environment is not None:
            within = f" in {self.caller.environment} alone"
            raise Denied(self.caller, role, self.role_in(team_id), team_id, "in all environments", within)

    @property
    def setting(self) -> str:
        """The same for PostgreSQL's row-level security."""
        if self.team_ids is None:
            return SEES_ALL
        return "{" + ",".join(map(str, sorted(self.team_ids))) + "}"


def is_granted(
    table: sa.FromClause, takers: Sequence[int | sa.ColumnElement[int]], *, writes: bool = False
) -> sa.ColumnElement[bool]:
    """Return the condition that the owner of a row of ``datasets`` has granted it to a team, to write if ``writes``.

    A grant counts under any of the dataset's names. A taker is a team's number, or a column or parameter that has one.
    """
    granted, named, within = grants.alias(), dataset_names.alias(), namespaces.alias()
    begins = sa.func.substr(named.c.name, 1, sa.func.length(granted.c.name)) == granted.c.name
    joined = granted.join(named, named.c.dataset_id == table.c.id).join(within, within.c.id == named.c.namespace_id)
    return (
        sa.select(sa.literal(1))
        .select_from(joined)
        .where(
            granted.c.to_team_id.in_(takers),
            granted.c.from_team_id == table.c.team_id,
            is_in_force(granted),
            granted.c.namespace.is_(None) | (granted.c.namespace == within.c.name),
            (named.c.name == granted.c.name) | ((granted.c.is_prefix == 1) & begins),
            *([granted.c.writes == 1] if writes else ()),
        )
        .correlate_except(granted, named, within)
        .exists()
    )


def is_in_force(table: sa.FromClause = grants) -> sa.ColumnElement[bool]:
    """Return the condition that a grant is neither revoked nor over."""
    at = sa.bindparam(None, callable_=now, type_=sa.BigInteger)  # of each execution: a statement may be kept
    return table.c.revoked_at.is_(None) & (table.c.until.is_(None) | (table.c.until > at))


def scope_of_roles(roles: Mapping[int, Role], everywhere: Role | None, caller: Caller) -> Scope:
    """Return the scope of somebody with these roles."""
    return Scope(None if everywhere else frozenset(roles), roles, everywhere, caller)


EVERYTHING = Scope(None, {}, Role.ADMIN, Caller(LOCAL))
"""The scope of local mode, where whoever reaches the service owns the machine."""
