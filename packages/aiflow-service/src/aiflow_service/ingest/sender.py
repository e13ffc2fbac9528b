"""Who sends: whose its events are, and what it may say of what is not its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.engine import Connection

from aiflow_service.access.grants import givers_of_writes, may_write
from aiflow_service.access.teams import Claims, claiming_team
from aiflow_service.catalog import Names
from aiflow_service.database import Writing
from aiflow_service.openlineage import Event, Refusal

PIPELINES = "aiflow/"
"""Begins the namespaces of the jobs of pipelines; the environment follows."""


@dataclass(frozen=True, slots=True)
class Sender:
    """``speaks_for_all``: it may run things in every team, so that claims say whose each event is."""

    team_id: int
    speaks_for_all: bool
    environment: str | None = None
    """The only one that it may send events of."""

    def check(self, event: Event) -> None:
        """Return if the sender may send an event. Raises :class:`Refusal` for one of another environment.

        It is the event that is refused and not the sender: what comes behind it may well be its own.
        """
        if self.environment is None:
            return
        spaces = [name[0] for name in (event.job, *(one.job for one in (event.parent, event.root) if one)) if name]
        told = {space.removeprefix(PIPELINES) for space in spaces if space.startswith(PIPELINES)}
        stated = event.run_facets.get("aiflow_run", {}).get("environment", self.environment)
        told.add(stated if isinstance(stated, str) else "")
        if told - {self.environment}:
            raise Refusal("environment-forbidden", f"the token is for the environment {self.environment} alone")

    def team_for(self, connection: Connection, project: str, environment: str) -> int:
        """Return the team of a project's pipelines in an environment: that of the events of their runs."""
        if not self.speaks_for_all:
            return self.team_id
        return claiming_team(connection, f"{PIPELINES}{environment}", project) or self.team_id


class Sent(Protocol):
    """An event with its sender, as :class:`aiflow_service.ingest.Submission` is."""

    event: Event
    team_id: int
    speaks_for_all: bool


def sort_by_claims(claims: Claims, sent: Iterable[Sent]) -> None:
    """Give events whose sender speaks for all to the team that claims their project, else their job's namespace."""
    for one in sent:
        if one.speaks_for_all and one.event.job:
            told = one.event.run_facets.get("aiflow_run", {}).get("project")
            project = told if isinstance(told, str) else None
            one.team_id = claims.team_of(one.event.job[0], project) or one.team_id


class Rights:
    """Which datasets a sender may describe: its own and those granted for writing; of others, that it touches them.

    What was found holds until a dataset gets another name.
    """

    def __init__(self, writing: Writing, names: Names) -> None:
        self._writing = writing
        self._names = names
        self._givers: dict[int, set[int]] = {}
        self._may_write: dict[tuple[int, int], bool] = {}

    def may_describe(self, one: Sent, dataset_id: int) -> bool:
        """Tell whether what an event says of a dataset counts: its columns, its facts, its other names."""
        owner = self._names.owner(dataset_id)
        if one.speaks_for_all or owner == one.team_id:
            return True
        connection = self._writing.connection
        if one.team_id not in self._givers:
            self._givers[one.team_id] = givers_of_writes(connection, one.team_id)
        if owner not in self._givers[one.team_id]:
            return False
        key = one.team_id, dataset_id
        if key not in self._may_write:
            self._names.store_datasets()  # a grant may name what was made a moment ago
            self._may_write[key] = may_write(connection, *key)
        return self._may_write[key]
