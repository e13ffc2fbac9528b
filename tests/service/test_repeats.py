"""What is said again: read once, written once, and the newest counts whatever the order of arrival."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_service.access import EVERYTHING, Role, Scope
from aiflow_service.database import Database, open_database
from aiflow_service.database.bulk import insert_rows, upsert_rows
from aiflow_service.database.memory import TYPICAL_BYTES, Memory, SizedMemory
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import columns, datasets, jobs, namespaces
from aiflow_service.events.writing import _EACH_OF_DAY
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.masking import _is_name_of_secret, is_name_of_secret
from aiflow_service.openlineage import Event, Refusal, read_event
from aiflow_service.openlineage.mentions import _LISTS
from aiflow_service.openlineage.reading import _read_by_parts, _read_whole
from aiflow_service.runs import RunFilter, changed_since, list_runs
from service_trial import run_event, unique

MINUTE = 60


@contextmanager
def opened(address: str) -> Iterator[Database]:
    database = open_database(address)
    try:
        migrate(database)
        yield database
    finally:
        database.close()


@pytest.fixture(scope="module")
def _opened_sqlite(tmp_path_factory) -> Iterator[Database]:
    with opened(f"sqlite:///{tmp_path_factory.mktemp('repeats') / 'service.db'}") as database:
        yield database


@pytest.fixture(scope="module")
def _opened_postgres(request) -> Iterator[Database]:
    with opened(request.getfixturevalue("postgres").database()) as database:
        yield database


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stored(request) -> Database:
    return request.getfixturevalue(f"_opened_{request.param}")


def said(job: str, table: str, second: int, fields: list[str], owner: str, reads: str | None = None) -> Event:
    facet = {"_producer": "urn:test", "_schemaURL": "urn:test"}
    about = {
        "schema": {**facet, "fields": [{"name": name, "type": owner} for name in fields]},
        "ownership": {**facet, "owners": [{"name": owner}]},
    }
    event = {
        **run_event("START", job=job, at=f"2026-11-20T10:{second // 60:02}:{second % 60:02}Z"),
        "job": {"namespace": "repeats", "name": job, "facets": {"ownership": about["ownership"]}},
        "inputs": [{"namespace": "repeats", "name": reads, "facets": about}] if reads else [],
        "outputs": [{"namespace": "repeats", "name": table, "facets": about}],
    }
    return read_event(json.dumps(event).encode())


def rows_of(database: Database, table: str, job: str) -> list[object]:
    with database.reading() as connection:
        found = connection.execute(sa.select(datasets).where(datasets.c.name == table)).one()
        mine = (columns.c.dataset_id == found.id) & columns.c.ordinal.is_not(None)
        shown = connection.execute(
            sa.select(columns.c.name, columns.c.ordinal, columns.c.type).where(mine).order_by(columns.c.ordinal)
        )
        facts = connection.execute(sa.select(jobs.c.facts).where(jobs.c.name == job)).scalar_one()
        return [found.schema_time, found.schema_digest, bytes(found.facts), bytes(facts), [tuple(row) for row in shown]]


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_the_newest_schema_and_facts_win_in_any_order(stored: Database, data: st.DataObject) -> None:
    """Repeated within five minutes, with others in between, in groups of any size, written later or at once."""
    told = [
        (second, *data.draw(st.sampled_from([(["a", "b"], "ann"), (["b"], "bob"), (["c", "a"], "ann")])))
        for second in data.draw(st.lists(st.integers(0, 8 * MINUTE), min_size=1, max_size=7))
    ]
    results = []
    for order in (sorted(told), data.draw(st.permutations(told)), data.draw(st.permutations(told))):
        writer, job, table = GroupWriter(stored), unique("job"), unique("table")
        waiting = [Submission(said(job, table, *one), 1, 1) for one in order]
        while waiting:
            size = data.draw(st.integers(1, 3))
            writer.write(waiting[:size])
            del waiting[:size]
            if data.draw(st.booleans()):
                writer.settle()
        writer.settle()
        assert writer.is_settled
        results.append(rows_of(stored, table, job))
    wins = max(told, key=lambda one: one[0])[0]
    assert results[0] == results[1] == results[2]
    assert results[0][0] % (3600 * 1_000_000) == wins * 1_000_000  # type: ignore[operator]  # a moment


def test_an_older_schema_loses_against_one_that_was_only_said_again(stored: Database) -> None:
    writer, job, table = GroupWriter(stored), unique("job"), unique("table")
    for second in (0, 120):  # the second time nothing is written at once
        writer.write([Submission(said(job, table, second, ["new"], "ann"), 1, 1)])
    writer.write([Submission(said(unique("other"), table, 60, ["old"], "bob"), 1, 1)])
    assert [row[0] for row in rows_of(stored, table, job)[-1]] == ["new"]  # type: ignore[attr-defined]  # a list


def test_a_group_that_is_rolled_back_leaves_nothing_to_be_written_later(stored: Database, monkeypatch) -> None:
    import aiflow_service.ingest.group as group

    writer, job, table = GroupWriter(stored), unique("job"), unique("table")
    writer.write([Submission(said(job, table, 0, ["a"], "ann"), 1, 1)])
    with monkeypatch.context() as patched:
        patched.setattr(group, "merge_runs", lambda *_: 1 / 0)  # the group breaks off half written
        with pytest.raises(ZeroDivisionError):
            writer.write([Submission(said(job, table, 200, ["a"], "ann"), 1, 1)])
    assert writer.is_settled
    assert rows_of(stored, table, job)[0] % (3600 * 1_000_000) == 0  # type: ignore[operator]  # a moment


def test_by_parts_an_event_reads_as_it_does_as_a_whole() -> None:
    dice = random.Random(1)
    for _ in range(30):
        event = run_event("COMPLETE", job=unique("parts"), at="2026-11-20T10:00:00Z")
        facets = {"schema": {"_producer": "urn:t", "_schemaURL": "urn:t", "fields": [{"name": "ł"}]}}
        event["inputs"] = [{"name": f"t{dice.randrange(3)}", "namespace": "n", "facets": facets}]
        statistics = {"_producer": "urn:t", "_schemaURL": "urn:t", "rowCount": dice.randrange(9)}
        event["outputs"] = [{"outputFacets": {"outputStatistics": statistics}, "namespace": "n", "name": "out"}]
        raw = json.dumps(event, indent=dice.choice([None, 1]), sort_keys=dice.random() < 0.5).encode()
        parts, whole = _read_by_parts(raw), _read_whole(raw)
        assert parts == whole
        assert parts is not None
        assert parts.digest == whole.digest


@pytest.mark.parametrize(
    "inputs",
    [
        "null",
        "[1]",
        "[{}]",
        '[{"namespace": "n", "name": ""}]',
        '[{"namespace": "n", "name": "t", "facets": {"schema": 1}}]',
        '[{"namespace": "n", "name": "t", "x": ' + "[" * 59 + "]" * 59 + "}]",
        '[{"namespace": "n", "name": "t"},]',
        '[{"namespace": "n", "name": "t\\ud800\\udfff\xff"}]',
    ],
)
def test_what_is_wrong_with_a_part_is_said_as_of_the_whole(inputs: str) -> None:
    raw = json.dumps({**run_event(job="wrong"), "inputs": []})
    raw = raw.replace('"inputs": []', f'"inputs": {inputs}')
    told = []
    for read in (read_event, read_event, _read_whole):
        with pytest.raises(Refusal) as refused:
            read(raw.encode("latin-1"))
        told.append((refused.value.code, refused.value.reason, refused.value.place))
    assert told[0] == told[1] == told[2]


def test_what_is_remembered_is_bounded_by_its_bytes() -> None:
    memory: SizedMemory[int, bytes] = SizedMemory(1_000)
    for number in range(100):
        memory.put(number, b"", 90)
    memory.put(101, b"", 101)  # too much by itself
    assert sum(90 for number in range(100) if memory.get(number) is not None) == 990
    assert (memory.get(99), memory.get(0), memory.get(101)) == (b"", None, None)
    lists = []
    for number in range(3_000):
        facets = {"x": {"_producer": "urn:t", "_schemaURL": "urn:t", "text": "x" * 3_000}}
        inputs = [{"namespace": "n", "name": f"t{number}", "facets": facets}]
        raw = json.dumps({**run_event(job="sized"), "inputs": inputs}).encode()
        read_event(raw)
        lists.append(raw[raw.index(b'"inputs": ') + 10 : raw.index(b', "outputs"')])
    kept = sum(len(text) for text in lists if _LISTS.get((False, text)) is not None)
    assert 1024 * 1024 < kept < 16 * 1024 * 1024 / 2


def test_long_names_are_remembered_in_no_more_room_than_short_ones() -> None:
    short: Memory[tuple[str, str], int] = Memory(1_000)
    long: Memory[tuple[str, str], int] = Memory(1_000)
    for number in range(2_000):
        short.learn(("onelake", f"raw.orders_{number}"), number)
        long.learn(("x" * 1_000, "y" * 1_000 + str(number)), number)
    long.learn(("x" * 1_000, "y" * 1_000 + "0"), 5)  # again, which weighs nothing more
    short.keep()
    long.keep()
    assert sum(short.get(("onelake", f"raw.orders_{number}")) is not None for number in range(2_000)) == 1_000
    kept = [number for number in range(2_000) if long.get(("x" * 1_000, "y" * 1_000 + str(number))) is not None]
    assert kept == list(range(2_000 - len(kept), 2_000))
    assert 100 < len(kept) < 1_000 * TYPICAL_BYTES / 2_000
    long.forget()
    long.learn(("x", "y"), 1)
    long.keep()
    assert long.get(("x", "y")) == 1


def test_whether_a_long_name_is_one_of_a_secret_is_not_remembered() -> None:
    before = _is_name_of_secret.cache_info().currsize
    assert is_name_of_secret("x" * 100_000 + "_password")
    assert not is_name_of_secret("x" * 100_000)
    assert _is_name_of_secret.cache_info().currsize == before


def test_live_runs_of_one_event_are_told_across_pages(stored: Database) -> None:
    """An event touches its run and those that it is part of: a page may end between them."""
    parent, root = (run_event()["run"]["runId"] for _ in range(2))
    event = run_event("START", job=unique("part"), at="2026-11-20T10:00:00Z")
    about = {"_producer": "urn:t", "_schemaURL": "urn:t", "run": {"runId": parent}, "job": event["job"]}
    event["run"]["facets"] = {"parent": {**about, "root": {"run": {"runId": root}, "job": event["job"]}}}
    number = GroupWriter(stored).write([Submission(read_event(json.dumps(event).encode()), 1, 1)]).last_number
    place, told = (number - 1, 2**62), []
    with stored.reading() as connection:
        while page := list(changed_since(connection, EVERYTHING, place, limit=1)):
            ((place, run),) = page
            told.append(run["run_id"])
    assert sorted(told) == sorted([event["run"]["runId"], parent, root])


def test_a_list_of_runs_is_the_same_however_it_is_narrowed_and_paged(stored: Database) -> None:
    pipelines = [unique("listed") for _ in range(2)]
    writer = GroupWriter(stored)
    events = [
        run_event(
            "FAIL" if number % 3 else "START", job=pipelines[number % 2], at=f"2026-11-21T10:00:{number // 3:02}Z"
        )
        for number in range(40)
    ]
    writer.write([Submission(read_event(json.dumps(event).encode()), 1, 1) for event in events])
    for scope in (EVERYTHING, Scope(frozenset({1}), {1: Role.VIEWER}), Scope(frozenset({1, 7}), {1: Role.VIEWER})):
        for wanted in (RunFilter(pipeline=pipelines[0]), RunFilter(pipeline=pipelines[1], state="failed")):
            found: list[str] = []
            place = None
            with stored.reading() as connection:
                while True:
                    page, place = list_runs(connection, scope, wanted, before=place, limit=7)
                    found += [run["run_id"] for run in page]
                    if place is None:
                        break
            mine = [
                event["run"]["runId"]
                for event in events
                if event["job"]["name"] == wanted.pipeline
                and wanted.state in (None, {"FAIL": "failed"}.get(event["eventType"]))
            ]
            assert sorted(found) == sorted(mine)
    with stored.reading() as connection:
        nobody = Scope(frozenset({999}), {999: Role.VIEWER})
        assert list_runs(connection, nobody, RunFilter(), before=None, limit=5) == ([], None)
        assert list_runs(connection, EVERYTHING, RunFilter(project="none"), before=None, limit=5) == ([], None)


def test_rows_are_written_whatever_their_number(stored: Database) -> None:
    name = unique("bulk")
    sizes = (0, 1, 2, 63, 64, 65, 200)
    with stored.writing() as writing:
        first = writing.number("namespaces")
        for _ in range(sum(sizes)):
            writing.number("namespaces")
        begin = first
        for size in sizes:
            rows = [(begin + place, f"{name} {begin + place}") for place in range(size)]
            insert_rows(writing, namespaces, ("id", "name"), rows)
            begin += size
        changed = [(number, f"{name} again {number}") for number in range(first, begin, 2)]
        upsert_rows(writing, namespaces, ("id", "name"), changed, {"name": "new"})
        mine = sa.select(namespaces.c.id, namespaces.c.name).where(namespaces.c.name.startswith(name))
        found = {row[0]: row[1] for row in writing.connection.execute(mine)}
    whole = {number: f"{name} {number}" for number in range(first, begin)}
    assert found == whole | dict(changed)


@pytest.mark.parametrize("stored", ["postgres"], indirect=True)  # SQLite keeps no plan that goes by how many rows are
def test_events_are_looked_for_by_their_digest_also_by_a_plan_made_early(stored: Database) -> None:
    with stored.engine.connect() as connection:
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        wanted = {"digests": [b"one", b"two"], "day": 20_000}
        plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {_EACH_OF_DAY}", wanted)]
        connection.exec_driver_sql("RESET plan_cache_mode")
    scans = [line for line in plan if "Index Cond" in line]
    assert scans, plan
    assert all("digest = given.digest" in line for line in scans), plan
    assert not any("Seq Scan" in line for line in plan), plan
