"""Whose runs and tables are, written on each database without a process around it."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from aiflow_service.access import EVERYTHING
from aiflow_service.access.teams import make_claim
from aiflow_service.database import Database, open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import runs, teams
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.openlineage import read_event
from service_trial import facet, run_event, unique

DEFAULT = 1
_TEAMS = itertools.count(2)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stored(request, tmp_path_factory) -> Iterator[Database]:
    """A database that the tests of this module share: use teams and names of your own."""
    file = tmp_path_factory.mktemp("owners") / "service.db"
    postgres = request.param == "postgres"
    database = open_database(request.getfixturevalue("postgres").database() if postgres else f"sqlite:///{file}")
    migrate(database)
    yield database
    database.close()


def make_team(database: Database) -> int:
    number = next(_TEAMS)
    with database.writing() as writing:
        writing.connection.execute(teams.insert().values(id=number, name=f"team{number}", created_at=0))
    return number


def said(team_id: int, event: dict[str, Any], speaks_for_all: bool = False) -> Submission:
    return Submission(read_event(json.dumps(event).encode()), team_id, 0, speaks_for_all)


def claim(database: Database, kind: str, name: str, team_id: int) -> None:
    with database.writing() as writing:
        make_claim(writing, EVERYTHING, kind, name, team_id)


def runs_of(database: Database, uid: str) -> list[tuple[int, str]]:
    with database.reading() as connection:
        found = connection.execute(sa.select(runs.c.team_id, runs.c.state).where(runs.c.uid == uid))
        return sorted((row.team_id, row.state) for row in found)


def pipeline_run(uid: str, project: str, at: str) -> dict[str, Any]:
    facts = {"_producer": "urn:x", "_schemaURL": "urn:x", "project": project, "pipeline_id": "daily"}
    return run_event(run_id=uid, job=f"{project}/daily", run_facets={"aiflow_run": facts}, at=at)


def part_of(uid: str, project: str, at: str) -> dict[str, Any]:
    job = {"namespace": "aiflow/dev", "name": f"{project}/daily"}
    parent = facet("ParentRunFacet", "1-2-0", run={"runId": uid}, job=job)
    return run_event("START", namespace="spark", job=unique("spark"), run_facets={"parent": parent}, at=at)


@pytest.mark.parametrize("is_one_group", [True, False], ids=["one-group", "one-by-one"])
def test_a_run_of_which_parts_alone_have_told_is_once_the_claiming_teams(stored, is_one_group) -> None:
    team, project, uid = make_team(stored), unique("project"), str(uuid.uuid4())
    claim(stored, "project", project, team)
    writer = GroupWriter(stored)
    writer.write([said(DEFAULT, part_of(uid, project, "2026-11-20T10:00:00Z"), True)])
    assert runs_of(stored, uid) == [(DEFAULT, "running")]
    both = [
        said(DEFAULT, pipeline_run(uid, project, "2026-11-20T10:05:00Z"), True),
        said(DEFAULT, part_of(uid, project, "2026-11-20T10:01:00Z"), True),
    ]
    for group in [both] if is_one_group else [[one] for one in both]:
        writer.write(group)
    assert runs_of(stored, uid) == [(team, "succeeded")]


def test_of_two_teams_that_claim_a_run_at_once_each_has_its_own_and_so_has_who_is_of_no_claim(stored) -> None:
    first, second, uid = make_team(stored), make_team(stored), str(uuid.uuid4())
    projects = {team: unique("project") for team in (first, second)}
    for team, project in projects.items():
        claim(stored, "project", project, team)
    writer = GroupWriter(stored)
    writer.write([said(DEFAULT, part_of(uid, "shop", "2026-11-20T10:00:00Z"), True)])
    told = [said(DEFAULT, pipeline_run(uid, one, "2026-11-20T10:05:00Z"), True) for one in projects.values()]
    writer.write([*told, said(DEFAULT, part_of(uid, "shop", "2026-11-20T10:01:00Z"))])
    assert runs_of(stored, uid) == [(DEFAULT, "running"), (first, "succeeded"), (second, "succeeded")]


def test_a_run_that_the_default_team_tells_of_itself_stays_its_own(stored) -> None:
    team, project, uid = make_team(stored), unique("project"), str(uuid.uuid4())
    claim(stored, "project", project, team)
    writer = GroupWriter(stored)
    writer.write([said(DEFAULT, part_of(uid, "shop", "2026-11-20T10:00:00Z"), True)])
    own = [said(DEFAULT, pipeline_run(uid, one, "2026-11-20T10:05:00Z"), True) for one in (project, "unclaimed")]
    writer.write(own)
    assert runs_of(stored, uid) == [(DEFAULT, "succeeded"), (team, "succeeded")]
