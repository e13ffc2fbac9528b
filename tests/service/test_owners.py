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
from aiflow_service.database.tables import columns, dataset_names, datasets, jobs, makings, runs, teams
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.openlineage import read_event
from service_trial import dataset, facet, run_event, unique

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


def told_of(name: str, *columns_: str, also: str | None = None, **facets: Any) -> dict[str, Any]:
    """A dataset of an event, with its columns and another name of it."""
    if columns_:
        fields = [{"name": one, "type": "int", "description": "words"} for one in columns_]
        facets["schema"] = facet("SchemaDatasetFacet", "1-2-0", fields=fields)
    if also is not None:
        links = [{"namespace": "onelake", "name": also, "type": "TABLE"}]
        facets["symlinks"] = facet("SymlinksDatasetFacet", identifiers=links)
    return dataset(name, **facets)


def table_of(database: Database, name: str) -> dict[str, Any]:
    """What is stored of the dataset of this name."""
    with database.reading() as connection:
        found = sa.select(dataset_names.c.dataset_id).where(dataset_names.c.name == name)
        row = connection.execute(sa.select(datasets).where(datasets.c.id == found.scalar_subquery())).one()
        names = sa.select(dataset_names.c.name).where(dataset_names.c.dataset_id == row.id)
        mine = sa.select(columns.c.name, columns.c.ordinal, columns.c.type).where(columns.c.dataset_id == row.id)
        return {
            "team": row.team_id,
            "is_owned": row.is_owned,
            "name": row.name,
            "facts": sorted(json.loads(row.facts or b"{}")),
            "names": set(connection.execute(names).scalars()),
            "columns": {tuple(one) for one in connection.execute(mine)},
        }


def test_of_what_passes_to_its_writer_no_column_stays_that_no_edge_leads_to(stored) -> None:
    reader, writer, other = make_team(stored), make_team(stored), unique("other")
    tables = [unique("table") for _ in range(3)]
    made = {"fields": {"total": {"inputFields": [{"namespace": "onelake", "name": tables[0], "field": "used"}]}}}
    out = dataset(other, columnLineage=facet("ColumnLineageDatasetFacet", "1-2-0", **made))
    reading = [told_of(one, "used", "unused", also=f"{one}-alias") for one in tables]
    group = GroupWriter(stored)
    group.write([said(reader, run_event(job=unique("use"), inputs=reading, outputs=[out]))])
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    sa.event.listen(stored.engine, "before_cursor_execute", note)
    group.write([said(writer, run_event(job=unique("make"), outputs=tables))])
    sa.event.remove(stored.engine, "before_cursor_execute", note)
    whole = [table_of(stored, one) for one in tables]
    assert [(one["team"], one["is_owned"], one["names"]) for one in whole] == [(writer, 1, {one}) for one in tables]
    assert [one["columns"] for one in whole] == [{("used", None, None)}, set(), set()]
    changes = [
        one for one in statements if one.startswith(("UPDATE datasets ", "UPDATE columns ", "DELETE FROM columns"))
    ]
    assert len(changes) == 4, changes  # whatever the number of tables


def test_of_two_tables_that_were_only_read_the_elder_stays_its_readers_and_hears_nothing(stored) -> None:
    first, second, admin = make_team(stored), make_team(stored), make_team(stored)
    elder, younger = unique("elder"), unique("younger")
    about = facet("DocumentationDatasetFacet", "1-0-1", description="words")
    group = GroupWriter(stored)
    for team, name in ((first, elder), (second, younger)):
        told = told_of(name, f"of-{name}", also=f"{name}-alias", documentation=about)
        group.write([said(team, run_event(job=unique("use"), inputs=[told]))])
    group.write([said(admin, run_event(job=unique("join"), inputs=[told_of(younger, also=elder)]), True)])
    assert table_of(stored, younger) == {
        "team": first,
        "is_owned": 0,
        "name": elder,
        "facts": ["documentation"],
        "names": {elder, f"{elder}-alias", younger},
        "columns": {(f"of-{elder}", 0, "int")},
    }


def test_joined_with_what_another_writes_a_table_is_the_writers_without_the_readers_words(stored) -> None:
    reader, writer, admin = make_team(stored), make_team(stored), make_team(stored)
    elder, younger = unique("elder"), unique("younger")
    about = facet("DocumentationDatasetFacet", "1-0-1", description="words")
    group = GroupWriter(stored)
    told = told_of(elder, "id", "of-reader", also=f"{elder}-alias", documentation=about)
    group.write([said(reader, run_event(job=unique("use"), inputs=[told]))])
    group.write([said(writer, run_event(job=unique("make"), outputs=[told_of(younger, "first", "id")]))])
    joining = said(admin, run_event(job=unique("join"), inputs=[told_of(elder, also=younger)]), True)
    group.write([joining])
    whole = {"team": writer, "is_owned": 1, "name": elder, "facts": [], "names": {elder, younger}}
    assert table_of(stored, elder) == {**whole, "columns": {("first", 0, "int"), ("id", 1, "int")}}
    late: dict[str, Any] = {"at": "2026-11-21T10:00:00Z"}
    forged = said(reader, run_event(job=unique("use"), inputs=[told_of(elder, "forged")], **late))
    later = said(writer, run_event(job=unique("make"), outputs=[told_of(elder, "id", "more")], **late))
    for some in (forged, later):
        group.write([some])
    assert {one for one in table_of(stored, younger)["columns"] if one[1] is not None} == {
        ("id", 0, "int"),
        ("more", 1, "int"),
    }


