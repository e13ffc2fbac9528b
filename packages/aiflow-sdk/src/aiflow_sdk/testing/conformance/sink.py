"""What every sink must do, as tests that any sink inherits.

::

    class TestArchive(SinkConformance):
        sink = Archive(folder=…)

        def read(self):
            return …  # what lies there now, as a list of dicts
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import ValidationError

from aiflow_sdk.errors import DataError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, FileSink, Sink, Write, Written

if TYPE_CHECKING:
    import pyarrow as pa

DAY, NEXT_DAY = "2026-11-20", "2026-11-21"


def run_of(day: str = DAY, generation: int = 1, attempt: int = 1) -> Run:
    """Return a run for a day."""
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="test",
        project="default",
        pipeline_id="conformance",
        partition_key=day,
        partition_grain="day",
        execution=generation,
        generation=generation,
        attempt=attempt,
    )


class SinkConformance:
    """Derive a test class, set ``sink`` (make it in a fixture, empty for each test), and say how its rows are read.

    A sink with a partition column for the run's day is asked for it as ``time``; others are replaced whole.
    """

    sink: Sink
    replaces: ClassVar[bool] = True
    """Whether a write takes the place of the one before; what only appends says False."""

    def read(self) -> Sequence[Mapping[str, Any]]:
        """Return what the sink holds now; an empty list where nothing was ever written."""
        raise NotImplementedError

    @property
    def time(self) -> str | None:
        """The partition column that holds the run's day."""
        columns = self.sink.partition_columns()
        return columns[0] if columns else None

    def write(self, ids: Sequence[int], run: Run) -> Written:
        """Write rows of these ids."""
        return self.sink.write(self.reader(ids), self.request(run))

    def reader(self, ids: Sequence[int], *, fails: bool = False) -> pa.RecordBatchReader:
        import pyarrow as pa

        schema = pa.schema({"id": pa.int64(), "name": pa.string()})

        def batches() -> Iterator[pa.RecordBatch]:
            for number in ids:
                yield pa.RecordBatch.from_pydict({"id": [number], "name": [f"it's №{number}; --"]}, schema=schema)
            if fails:
                raise RuntimeError("the engine died")

        return pa.RecordBatchReader.from_batches(schema, batches())

    def request(self, run: Run) -> Write:
        """Return what a run asks of the sink."""
        time = self.time
        return Write("out", run, {time: run.partition_key or ""} if time else {}, time)

    def ids(self) -> list[int]:
        """Return the ids that lie there, sorted."""
        return sorted(row["id"] for row in self.read())

    def test_it_has_a_kind_and_a_description(self) -> None:
        assert self.sink.kind
        assert (type(self.sink).__doc__ or "").strip()

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(self.sink, next(iter(type(self.sink).model_fields)), None)

    def test_its_options_make_it_again(self) -> None:
        options = json.loads(json.dumps(self.sink.model_dump(mode="json")))
        again = type(self.sink).load(options, self.sink.environment)
        assert again.model_dump() == self.sink.model_dump()

    def test_it_travels_to_another_process(self) -> None:
        assert pickle.loads(pickle.dumps(self.sink)).dataset() == self.sink.dataset()

    def test_the_dataset_has_a_name(self) -> None:
        name = self.sink.dataset()
        assert isinstance(name, DatasetName)
        assert name.namespace
        assert name.name

    def test_what_is_written_can_be_read(self) -> None:
        written = self.write([1, 2, 3], run_of())
        assert self.ids() == [1, 2, 3]
        assert {row["name"] for row in self.read()} == {f"it's №{number}; --" for number in (1, 2, 3)}
        assert written.rows in (3, None)
        assert not written.superseded
        assert written.identity == self.sink.identity(run_of(), "out")

    def test_a_frame_without_rows_is_fine(self) -> None:
        assert self.write([], run_of()).rows in (0, None)
        assert self.ids() == []

    def test_a_repeated_write_changes_nothing_more(self) -> None:
        self.write([1, 2], run_of())
        again = self.write([1, 2], run_of(attempt=2))
        assert self.ids() == [1, 2]
        assert not again.superseded

    def test_a_newer_execution_takes_the_place_of_an_older_one(self) -> None:
        if not self.replaces:
            pytest.skip("it only appends")
        self.write([1, 2], run_of(generation=1))
        self.write([3], run_of(generation=2))
        assert self.ids() == [3]

    def test_an_older_execution_that_comes_late_changes_nothing(self) -> None:
        if not self.replaces:
            pytest.skip("it only appends")
        self.write([3], run_of(generation=2))
        late = self.write([1, 2], run_of(generation=1))
        assert late.superseded
        assert self.ids() == [3]

    def test_an_empty_run_empties_its_partition(self) -> None:
        if not self.replaces:
            pytest.skip("it only appends")
        self.write([1], run_of(generation=1))
        self.write([], run_of(generation=2))
        assert self.ids() == []

    def test_another_day_stays_as_it_is(self) -> None:
        if self.time is None:
            pytest.skip("it has no partitions")
        self.write([1], run_of(DAY, generation=1))
        before = self.sink.identity(run_of(DAY), "out")
        self.write([2], run_of(NEXT_DAY, generation=2))
        self.write([], run_of(NEXT_DAY, generation=3))
        self.write([4], run_of(NEXT_DAY, generation=4))
        assert self.ids() == [1, 4]
        assert self.sink.identity(run_of(DAY), "out") == before

    def test_days_may_be_written_in_any_order(self) -> None:
        if self.time is None:
            pytest.skip("it has no partitions")
        self.write([2], run_of(NEXT_DAY, generation=5))
        assert not self.write([1], run_of(DAY, generation=3)).superseded
        assert self.ids() == [1, 2]

    def test_a_write_that_fails_leaves_what_was_there(self) -> None:
        self.write([1, 2], run_of(generation=1))
        with pytest.raises(RuntimeError, match="the engine died"):
            self.sink.write(self.reader([7, 8], fails=True), self.request(run_of(generation=2)))
        assert self.ids() == [1, 2]
        self.write([9], run_of(generation=2, attempt=2))
        assert self.ids() == ([9] if self.replaces else [1, 2, 9])

    def test_the_identity_changes_with_the_data(self) -> None:
        self.write([1], run_of(generation=1))
        one = self.sink.identity(run_of(), "out")
        assert one == self.sink.identity(run_of(), "out")
        self.write([2], run_of(generation=2))
        assert one is None or self.sink.identity(run_of(), "out") != one

    def test_files_are_seen_after_the_commit_and_not_before(self) -> None:
        sink = self.file_sink()
        self.write([1], run_of(generation=1))
        request = self.request(run_of(generation=2))
        _, files, schema = self.put([2, 3], request)
        assert self.ids() == [1]
        written = sink.commit(files, schema, request)
        assert self.ids() == ([2, 3] if self.replaces else [1, 2, 3])
        assert written.rows == 2

    def test_each_attempt_writes_to_a_folder_of_its_own(self) -> None:
        sink = self.file_sink()
        first = Path(sink.destination(self.request(run_of(attempt=1))).folder)
        second = Path(sink.destination(self.request(run_of(attempt=2))).folder)
        assert first != second
        assert not (first.exists() and list(first.iterdir()))
        assert not first.name.startswith("_")

    def test_a_commit_without_its_partition_column_is_refused(self) -> None:
        sink = self.file_sink()
        if self.time is None:
            pytest.skip("it has no partitions")
        request = self.request(run_of())
        _, files, schema = self.put([1], request)
        with pytest.raises(DataError):
            sink.commit(files, schema.remove(schema.get_field_index(self.time)), request)
        assert self.ids() == []

    def test_rows_of_another_day_are_refused(self) -> None:
        sink = self.file_sink()
        if self.time is None:
            pytest.skip("it has no partitions")
        request = self.request(run_of())
        _, files, schema = self.put([1], request, day=NEXT_DAY)
        with pytest.raises(DataError) as caught:
            sink.commit(files, schema, request)
        assert caught.value.code == "rows-outside-partition"
        assert self.ids() == []

    def file_sink(self) -> FileSink:
        """Return the sink, if engines write its files."""
        if not isinstance(self.sink, FileSink):
            pytest.skip("it takes Arrow batches")
        return self.sink

    def put(self, ids: Sequence[int], request: Write, day: str = DAY) -> tuple[Path, list[DataFile], pa.Schema]:
        """Write a file as an engine would, and return the folder, what the engine tells of it, and the schema."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        destination = self.file_sink().destination(request)
        table = self.reader(ids).read_all()
        inner = [f"{column}={day}" for column in destination.partition_by]
        path = Path(destination.folder, *inner, "part-0.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        schema = table.schema
        for column in destination.partition_by:
            schema = schema.append(pa.field(column, pa.string()))
        file = DataFile(
            path.relative_to(destination.folder).as_posix(),
            path.stat().st_size,
            len(ids),
            dict.fromkeys(destination.partition_by, day),
        )
        return Path(destination.folder), [file], schema
