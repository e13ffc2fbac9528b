"""What one answer or one body may weigh, and what hides in how JSON is written: without a service of its own."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest

from aiflow_service.access import EVERYTHING
from aiflow_service.app.assembly import _LABEL_CHARACTERS, _count
from aiflow_service.catalog import names as names_module
from aiflow_service.database import now, open_database
from aiflow_service.database.bulk import read_rows
from aiflow_service.database.migration import migrate
from aiflow_service.events import EventFilter, list_events
from aiflow_service.events import reading as events_reading
from aiflow_service.ingest import GroupWriter, Outcome, Submission, unpack
from aiflow_service.ledger import list_partitions
from aiflow_service.ledger import reading as ledger_reading
from aiflow_service.masking import hide_secrets_in_bytes
from aiflow_service.openlineage import Refusal, read_event
from aiflow_service.runs import RunFilter, RunFold, find_run, list_runs
from service_trial import dataset, facet, run_event

EMPTY = gzip.compress(b"", mtime=0)


@pytest.fixture
def opened(database: str):
    found = open_database(database)
    migrate(found)
    yield found
    found.close()


def store(database, *told: dict) -> None:
    GroupWriter(database).write([Submission(read_event(json.dumps(one).encode()), 1, now()) for one in told])


def test_a_body_of_very_many_empty_parts_takes_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(Refusal) as refused:
        unpack(EMPTY * 400_000, "gzip")
    assert refused.value.code == "gzip-invalid"
    assert time.monotonic() - began < 10


def test_a_body_of_several_parts_is_what_they_hold() -> None:
    parts = [bytes([65 + number % 26]) * 70_000 for number in range(300)]
    packed = b"".join(EMPTY + gzip.compress(one, mtime=0) for one in parts)
    assert unpack(packed, "gzip") == b"".join(parts)
    for end in (len(packed) - 1, len(packed) - 9, 15):
        with pytest.raises(Refusal, match="before its end"):
            unpack(packed[:end], "gzip")


TWICE = {
    "a member of a facet": '"password": "hunter2", "password": null',
    "with a reference behind it": '"password":"hunter2","pass\\u0077ord":"secret://db"',
    "an object": '"env": {"token": "hunter2"}, "env": {}',
    "a list": '"passwords": ["hunter2"], "passwords": []',
    "an address whose slashes are escaped": '"url": "https:\\/\\/ana:hunter2@db.example"',
    "very deep": '"a": ' + "[" * 50 + '"password=hunter2"' + "]" * 50 + ', "a": 1',
}


@pytest.mark.parametrize("how", TWICE)
@pytest.mark.parametrize("where", ["run", "input"])
def test_a_secret_behind_a_member_that_stands_twice_is_not_stored(how: str, where: str) -> None:
    odd = facet("Env", mark=1)
    event = run_event(inputs=[dataset("a", env=odd)]) if where == "input" else run_event(run_facets={"env": odd})
    raw = json.dumps(event).replace('"mark": 1', TWICE[how]).encode()
    assert b"hunter2" in raw
    assert b"hunter2" not in read_event(raw).raw
    assert b"hunter2" not in hide_secrets_in_bytes(raw)


@pytest.mark.parametrize("member", ["run", "inputs", "producer", "job"])
def test_a_part_of_an_event_that_stands_twice_hides_none_either(member: str) -> None:
    raw = json.dumps(run_event(inputs=["a"])).encode()
    for first in (b'{"token": "hunter2"}', b'["password=hunter2"]', b'"password=hunter2"'):
        twice = b'{"%b": %b, %b' % (member.encode(), first, raw[1:])
        assert b"hunter2" not in read_event(twice).raw


@pytest.mark.parametrize("how", [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_what_has_no_secret_stays_byte_for_byte(how: dict) -> None:
    event = run_event(
        job="tägliche Übersicht", inputs=["a"], run_facets={"x": facet("X", secret="secret://a", token="")}
    )
    raw = json.dumps({**event, "more": [1, 2.50, 1e3, "a / b"]}, **how).encode()
    assert read_event(raw).raw == raw


def test_a_page_of_long_events_is_short_and_goes_on(opened, monkeypatch) -> None:
    store(opened, *(run_event(inputs=["a"], run_facets={"x": facet("X", text=f"{n}" * 1_000)}) for n in range(6)))
    monkeypatch.setattr(events_reading, "_PAGE_BYTES", 4_000)  # of short events
    with opened.reading() as connection:
        numbers = connection.exec_driver_sql("SELECT id FROM datasets").scalars().all()
        for wanted in (EventFilter(), EventFilter(dataset_id=numbers[0])):
            seen: list[int] = []
            after: int | None = 0
            while after is not None:
                page, after = list_events(connection, EVERYTHING, wanted, after=after, limit=5)
                assert 1 <= len(page) <= 2
                seen += [one["id"] for one in page]
            assert seen == sorted(seen)
            assert len(seen) == 6


def test_runs_for_very_many_partitions_fill_no_memory(opened, monkeypatch) -> None:
    def run(number: int, year: int) -> dict:
        run_id = f"00000000-0000-0000-0000-{number:012}"
        about: dict[str, Any] = {"run_id": run_id, "pipeline_id": "orders", "project": "shop", "environment": "dev"}
        about |= {"partition": f"{year}-01-01..{year}-12-31", "generation": number, "execution": 1}
        making = facet("Making", grain="day", timezone="UTC", definition="d", meaning="m", lock="l", code={})
        out = dataset("out") | {"outputFacets": {"aiflow_node": facet("Node", node_id="out")}}
        facets = {"aiflow_run": facet("Run", **about), "aiflow_making": making}
        return run_event(run_id=run_id, outputs=[out], run_facets=facets)

    store(opened, *(run(number, 2000 + number) for number in range(10)))
    with opened.reading() as connection:
        (number,) = connection.exec_driver_sql("SELECT id FROM datasets").scalars()

        def listed() -> tuple[int, bool]:
            found, _, is_cut = list_partitions(
                connection, EVERYTHING, number, "dev", state=None, after=None, limit=10_000
            )
            return len(found), is_cut

        assert listed() == (3_653, False)
        monkeypatch.setattr(ledger_reading, "_MAX_KEYS", 800)  # of few runs
        count, is_cut = listed()
        assert (365 * 2 <= count <= 366 * 3, is_cut) == (True, True)


def test_of_a_dataset_of_very_many_columns_those_alone_are_read_that_are_named(opened, monkeypatch) -> None:
    def lineage(*names: str) -> dict:
        made_from = [{"namespace": "onelake", "name": "wide", "field": name} for name in names]
        return run_event(outputs=[dataset("out", columnLineage=facet("X", fields={"sum": {"inputFields": made_from}}))])

    store(opened, lineage(*(f"c{number}" for number in range(3_000))))
    counts: list[int] = []

    def counted(*asked):
        rows = read_rows(*asked)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(names_module, "read_rows", counted)  # the true one, counted
    store(opened, lineage("c7", "c8", "new"))
    assert max(counts) == 3  # c7, c8 and the sum
    with opened.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM columns").scalar() == 3_002


def test_names_in_as_many_namespaces_are_asked_for_together(opened) -> None:
    """A statement each, over a list of all of them, kept the one who writes from all others for minutes."""
    statements: list[str] = []
    sa.event.listen(opened.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    names = [{"namespace": f"space{number}", "name": "x", "type": "T"} for number in range(5_000)]
    made_from = [{"namespace": f"other{number}", "name": "y", "field": "z"} for number in range(2_000)]
    lineage = facet("X", fields={"sum": {"inputFields": made_from}})
    event = run_event(outputs=[dataset("a", symlinks=facet("S", identifiers=names), columnLineage=lineage)])
    jobs = [run_event(namespace=f"jobs{number}") for number in range(300)]
    store(opened, event, *jobs)
    assert len(statements) < 1_000
    store(opened, run_event(outputs=[event["outputs"][0]]))
    with opened.reading() as connection:
        counted = (
            "SELECT (SELECT count(*) FROM dataset_names), (SELECT count(*) FROM datasets), (SELECT count(*) FROM jobs)"
        )
        assert connection.exec_driver_sql(counted).one() == (7_001, 2_001, 301)


def test_datasets_that_one_event_joins_in_a_circle_are_one_and_stay_so(opened) -> None:
    def also(name: str, *others: str) -> dict:
        names = [{"namespace": "onelake", "name": other, "type": "T"} for other in others]
        return dataset(name, symlinks=facet("S", identifiers=names))

    writer = GroupWriter(opened)

    def tell(*, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> None:
        event = read_event(json.dumps(run_event(inputs=inputs, outputs=outputs)).encode())
        writer.write([Submission(event, 1, now())])

    tell(outputs=["a", "b", "c", "d", "e", "f"])
    tell(outputs=[also("f", "e"), also("b", "a"), also("d", "c", "new"), also("c", "b"), also("a", "f")])
    tell(inputs=["d", "e", "new"])  # remembered names lead to what theirs have become
    with opened.reading() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM datasets WHERE merged_into IS NULL").scalar()
        named = connection.exec_driver_sql("SELECT DISTINCT dataset_id FROM dataset_names").scalars().all()
        touched = connection.exec_driver_sql("SELECT DISTINCT dataset_id FROM edges").scalars().all()
    assert (left, named, touched) == (1, named[:1], named[:1])


def test_a_run_that_tells_more_and_more_is_kept_short(opened) -> None:
    run_id = "00000000-0000-0000-0000-000000000001"
    about = facet("Run", run_id=run_id, pipeline_id="p", project="shop", environment="dev")
    for number in range(6):
        partitions = [f"dt={number}-{part}" + "x" * 480 for part in range(4_000)]
        node = facet("Node", node_id=f"n{number}", partitions=partitions)
        out = dataset(f"out{number}") | {"outputFacets": {"aiflow_node": node}}
        store(opened, run_event(run_id=run_id, outputs=[out], run_facets={"aiflow_run": about}))
    with opened.reading() as connection:
        lengths = [
            connection.exec_driver_sql(f"SELECT max(length(fold)) FROM {table}").scalar()
            for table in ("makings", "runs")
        ]
        (run,) = list_runs(connection, EVERYTHING, RunFilter(), before=None, limit=5)[0]
        story = find_run(connection, EVERYTHING, run["run_id"])
    assert lengths[0] < 5_000_000
    assert lengths[1] < 200_000
    assert story is not None
    assert {one["is_cut"] for one in story["datasets"]} == {True}


def test_a_figure_has_no_name_of_any_length() -> None:
    event = run_event(run_facets={"aiflow_run": facet("Run", environment="e" * 5_000)})
    fold = RunFold.of_event(read_event(json.dumps(event).encode()))
    _count(Outcome({}, {}, [("p" * 5_000, fold)], 0, {}), 1, 0.1)
    told = generate_latest().decode()
    assert f'pipeline="{"p" * _LABEL_CHARACTERS}"' in told
    assert "p" * (_LABEL_CHARACTERS + 1) not in told