def test_who_is_given_a_table_in_a_group_describes_it_in_the_rest_of_it(stored) -> None:
    reader, writer, admin = make_team(stored), make_team(stored), make_team(stored)
    elder, younger = unique("elder"), unique("younger")
    group = GroupWriter(stored)
    group.write([said(reader, run_event(job=unique("use"), inputs=[told_of(elder, "of-reader")]))])
    group.write([said(writer, run_event(job=unique("make"), outputs=[younger]))])
    group.write(
        [
            said(admin, run_event(job=unique("join"), inputs=[told_of(elder, also=younger)]), True),
            said(reader, run_event(job=unique("use"), inputs=[told_of(elder, "forged")])),
            said(writer, run_event(job=unique("make"), inputs=[told_of(elder, "id")])),
        ]
    )
    assert table_of(stored, elder)["columns"] == {("id", 0, "int")}


@pytest.mark.parametrize("says_what_it_makes", [True, False])
def test_what_a_run_made_goes_with_it_to_the_claiming_team(stored, says_what_it_makes) -> None:
    """Its task told of it before its project was claimed."""
    team, project, uid = make_team(stored), unique("project"), str(uuid.uuid4())
    task = part_of(uid, project, "2026-11-20T10:00:00Z")
    facts = {"_producer": "urn:x", "_schemaURL": "urn:x", "project": project, "run_id": uid, "execution": 3}
    facts |= {"pipeline_id": "daily"}
    task["run"]["facets"]["aiflow_run"] = {**facts, "task_id": "load", "partition": "2026-11-20"}
    group = GroupWriter(stored)
    group.write([said(DEFAULT, task, True)])
    assert makings_of(stored, uid).keys() == {DEFAULT}
    claim(stored, "project", project, team)
    own = pipeline_run(uid, project, "2026-11-20T10:05:00Z")
    if says_what_it_makes:
        own["run"]["facets"]["aiflow_run"] = {**facts, "execution": 2}
    group.write([said(DEFAULT, own, True)])
    assert runs_of(stored, uid) == [(team, "succeeded")]
    made = makings_of(stored, uid)
    assert made.keys() == {team}
    assert made[team].run[1]["partition"] == "2026-11-20"
    assert (made[team].end is not None) == says_what_it_makes
    with stored.reading() as connection:
        both = sa.select(jobs.c.team_id, jobs.c.name).join(makings, makings.c.job_id == jobs.c.id)
        assert tuple(connection.execute(both.where(makings.c.run_uid == uid)).one()) == (team, f"{project}/daily")


def makings_of(database: Database, uid: str) -> dict[int, MakingFold]:
    with database.reading() as connection:
        found = connection.execute(sa.select(makings.c.team_id, makings.c.fold).where(makings.c.run_uid == uid))
        return {row.team_id: MakingFold.from_bytes(row.fold) for row in found}


@pytest.mark.parametrize("is_claimed", [False, True], ids=["unclaimed", "claimed"])
@pytest.mark.parametrize("by_symlink", [False, True], ids=["by-name", "by-symlink"])
def test_what_was_only_read_passes_with_the_first_write(stored, by_symlink, is_claimed) -> None:
    """It is the writer's, or of the team that has claimed the namespace meanwhile."""
    reader, writer, claiming = make_team(stored), make_team(stored), make_team(stored)
    namespace, table, other = unique("lake"), unique("table"), unique("other")
    group = GroupWriter(stored)
    about = facet("DocumentationDatasetFacet", "1-0-1", description="words")
    told = {**told_of(table, "of-reader", documentation=about), "namespace": namespace}
    group.write([said(reader, run_event(job=unique("use"), inputs=[told]))])
    if is_claimed:
        claim(stored, "namespace", namespace, claiming)
    links = facet("SymlinksDatasetFacet", identifiers=[{"namespace": namespace, "name": table, "type": "TABLE"}])
    written = dataset(other, symlinks=links) if by_symlink else dataset(table, namespace)
    group.write([said(writer, run_event(job=unique("make"), outputs=[written]))])
    whole = table_of(stored, table)
    owner = claiming if is_claimed else writer
    assert (whole["team"], whole["is_owned"], whole["name"]) == (owner, 1, table)
    assert (whole["facts"], whole["columns"]) == ([], set())
    # Nobody gives to a table of its own a name that another team claims.
    assert whole["names"] == ({table, other} if by_symlink and not is_claimed else {table})
    assert table_of(stored, other)["team"] == writer if by_symlink else True
