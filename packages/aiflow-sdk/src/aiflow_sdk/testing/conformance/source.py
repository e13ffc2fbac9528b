"""What every source must do, as tests that any source inherits.

::

    class TestRss(SourceConformance):
        source = Rss(url=FEED)
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from aiflow_sdk.errors import AiflowError, ConfigurationError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import PartitionedSource, PolarsSource, Predicate, Scan, Source

if TYPE_CHECKING:
    import pyarrow as pa

RUN = Run(
    run_id="0193c000-0000-7000-8000-000000000000",
    environment="test",
    project="default",
    pipeline_id="conformance",
    partition_key="2026-11-20",
    partition_grain="day",
)

DRIVERS = ("polars", "pyarrow", "pandas", "pyspark", "deltalake", "duckdb")


class SourceConformance:
    """Derive a test class, and set ``source`` (or make it in a fixture) to one that yields at least one row."""

    source: Source
    absent: Source | None = None
    """The same source where its data is not there, if that can be."""

    def rows(self, request: Scan) -> pa.Table:
        import pyarrow as pa

        batches = list(self.source.scan(request))
        assert batches, "scan() yields at least one batch, so that the columns are known"
        assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
        return pa.Table.from_batches(batches)

    def test_it_has_a_kind_and_a_description(self) -> None:
        assert self.source.kind
        assert (type(self.source).__doc__ or "").strip()

    def test_it_cannot_be_changed(self) -> None:
        name = next(iter(type(self.source).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(self.source, name, None)

    def test_its_options_make_it_again(self) -> None:
        options = json.loads(json.dumps(self.source.model_dump(mode="json")))
        again = type(self.source).load(options, self.source.environment)
        assert again.model_dump() == self.source.model_dump()

    def test_an_unknown_option_is_refused(self) -> None:
        options = {**self.source.model_dump(mode="json"), "no_such_option": 1}
        assert "unknown-option" in {problem.code for problem in type(self.source).problems(options)}
        with pytest.raises(ConfigurationError):
            type(self.source).load(options)

    def test_it_travels_to_another_process(self) -> None:
        again = pickle.loads(pickle.dumps(self.source))
        assert again.model_dump() == self.source.model_dump()
        assert again.dataset() == self.source.dataset()

    def test_importing_it_imports_no_driver(self) -> None:
        program = (
            f"import sys, {type(self.source).__module__}; "
            f"print(*(name for name in {DRIVERS!r} if name in sys.modules), end='')"
        )
        path = [entry for entry in sys.path if entry]
        result = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {program}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == ""

    def test_the_dataset_has_a_name(self) -> None:
        name = self.source.dataset()
        assert isinstance(name, DatasetName)
        assert name.namespace
        assert name.name
        assert self.source.dataset() == name

    def test_it_yields_rows_of_one_schema(self) -> None:
        assert self.rows(Scan(RUN)).num_rows > 0

    def test_the_schema_is_that_of_the_rows(self) -> None:
        schema = self.source.arrow_schema()
        if schema is not None:
            found = self.rows(Scan(RUN)).schema
            assert found.names == schema.names
            assert found.types == schema.types

    def test_it_can_be_read_again(self) -> None:
        assert sorted_rows(self.rows(Scan(RUN))) == sorted_rows(self.rows(Scan(RUN)))

    def test_columns_are_a_wish(self) -> None:
        full = self.rows(Scan(RUN))
        name = full.column_names[-1]
        few = self.rows(Scan(RUN, columns=(name,)))
        assert name in few.column_names
        assert sorted_rows(few.select([name])) == sorted_rows(full.select([name]))

    def test_no_row_that_a_predicate_wants_is_lost(self) -> None:
        full = self.rows(Scan(RUN))
        for name in full.column_names:
            values = [value for value in full.column(name).to_pylist() if isinstance(value, int | str)]
            if not values:
                continue
            wanted = Predicate(name, "==", values[0])
            found = self.rows(Scan(RUN, predicates=(wanted,)))
            assert found.column(name).to_pylist().count(values[0]) == values.count(values[0])

    def test_a_limit_gives_no_less(self) -> None:
        full, few = self.rows(Scan(RUN)), self.rows(Scan(RUN, limit=1))
        assert 1 <= few.num_rows <= full.num_rows

    def test_the_identity_stays_while_the_data_does(self) -> None:
        identity = self.source.identity(RUN)
        assert identity is None or (isinstance(identity, str) and identity == self.source.identity(RUN))

    def test_what_it_measures_is_so(self) -> None:
        rows, size = self.source.measure(RUN)
        assert rows is None or rows == self.rows(Scan(RUN)).num_rows
        assert size is None or size >= 0

    def test_polars_reads_the_same(self) -> None:
        source = self.source
        if not isinstance(source, PolarsSource):
            pytest.skip("polars reads it through Arrow")
        full = self.rows(Scan(RUN))
        frame = source.to_polars(Scan(RUN)).collect()
        assert frame.columns == full.column_names
        assert sorted_rows(frame.to_arrow()) == sorted_rows(full)
        name = full.column_names[0]
        assert source.to_polars(Scan(RUN, columns=(name,), limit=1)).collect().shape == (1, 1)

    def test_its_partitions_are_sorted_text(self) -> None:
        source = self.source
        if not isinstance(source, PartitionedSource):
            pytest.skip("it has no partitions")
        columns = getattr(source, "partitions", {})
        for column in columns:
            present = list(source.present(column))
            assert all(isinstance(key, str) for key in present)
            assert len(set(present)) == len(present)

    def test_absent_data_is_an_error_that_helps(self) -> None:
        if self.absent is None:
            pytest.skip("its data is always there")
        with pytest.raises(AiflowError) as caught:
            list(self.absent.scan(Scan(RUN)))
        assert caught.value.code
        assert caught.value.hint or caught.value.notes


def sorted_rows(table: pa.Table) -> list[str]:
    """Return the rows as sorted text: order means nothing."""
    return sorted(map(repr, map(plain, table.to_pylist())))


def plain(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the row's values, moments told alike whatever library made them."""
    return [(name, value.isoformat() if hasattr(value, "isoformat") else value) for name, value in row.items()]
