"""What must hold in every cell of the matrix, as a class that a store's file of tests derives from."""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from aiflow_sdk.errors import DataError
from aiflow_sdk.plugins import Pending, Scan
from cells.lake import DAYS, Cell, Columns, LakeTable, Row, cells_of, columns, in_order, rows_of, run_of
from harness.fixtures import MakePlace
from harness.killing import Job, run
from harness.place import Kind
from harness.zygote import Zygote

DAY, NEXT, LAST = DAYS
ODD_IN_STORES = ("a/b", "%2F", 'it\'s "x"', "ü 中文", "..", "", None)
ODD = (*ODD_IN_STORES, "../../x", " x ", "a=b", "null", "a;b", "?x#y", "100%")
"""Values of a partition column; the empty text is null, as Delta's protocol has it. Of stores, where each is a dear
request, the first."""

EMPTY_FRAMES_REPLACE_NOTHING = (
    "overwrite_partitions replaces the partitions that the frame has rows of, and an empty one has none"
)


class ModeClaims:
    """Derive from it and set ``store``."""

    store: ClassVar[Kind]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give the tests the store's cells."""
        if "cell" in metafunc.fixturenames:
            cells = cells_of(self.store)
            metafunc.parametrize("cell", cells, indirect=True, ids=[f"{cell.mode}-{cell.engine}" for cell in cells])

    @pytest.fixture
    def cell(self, request: pytest.FixtureRequest) -> Cell:
        """The cell, which the outcome is noted for."""
        cell: Cell = request.param
        request.node.user_properties.append(("cell", str(cell)))
        return cell

    @pytest.fixture
    def table(self, cell: Cell, make_place: MakePlace, spark_session: None) -> LakeTable:
        """The cell's table, which is not there yet."""
        return LakeTable.at(cell.mode, cell.engine, make_place(cell.store))

    def test_a_retry_lands_once_with_the_newer_attempts_rows(self, table: LakeTable) -> None:
        table.write(columns(1, 2), DAY, 1)
        again = table.write(columns(1, 3, text="b"), DAY, 1, attempt=2)
        assert not again.superseded
        assert table.rows() == rows_of(columns(1, 3, text="b"), DAY)

    def test_many_tries_by_two_threads_at_once_land_once(self, table: LakeTable) -> None:
        tries = 10 if self.store == "folder" else 4  # which are as dear as forty in a folder
        start, failed = threading.Barrier(2), []

        def try_again(first: int) -> None:
            start.wait()
            try:
                for attempt in range(first, first + tries, 2):
                    table.write(columns(1, 2, text=f"try{attempt}-"), DAY, 1, attempt)
            except BaseException as error:  # noqa: BLE001  # whatever a thread dies of is to be seen
                failed.append(error)

        threads = [threading.Thread(target=try_again, args=(first,)) for first in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert table.rows() in [rows_of(columns(1, 2, text=f"try{attempt}-"), DAY) for attempt in (tries - 1, tries)]

    def test_two_processes_at_once_land_once(self, table: LakeTable, writers: Zygote) -> None:
        job = write_job(table, [{"frame": columns(1, 2, text=text), "day": DAY} for text in "ab"])
        done = run(job, zygote=writers)
        assert done.returncode == 0, done.output
        assert table.rows() in [rows_of(columns(1, 2, text=text), DAY) for text in "ab"]

    def test_two_days_at_once_both_land(self, table: LakeTable, writers: Zygote) -> None:
        days = {DAY: columns(1, 2), NEXT: columns(3)}
        job = write_job(table, [{"frame": frame, "day": day} for day, frame in days.items()])
        done = run(job, zygote=writers)
        assert done.returncode == 0, done.output
        assert table.rows() == together(days)

    def test_a_newer_execution_replaces_and_an_older_one_that_comes_late_is_superseded(self, table: LakeTable) -> None:
        if table.mode == "error_if_exists":
            table.write(columns(2, 3, text="b"), DAY, 5)
            with pytest.raises(DataError) as caught:
                table.write(columns(3), DAY, 6)
            assert caught.value.code == "already-exists"
        else:
            table.write(columns(1, 2), DAY, 1)
            table.write(columns(2, 3, text="b"), DAY, 5)
            assert table.rows() == rows_of(columns(2, 3, text="b"), DAY)
        late = table.write(columns(1, 4, text="late"), DAY, 4)
        assert late.superseded
        assert table.rows() == table.rows_by_delta() == rows_of(columns(2, 3, text="b"), DAY)

    def test_days_in_any_order_give_the_same_table(self, table: LakeTable) -> None:
        # Of an upsert they share a key, of which the latest day's row stays.
        days = {DAY: columns(1, 9), NEXT: columns(2, 9, text="b"), LAST: columns(3, 9, text="c")}
        for generation, day in enumerate((LAST, DAY, NEXT), 1):
            table.write(days[day], day, generation)
        if table.mode == "upsert":
            days |= {DAY: columns(1), NEXT: columns(2, text="b")}
        assert table.rows() == together(days)

    def test_a_run_without_rows_empties_its_partition_and_is_known(
        self, table: LakeTable, request: pytest.FixtureRequest
    ) -> None:
        if table.mode == "overwrite_partitions":
            request.applymarker(pytest.mark.xfail(reason=EMPTY_FRAMES_REPLACE_NOTHING, strict=True))
        if table.mode == "error_if_exists":
            table.write(columns(1), NEXT, 1)
        else:
            table.write(columns(1, 2), DAY, 1)
        table.write(columns(), DAY, 2)
        assert table.rows() == (rows_of(columns(1), NEXT) if table.mode == "error_if_exists" else [])
        facts = table.source().partition_facts("dt", [DAY, LAST])
        assert {day: fact.state for day, fact in facts.items()} == {DAY: "empty", LAST: "absent"}

    def test_what_an_audit_withdraws_leaves_nothing(self, table: LakeTable) -> None:
        class NotGoodError(Exception):
            pass

        def audit(pending: Pending) -> None:
            raise NotGoodError

        table.write(columns(1), DAY, 1)
        before = table.data_files()
        made, read = table.sink.identity(run_of(DAY, 1), "out"), table.source().partition_facts("dt", [DAY])
        for day in (NEXT, DAY):
            with pytest.raises(NotGoodError):
                table.write(columns(2), day, 2, audit=audit)
        assert table.data_files() == before
        # Whoever looks whether it, or what was made of it, has to be made again, finds it as it was.
        assert table.sink.identity(run_of(DAY, 1), "out") == made
        assert table.source().partition_facts("dt", [DAY]) == read
        assert table.rows() == table.rows_by_delta() == rows_of(columns(1), DAY)

    def test_nobody_sees_a_write_before_its_audit_publishes_it(self, table: LakeTable) -> None:
        seen = []

        def audit(pending: Pending) -> None:
            assert pending.source is not None
            rows = [row for batch in pending.source.scan(Scan()) for row in batch.to_pylist()]
            seen.extend([in_order(rows), table.rows(), table.rows_by_delta()])

        table.write(columns(1), DAY, 1)
        table.write(columns(2, 3), NEXT, 2, audit=audit)
        old, new = rows_of(columns(1), DAY), rows_of(columns(2, 3), NEXT)
        assert seen == [new, old, old]
        both = together({DAY: columns(1), NEXT: columns(2, 3)})
        assert table.rows() == table.rows_by_delta() == table.rows_by_engine() == both

    def test_time_travel_shows_the_old_rows(self, table: LakeTable) -> None:
        first = table.write(columns(1, 2), DAY, 1)
        between = dt.datetime.now(dt.UTC)
        if self.store != "folder":
            # Stores tell whole seconds of a commit's time.
            between = between.replace(microsecond=0) + dt.timedelta(seconds=1)
        time.sleep(max(0.0, (between - dt.datetime.now(dt.UTC)).total_seconds()) + 0.02)
        if self.store != "folder":
            time.sleep(1)
        day = NEXT if table.mode == "error_if_exists" else DAY
        table.write(columns(3), day, 2)
        assert first.table_version is not None
        for options in ({"version": first.table_version}, {"as_of": between.isoformat()}):
            assert table.rows(**options) == rows_of(columns(1, 2), DAY), options

    def test_odd_partition_values_come_back_and_are_replaced(self, table: LakeTable) -> None:
        values = ODD if self.store == "folder" else ODD_IN_STORES
        odd = replace(table, options={"partition_by": ["dt", "v"], "time": "dt"})
        frame = columns(*range(len(values)), v=values)
        odd.write(frame, DAY, 1)
        expected = rows_of({**frame, "v": [value or None for value in values]}, DAY)
        assert odd.rows() == odd.rows_by_delta() == odd.rows_by_engine() == expected
        for value in ("a/b", "%2F", ".."):
            (row,) = odd.rows(partitions={"v": value})
            assert dict(row)["v"] == value
        day = NEXT if table.mode == "error_if_exists" else DAY
        odd.write({**frame, "value": ["new"] * len(values)}, day, 2)
        if table.mode != "error_if_exists":
            assert {dict(row)["value"] for row in odd.rows()} == {"new"}
        assert len(odd.rows()) == len(values) * (2 if table.mode == "error_if_exists" else 1)


def write_job(table: LakeTable, writes: list[dict[str, object]]) -> Job:
    """Return a job that makes the writes, each in a process of its own, all at once."""
    environment = table.environment
    given = {
        "mode": table.mode,
        "engine": table.engine,
        "lake": environment.lake,
        "storage": dict(environment.storage),
        "session": {name: value for name, value in os.environ.items() if name.startswith("AIFLOW_SESSION")},
    }
    return Job(Path(__file__).with_name("jobs.py"), "write_at_once", [given, writes])


def together(days: Mapping[str, Columns]) -> list[Row]:
    """Return the rows of several days."""
    return in_order(dict(row) for day, frame in days.items() for row in rows_of(frame, day))
