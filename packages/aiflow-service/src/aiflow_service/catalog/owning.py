"""Whose a dataset is, said by an administrator: for one alone, where a claim is for all of a namespace."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from aiflow_service.access import Change, Role, Scope, Unseen, record
from aiflow_service.access.teams import Claims
from aiflow_service.catalog.memory import CatalogMemory
from aiflow_service.catalog.names import Names
from aiflow_service.catalog.reading import find_dataset, known_dataset
from aiflow_service.database import Writing
from aiflow_service.database.tables import datasets, teams


def give_dataset(writing: Writing, scope: Scope, dataset_id: int, team_id: int) -> dict[str, Any]:
    """Give a dataset to a team, as if that one had been the first to write it; returns the dataset.

    What another one has said of it goes, as where it passes to its writer. Raises ``Denied``, ``Unseen``.
    """
    before = _find(writing, scope, dataset_id)
    number = before["id"]
    if before["team"] == _name_of(writing, team_id):
        writing.connection.execute(datasets.update().where(datasets.c.id == number).values(is_owned=1))
        writing.number("dataset_merges")  # whoever writes remembers whose it was
    else:
        name = (before["namespace"], before["name"])
        names = Names(writing, CatalogMemory(), Claims())
        names.prepare_namespaces([name[0]])
        names.give_datasets({number: (team_id, name)})
    return _changed(writing, scope, "dataset.given", team_id, before)


def release_dataset(writing: Writing, scope: Scope, dataset_id: int) -> dict[str, Any]:
    """Make a dataset that of the next team that writes it; until then its team looks after it, and owns nothing.

    Returns the dataset. Raises ``Denied``, ``Unseen``.
    """
    before = _find(writing, scope, dataset_id)
    mine = datasets.c.id == before["id"]
    team_id = writing.connection.execute(sa.select(datasets.c.team_id).where(mine)).scalar_one()
    writing.connection.execute(datasets.update().where(mine).values(is_owned=0))
    writing.number("dataset_merges")
    return _changed(writing, scope, "dataset.released", team_id, before)


def _find(writing: Writing, scope: Scope, dataset_id: int) -> dict[str, Any]:
    scope.require_unlimited(Role.ADMIN, None)
    number = known_dataset(writing.connection, scope, dataset_id)
    found = None if number is None else find_dataset(writing.connection, scope, number)
    if found is None:
        raise Unseen("dataset")
    return found


def _changed(writing: Writing, scope: Scope, action: str, team_id: int, before: dict[str, Any]) -> dict[str, Any]:
    """Record the change, and return the dataset as it is now."""
    facts = {"namespace": before["namespace"], "before": before["team"], "was_owned": before["is_owned"]}
    record(writing, Change(scope.caller, action, before["name"], team_id, facts))
    after = find_dataset(writing.connection, scope, before["id"])
    assert after is not None
    return after


def _name_of(writing: Writing, team_id: int) -> str:
    found: str = writing.connection.execute(sa.select(teams.c.name).where(teams.c.id == team_id)).scalar_one()
    return found
