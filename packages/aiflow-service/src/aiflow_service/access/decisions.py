"""What a team may read and write, dataset by dataset: what deployments and tasks go by, and keep a copy of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access.scope import is_in_force
from aiflow_service.access.teams import claiming_team
from aiflow_service.database import moment_text
from aiflow_service.database.bulk import select_in
from aiflow_service.database.tables import dataset_names, datasets, grants, namespaces

Name = tuple[str, str]
"""Namespace and name of a dataset."""


class WantedAccess(NamedTuple):
    """A dataset that is to be read or written."""

    namespace: str
    name: str
    writes: bool


class _Owned(NamedTuple):
    """Whose a dataset is, and all its names."""

    team_id: int | None
    names: tuple[Name, ...]


def decide(connection: Connection, team_id: int, touches: Sequence[WantedAccess]) -> list[dict[str, Any]]:
    """Return for each dataset whether the team may touch it so, and until when, in their order.

    Its own it may, and what is nobody's: what no team claims and none is known to write. Of another
    team's what that one has granted. The connection has to see all teams; whose a dataset is, is not told.
    """
    owned = _owners(connection, {(one.namespace, one.name) for one in touches})
    given: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(sa.select(grants).where(grants.c.to_team_id == team_id, is_in_force())):
        given[row.from_team_id].append(row)
    return [_decision(one, owned[one.namespace, one.name], team_id, given) for one in touches]


def _decision(touch: WantedAccess, owned: _Owned, team_id: int, given: Mapping[int, Sequence[Any]]) -> dict[str, Any]:
    told = {"namespace": touch.namespace, "name": touch.name, "access": "write" if touch.writes else "read"}
    if owned.team_id in (None, team_id):
        return {**told, "allowed": True, "until": None}
    ends = [
        grant.until
        for grant in given.get(owned.team_id or 0, ())
        if (grant.writes or not touch.writes) and any(_covers(grant, name) for name in owned.names)
    ]
    until = None if None in ends else max(ends, default=None)
    return {**told, "allowed": bool(ends), "until": moment_text(until)}


def _covers(grant: Any, name: Name) -> bool:
    if grant.namespace not in (None, name[0]):
        return False
    return name[1] == grant.name or (bool(grant.is_prefix) and name[1].startswith(grant.name))


def _owners(connection: Connection, names: set[Name]) -> dict[Name, _Owned]:
    numbers, teams = _known(connection, names)
    aliases: dict[int, list[Name]] = defaultdict(list)
    statement = sa.select(dataset_names.c.dataset_id, namespaces.c.name, dataset_names.c.name.label("short"))
    statement = statement.join(namespaces, namespaces.c.id == dataset_names.c.namespace_id)
    for row in select_in(connection, statement, dataset_names.c.dataset_id, sorted(teams)):
        aliases[row.dataset_id].append((row.name, row.short))
    found = {}
    for name in names:
        if (number := numbers.get(name)) is not None:
            owner = teams[number]
            found[name] = _Owned(claiming_team(connection, name[0]) if owner is None else owner, tuple(aliases[number]))
        else:
            found[name] = _Owned(claiming_team(connection, name[0]), (name,))
    return found


def _known(connection: Connection, names: set[Name]) -> tuple[dict[Name, int], dict[int, int | None]]:
    """Return the ids of the datasets that are known by these names, and who owns those, if anybody."""
    numbers: dict[Name, int] = {}
    teams: dict[int, int | None] = {}
    by_namespace: dict[str, list[str]] = defaultdict(list)
    for namespace, name in sorted(names):
        by_namespace[namespace].append(name)
    statement = (
        sa.select(dataset_names.c.name, datasets.c.id, datasets.c.team_id, datasets.c.is_owned)
        .join(namespaces, namespaces.c.id == dataset_names.c.namespace_id)
        .join(datasets, datasets.c.id == dataset_names.c.dataset_id)
    )
    for namespace, mine in by_namespace.items():
        wanted = statement.where(namespaces.c.name == namespace)
        for row in select_in(connection, wanted, dataset_names.c.name, mine):
            numbers[namespace, row.name] = row.id
            teams[row.id] = row.team_id if row.is_owned else None
    return numbers, teams
