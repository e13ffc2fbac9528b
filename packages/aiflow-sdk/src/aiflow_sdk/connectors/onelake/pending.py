"""The rows of a write that is not published yet, as a source: what an audit looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from pydantic import PrivateAttr

from aiflow_sdk.connectors.onelake.change import Change
from aiflow_sdk.connectors.parquet import check_request, group_files, scan_polars
from aiflow_sdk.frames import to_reader
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plugins import Scan, Source

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class PendingRows(Source, kind="pending"):
    """Rows whose files lie below a table that does not hold them yet."""

    _change: Change = PrivateAttr()

    @classmethod
    def of(cls, change: Change) -> Self:
        """Return the rows of the change."""
        made = cls()
        made._change = change
        return made

    def dataset(self) -> DatasetName:
        """Return the name of the table that they are for."""
        return DatasetName("onelake", self._change.name)

    def arrow_schema(self) -> pa.Schema:
        """Return the frame's columns, as the table would have them."""
        import pyarrow as pa

        return pa.schema(self._change.schema.to_arrow())

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows."""
        schema = self.arrow_schema()
        wanted = schema if request.columns is None else schema.empty_table().select(list(request.columns)).schema
        for batch in to_reader(self.to_polars(request)):
            yield batch.cast(wanted)

    def to_polars(self, request: Scan) -> pl.LazyFrame:
        """Return the rows as a lazy frame."""
        import polars as pl

        change, schema = self._change, pl.Schema(self._change.schema)
        check_request(request, tuple(schema), f"'{change.name}'")
        groups = group_files((change.place.file(file.path), file.partition) for file in change.added(change.types))
        return scan_polars(groups, schema, request, change.place.options)
