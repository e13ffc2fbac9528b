"""How long things are kept: months made ahead and dropped, teams with rules of their own, and what stays."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from aiflow_service.audit import verify_entries
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.partitions import list_months, make_months, make_months_ahead, month_of, today
from aiflow_service.database.tables import audit, billed_units, edges, events, refusals, runs, teams, usage
from aiflow_service.keeping import Retention, RetentionKeeper, let_go
from aiflow_service.keeping.retention import UnknownTeam
from filled_database import all_rows, some_events, write_events
from service_trial import running_service, wait_until

AGES = (500, 200, 50, 1)


@pytest.fixture
def aged(database: str):
    """A database with events of two teams, of several ages."""
    opened = open_database(database)
    migrate(opened)
    with opened.writing() as writing:
        writing.connection.execute(teams.insert().values(id=2, name="growth", created_at=0))
    for team_id in (1, 2):
        for age in AGES:
            write_events(opened, some_events(2, day_ago(age)), team_id)
    yield opened
    opened.close()


def kept(**given: Any) -> Retention:
    """Return the settings that a file would give."""
    return Retention.model_validate(given)


def day_ago(age: int) -> str:
    return (datetime.now(UTC) - timedelta(days=age)).isoformat()


def ages(database, table=events) -> dict[int, set[int]]:
    """The ages of what is left, by team."""
    moment = table.c.event_time if table is events else table.c.ended_at
    found: dict[int, set[int]] = {}
    with database.reading() as connection:
        for team_id, at in connection.execute(sa.select(table.c.team_id, moment)):
            found.setdefault(team_id, set()).add(today() - at // 86_400_000_000)
    return found


def count(database, table) -> int:
    with database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_what_is_too_old_goes_by_team_and_what_was_learnt_of_it_stays(aged) -> None:
    known = count(aged, edges)
    again = some_events(1, day_ago(50))
    write_events(aged, again)
    let_go(aged, kept(events_days=300, teams={"growth": {"events_days": 100}}))
    assert ages(aged) == {1: {200, 50, 1}, 2: {50, 1}}
    assert (count(aged, runs), count(aged, edges)) == (2 * 2 * len(AGES) + 1, known + 0)
    assert write_events(aged, again).numbers == {}  # it counts once as long as it is kept
    let_go(aged, kept(runs_days=100, teams={"growth": {"runs_days": None}}))
    assert ages(aged, runs) == {1: {50, 1}, 2: set(AGES)}
    assert count(aged, usage) == count(aged, billed_units) == count(aged, runs)
    with aged.reading() as connection:
        noted = list(connection.execute(sa.select(audit.c.action, audit.c.object_name)))
        assert verify_entries(connection, ()).is_sound
    assert set(noted) == {("events.removed", "*"), ("events.removed", "growth"), ("runs.removed", "*")}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_settings_all_is_kept(aged) -> None:
    rows = all_rows(aged)
    let_go(aged, kept())
    assert all_rows(aged) == rows


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_refusals_go_with_the_events(aged) -> None:
    with aged.writing() as writing:
        writing.connection.execute(refusals.update().values(last_at=0))
    let_go(aged, kept(events_days=5000))
    assert count(aged, refusals) == 0


def months_of(database) -> set:
    with database.reading() as connection:
        return set(list_months(connection))


def rest(database) -> int:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM events_rest").scalar()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_months_are_made_of_what_is_there_and_dropped_whole(aged) -> None:
    before = all_rows(aged)["events"]
    migrate(aged, "0007")
    migrate(aged)
    assert all_rows(aged)["events"] == before
    assert rest(aged) == 0
    assert months_of(aged) >= {month_of(today() - age) for age in AGES} | {month_of(today() + 31)}
    let_go(aged, kept(events_days=100, teams={"growth": {"events_days": 300}}))
    assert ages(aged) == {1: {50, 1}, 2: {200, 50, 1}}
    assert month_of(today() - 500) not in months_of(aged)
    assert month_of(today() - 200) in months_of(aged)
    with aged.reading() as connection:
        noted = set(connection.execute(sa.select(audit.c.action, audit.c.object_name)))
    assert noted == {("events.dropped", "*"), ("events.removed", "*")}


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_replicas_make_a_month_once_and_take_its_events_out_of_the_rest(aged) -> None:
    assert rest(aged) > 0
    wanted = [month_of(today() - age) for age in AGES]

    def make(_: int) -> None:
        with aged.writing() as writing:
            make_months(writing.connection, wanted)
            make_months_ahead(writing.connection)

    with ThreadPoolExecutor() as pool:
        made = pool.map(make, range(3))
        write_events(aged, some_events(2, day_ago(0)))
        list(made)
    assert rest(aged) == 0
    assert set(wanted) <= months_of(aged)
    assert count(aged, events) == 2 * 2 * len(AGES) + 2


def actions(database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(audit.c.action).where(audit.c.result == "failed")).scalars())


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_month_that_somebody_reads_is_dropped_later(aged) -> None:
    with aged.writing() as writing:
        make_months(writing.connection, [month_of(today() - 500)])
    with aged.reading() as connection:
        connection.execute(sa.select(events.c.id)).all()
        with pytest.raises(sa.exc.OperationalError):
            let_go(aged, kept(events_days=300, teams={"growth": {"events_days": 100}}))
        assert ages(aged)[2] == {50, 1}  # what goes row by row is gone all the same
        with closing(RetentionKeeper(aged, kept(events_days=300))) as keeper:
            wait_until(lambda: not keeper.is_sound)
            wait_until(lambda: "retention.failed" in actions(aged))
    with aged.reading() as connection:
        failed = audit.c.action == "retention.failed"
        (details,) = connection.execute(sa.select(audit.c.details).where(failed)).scalars()
    assert json.loads(details)["step"] == "let go"
    assert 500 in ages(aged)[1]
    with closing(RetentionKeeper(aged, kept())) as keeper:
        assert keeper.is_sound
    let_go(aged, kept(events_days=300))
    assert 500 not in ages(aged)[1]


def test_a_team_that_does_not_exist_keeps_everything_from_going_and_is_said(aged) -> None:
    wrong = kept(events_days=30, teams={"grwth": {"events_days": 400}})
    with pytest.raises(UnknownTeam, match="no team 'grwth': did you mean 'growth'"):
        let_go(aged, wrong)
    with closing(RetentionKeeper(aged, wrong)) as keeper:
        wait_until(lambda: "retention.failed" in actions(aged))
        assert not keeper.is_sound
    assert ages(aged) == {1: set(AGES), 2: set(AGES)}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_service_says_for_how_long_it_keeps_things(database: str, tmp_path) -> None:
    settings = tmp_path / "service.toml"
    settings.write_text("[retention]\nevents_days = 40_000\n\n[retention.teams.default]\nruns_days = 30_000\n", "utf-8")
    with running_service(tmp_path, database, "--settings", str(settings)) as service:
        assert service.get("/readyz")["retention"] == {"events_days": 40_000, "runs_days": None}
        told = service.get("/api/v1/teams/default")["retention"]
        assert told == {"events_days": 40_000, "runs_days": 30_000}
        (started,) = service.get("/api/v1/audit", action="service.started")["items"]
        assert started["details"]["retention"]["events_days"] == 40_000
        assert "40000" in service.log.read_text()
