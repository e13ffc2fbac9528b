"""Migrations with rows in the tables: down to the first one and up again, a step at a time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from aiflow_service.database import Database, open_database
from aiflow_service.database.migration import _config, migrate, migrating, upgrade
from aiflow_service.database.tables import METADATA, claims, teams
from aiflow_service.keeping.contents import read_blocks, read_header
from filled_database import fill, some_events, write_events

REMOVED_BY_STEPS = {
    *("usage", "billed_units", "audit", "tokens"),
    *("configuration_items", "documents", "principals", "memberships"),
}
"""Tables whose step down says that it removes them: what was in them is lost by it."""


def revisions() -> list[str]:
    """Every migration, the first one first."""
    return [script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()][::-1]


def rows_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row by its columns, of every table that is there."""
    with database.reading() as connection:
        header = read_header(connection)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in header.columns}
        for block in read_blocks(connection, header):
            columns = header.columns[block.table]
            found[block.table] += [dict(zip(columns, row, strict=True)) for row in block.rows]
    return found


def restricted(rows: dict[str, list[dict[str, Any]]], to: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Rows of the tables that are in both, with the columns that are in both; counters but the audit's."""
    result: dict[str, Any] = {}
    for name in rows.keys() & to.keys():
        columns = set(rows[name][0]) & set(to[name][0]) if rows[name] and to[name] else set()
        result[name] = [
            {column: row[column] for column in sorted(columns)} for row in rows[name] if row.get("name") != "audit"
        ]
    return result


def is_no_month(name: str | None, kind: str, _: object) -> bool:
    """Tell whether what is in the database is described by the metadata; the months of the events are not."""
    return not (kind == "table" and name is not None and name.startswith("events_"))


def test_every_step_down_and_up_keeps_the_rows_of_the_tables_that_stay(database: str) -> None:
    opened = fill(database)
    steps = revisions()
    before = rows_of(opened)
    lowest = before
    for revision in reversed(steps[:-1]):
        migrate(opened, revision)
        lowest = rows_of(opened)
        assert restricted(lowest, before) == restricted(before, lowest), revision
    assert len(lowest["events"]) == len(lowest["runs"]) == 6
    for revision in steps[1:]:
        with migrating(opened) as connection:
            upgrade(connection, revision)
        now = rows_of(opened)
        assert restricted({name: now[name] for name in lowest}, lowest) == restricted(lowest, now), revision
    lost = {name for name, some in before.items() if some and not now[name]}
    assert lost == REMOVED_BY_STEPS
    assert list(write_events(opened, some_events(1)).numbers.values()) == [7]  # numbers go on
    opened.close()


def test_runs_of_two_teams_with_one_id_become_one_run_again_by_the_step_down(database: str) -> None:
    opened = fill(database)
    with opened.writing() as writing:
        writing.connection.execute(teams.insert().values(id=2, name="growth", created_at=0))
    write_events(opened, some_events(), team_id=2)
    again = [{**one, "eventTime": "2026-11-20T11:00:00Z"} for one in some_events(2)]
    for one, run in zip(again, rows_of(opened)["runs"], strict=False):
        one["run"]["runId"] = run["uid"]
    write_events(opened, again, team_id=2)
    both = {run["uid"] for run in rows_of(opened)["runs"] if run["team_id"] == 1} & {
        run["uid"] for run in rows_of(opened)["runs"] if run["team_id"] == 2
    }
    assert len(both) == 2
    migrate(opened, "0011")
    below = rows_of(opened)
    assert {run["team_id"] for run in below["runs"] if run["uid"] in both} == {1}
    assert len(below["runs"]) == len(below["usage"]) == len(below["billed_units"]) == 12
    with migrating(opened) as connection:
        upgrade(connection)
    assert restricted(rows_of(opened), below) == restricted(below, rows_of(opened))
    with opened.reading() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_no_month})
        found = compare_metadata(context, METADATA)
    assert found == []
    opened.close()


@pytest.mark.parametrize(
    ("claimed", "is_owned"),
    [
        ({}, 0),
        ({"one": 1, "onelake": 2}, 0),
        ({"one": 2, "onelake": 1}, 1),
    ],
    ids=str,
)
def test_of_what_is_there_already_the_readers_own_what_they_claim_alone(database: str, claimed, is_owned) -> None:
    opened = fill(database, "0012")
    with migrating(opened) as connection:
        connection.execute(teams.insert().values(id=2, name="growth", created_at=0))
        for number, (name, team_id) in enumerate(claimed.items(), 1):
            values = {"id": number, "kind": "namespace", "name": name, "team_id": team_id, "created_at": 0}
            connection.execute(claims.insert().values(values))
        upgrade(connection)
    owned = {row["name"]: row["is_owned"] for row in rows_of(opened)["datasets"]}
    assert owned == {"raw": is_owned, **{f"out{number}": 1 for number in range(6)}}
    opened.close()


def test_replicas_that_start_at_once_migrate_once(database: str) -> None:
    opened = [open_database(database) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(migrate, opened))
    assert list(write_events(opened[1], some_events(1)).numbers.values()) == [1]
    for one in opened:
        one.close()
