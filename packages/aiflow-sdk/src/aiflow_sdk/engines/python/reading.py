"""A source becomes a lazy frame, on the fastest road that it offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiflow_sdk.engines.usercode import plugin_code
from aiflow_sdk.errors import DataError
from aiflow_sdk.frames import held_by_polars
from aiflow_sdk.plugins import FileSource, ParquetFiles, PolarsSource, Scan, Source

if TYPE_CHECKING:
    import polars as pl


def read_source(source: Source, scan: Scan) -> pl.LazyFrame:
    """Return the source's rows: by its own polars scan, else from its Parquet files, else from its Arrow batches."""
    if isinstance(source, PolarsSource):
        with plugin_code(source):
            return source.to_polars(scan)
    frame = None
    if isinstance(source, FileSource):
        with plugin_code(source):
            files = source.parquet_files()
        frame = _read_files(files) if files and files.paths else None
    if frame is None:
        frame = _read_arrow(source, scan)
    if scan.columns is not None:
        frame = frame.select(scan.columns)
    return frame.head(scan.limit) if scan.limit is not None else frame


def _read_files(files: ParquetFiles) -> pl.LazyFrame:
    import polars as pl

    # The files hold all columns, so what stands in the names of their folders is no news.
    return pl.scan_parquet(
        list(files.paths), storage_options=dict(files.storage_options) or None, hive_partitioning=False, glob=False
    )


def _read_arrow(source: Source, scan: Scan) -> pl.LazyFrame:
    import polars as pl
    from polars.io.plugins import register_io_source

    with plugin_code(source):
        stated = source.arrow_schema()
    if stated is None:
        return _read_whole(source, scan).lazy()
    schema = pl.Schema(held_by_polars(stated))

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = columns if columns is not None else list(schema)
        limit = most if predicate is None else None
        left = limit
        for found in _batches(source, replace(scan, columns=tuple(wanted), limit=_least(scan.limit, limit))):
            part = _checked(found, {name: schema[name] for name in wanted}, source)
            if left is not None:
                part = part.head(left)
                left -= part.height
            yield part if predicate is None else part.filter(predicate)
            if left == 0:
                return

    # Cached: sinks that share the source read it once. Where one alone reads it, polars takes the cache out again.
    return register_io_source(rows, schema=schema, is_pure=True).cache()


def _read_whole(source: Source, scan: Scan) -> pl.DataFrame:
    """Return all rows at once: without a stated schema, columns are known by reading alone."""
    import polars as pl

    parts = list(_batches(source, scan))
    if not parts:
        raise DataError(
            "unknown-columns",
            f"the source '{source.kind}' gave no rows and does not say which columns it has",
            hint="let it yield an empty batch, or give it a schema() method",
        )
    return pl.concat([parts[0], *(_checked(part, parts[0].schema, source) for part in parts[1:])])


def _batches(source: Source, scan: Scan) -> Iterator[pl.DataFrame]:
    import polars as pl

    with plugin_code(source):
        for batch in source.scan(scan):
            held = held_by_polars(batch.schema)
            yield pl.DataFrame(batch if held.equals(batch.schema) else batch.cast(held))


def _checked(part: pl.DataFrame, wanted: Mapping[str, Any], source: Source) -> pl.DataFrame:
    """Return the columns that are wanted, in that order, or raise ``DataError`` (``schema-mismatch``)."""
    for name, dtype in wanted.items():
        found = part.schema.get(name)
        if found != dtype:
            what = f"as {found}" if found is not None else "not at all"
            raise DataError(
                "schema-mismatch",
                f"the source '{source.kind}' says that column '{name}' is {dtype}, and yields it {what}",
                hint="let schema() and scan() agree",
                notes=[f"columns of the batch: {', '.join(part.columns)}"],
            )
    return part.select(list(wanted))


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
