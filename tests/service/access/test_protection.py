"""PostgreSQL's row-level security, below the scope that every query has."""

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from aiflow_service.audit import Caller, Entry, record
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.protection import SEES_ALL, SEES_NOTHING, seeing
from aiflow_service.database.tables import (
    METADATA,
    audit,
    columns,
    configuration_items,
    dataset_names,
    datasets,
    grants,
    jobs,
    pipeline_releases,
    pipelines,
    projects,
    releases,
    teams,
)


@pytest.fixture(params=["superuser", "plain"])
def postgres_database(request, postgres):
    """A migrated database with things of two teams, connected to as a superuser or as a plain owner."""
    address = postgres.database()
    if request.param == "plain":
        url = make_url(address)
        owner = f"owner_{url.database}"
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"))
        with engine.begin() as admin:
            admin.exec_driver_sql(f"CREATE ROLE {owner} LOGIN")
            admin.exec_driver_sql(f"ALTER DATABASE {url.database} OWNER TO {owner}")
            admin.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {owner}")
        engine.dispose()
        address = url.set(username=owner).render_as_string(hide_password=False)
    database = open_database(address)
    migrate(database)
    with database.writing() as writing:
        run = writing.connection.execute
        run(sa.text("INSERT INTO namespaces VALUES (1, 'onelake')"))
        for team in (2, 3):
            run(teams.insert().values(id=team, name=f"team{team}", created_at=0))
            run(jobs.insert().values(id=team, team_id=team, namespace_id=1, name="job"))
            run(datasets.insert().values(id=team, team_id=team, namespace_id=1, name=f"table{team}"))
            run(dataset_names.insert().values(dataset_id=team, namespace_id=1, name=f"table{team}"))
            run(columns.insert().values(id=team, dataset_id=team, name="secret"))
    yield database
    database.close()


def ids(database, table):
    with database.reading() as connection:
        return set(connection.execute(sa.select(table.c.id if "id" in table.c else table.c.dataset_id)).scalars())


def test_a_query_that_forgot_its_scope_shows_nothing_of_a_stranger(postgres_database):
    for table in (jobs, datasets, dataset_names, columns):
        assert ids(postgres_database, table) == {2, 3}
        with seeing(SEES_NOTHING):
            assert ids(postgres_database, table) == set()
        with seeing("{2}"):
            assert ids(postgres_database, table) == {2}
    with seeing("{2}"):
        assert ids(postgres_database, teams) == {2}
    assert ids(postgres_database, jobs) == {2, 3}  # the connection that goes back to the pool keeps nothing


def test_a_strangers_deployments_and_configuration_are_hidden_too(postgres_database):
    with postgres_database.writing() as writing:
        for team in (2, 3):
            of_team = {"id": team, "team_id": team}
            release = {
                "environment": "dev",
                "key": "k",
                "at": 0,
                "number": 1,
                "project_version": "v",
                "action": "deploy",
            }
            item = {"environment": "dev", "kind": "variable", "name": "x", "version": 1, "changed_at": 0}
            for table, values in (
                (projects, {"name": "shop"}),
                (pipelines, {"project_id": team, "name": "daily"}),
                (releases, {"project_id": team, "action": "deploy", "author": "", "recorded_at": 0, **release}),
                (configuration_items, item),
            ):
                writing.connection.execute(table.insert().values(**of_team, **values))
            writing.connection.execute(pipeline_releases.insert().values(pipeline_id=team, release_id=team))
            record(writing, Entry(Caller("ana"), "thing.made", "thing", "x", team_id=team))
    count = sa.select(sa.func.count())
    for table in (projects, pipelines, releases, pipeline_releases, configuration_items, audit):
        for sees, wanted in ((SEES_ALL, 2), ("{2}", 1), (SEES_NOTHING, 0)):
            with seeing(sees), postgres_database.reading() as connection:
                assert connection.execute(count.select_from(table)).scalar() == wanted, (table.name, sees)


def test_a_grant_lifts_it_for_the_dataset_alone(postgres_database):
    with postgres_database.writing() as writing:
        row = {"from_team_id": 3, "to_team_id": 2, "name": "tab", "is_prefix": 1, "writes": 0, "created_at": 0}
        writing.connection.execute(grants.insert().values(id=1, created_by="x", **row))
    with seeing("{2}"):
        for table in (datasets, columns, dataset_names, teams):
            assert ids(postgres_database, table) == {2, 3}, table
        assert ids(postgres_database, jobs) == {2}
    with postgres_database.writing() as writing:
        writing.connection.execute(grants.update().values(until=1))
    with seeing("{2}"):
        assert ids(postgres_database, datasets) == {2}


def test_who_reads_for_a_caller_writes_nothing(postgres_database):
    with seeing("{2}"), postgres_database.reading() as connection:
        changed = sa.text("UPDATE jobs SET name = 'x' WHERE team_id = 3")
        try:
            assert connection.execute(changed).rowcount == 0
        except sa.exc.ProgrammingError as error:
            assert "permission denied" in str(error)


def test_every_table_of_teams_is_protected(postgres_database):
    wanted = {name for name, table in METADATA.tables.items() if "team_id" in table.c}
    with postgres_database.reading() as connection:
        found = connection.execute(
            sa.text(
                "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relkind IN ('r', 'p')"
            )
        )
        protected = set(found.scalars())
    assert wanted <= protected, f"call protect_table in the migration that makes {wanted - protected}"


def test_the_protection_is_taken_back_and_put_up_again(postgres_database):
    migrate(postgres_database, "0001")
    migrate(postgres_database)
    with seeing("{2}"):
        assert ids(postgres_database, jobs) == {2}
