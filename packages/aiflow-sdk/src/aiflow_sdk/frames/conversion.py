"""One kind of frame becomes another, through Arrow and in batches where the kinds allow it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import DataError, MissingExtraError
from aiflow_sdk.frames.kind import FrameKind, kind_of
from aiflow_sdk.frames.polars_schema import held_by_polars

if TYPE_CHECKING:
    import duckdb
    import pandas
    import polars
    import pyarrow as pa

_BATCH_ROWS = 100_000
_view_numbers = itertools.count(1)


def convert(
    frame: Any, kind: FrameKind, *, connection: duckdb.DuckDBPyConnection | None = None, spark: Any = None
) -> Any:
    """Return the frame as another kind; one that is of the kind already comes back as it is.

    A relation of DuckDB lives in ``connection`` (else in one of its own), a Spark frame in the session ``spark``.
    Raises ``DataError`` for columns that the other kind cannot hold, ``MissingExtraError`` when its package is not
    installed.
    """
    if kind_of(frame) is kind:
        return frame
    try:
        match kind:
            case FrameKind.POLARS_LAZY:
                return _to_polars(frame).lazy()
            case FrameKind.POLARS:
                return _to_polars(frame)
            case FrameKind.ARROW:
                return _to_arrow(frame)
            case FrameKind.PANDAS:
                return _to_pandas(_to_arrow(frame))
            case FrameKind.DUCKDB:
                return _to_relation(frame, connection)
            case FrameKind.SPARK:
                if spark is None:
                    raise TypeError("a Spark frame is made in a Spark session: pass spark=")
                return spark.createDataFrame(_to_arrow(frame))
    except ImportError as error:
        package = kind.value.partition(".")[0]
        raise MissingExtraError(
            "missing-extra",
            f"a {kind.value} needs a package that is not installed: {error}",
            hint=f"install {error.name or package}, or annotate another kind of frame",
        ) from error


def to_reader(frame: Any) -> pa.RecordBatchReader:
    """Return the frame as Arrow record batches, computed while they are read where the frame is lazy."""
    import pyarrow as pa

    match kind_of(frame):
        case FrameKind.POLARS_LAZY:
            schema = frame.collect_schema().to_frame().to_arrow().schema
            return pa.RecordBatchReader.from_batches(schema, _lazy_batches(frame, schema))
        case FrameKind.DUCKDB:
            return frame.to_arrow_reader(_BATCH_ROWS)
        case _:
            return _to_arrow(frame).to_reader(_BATCH_ROWS)


def rows_of(frame: Any) -> int | None:
    """Return how many rows the frame has where that is known without computing it, else None."""
    match kind_of(frame):
        case FrameKind.POLARS:
            return int(frame.height)
        case FrameKind.ARROW:
            return int(frame.num_rows)
        case FrameKind.PANDAS:
            return len(frame)
        case _:
            return None


def _lazy_batches(frame: polars.LazyFrame, schema: pa.Schema) -> Any:
    for part in frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, engine="streaming"):
        yield from part.to_arrow().cast(schema).to_batches(_BATCH_ROWS)


def _to_polars(frame: Any) -> polars.DataFrame:
    import polars

    kind = kind_of(frame)
    if kind is FrameKind.POLARS:
        return frame  # type: ignore[no-any-return]  # known by its kind
    if kind is FrameKind.POLARS_LAZY:
        return frame.collect(engine="streaming")  # type: ignore[no-any-return]  # likewise
    table = _to_arrow(frame)
    if repeated := _repeated(table.column_names):
        raise _bad_names(repeated)
    if not (held := held_by_polars(table.schema)).equals(table.schema):
        table = table.cast(held)
    try:
        found = polars.from_arrow(table)
    except polars.exceptions.PolarsError as error:
        raise DataError(
            "unsupported-type", f"polars cannot hold a column of this frame: {error}", hint="cast it"
        ) from error
    assert isinstance(found, polars.DataFrame)
    return found


def _to_arrow(frame: Any) -> pa.Table:
    match kind_of(frame):
        case FrameKind.ARROW:
            return frame
        case FrameKind.POLARS | FrameKind.POLARS_LAZY:
            return _to_polars(frame).to_arrow()
        case FrameKind.PANDAS:
            return _pandas_to_arrow(frame)
        case FrameKind.DUCKDB:
            return frame.to_arrow_table()
        case FrameKind.SPARK:
            return frame.toArrow()
        case None if hasattr(frame, "read_all"):
            return frame.read_all()
        case None:
            raise TypeError(f"{type(frame).__module__}.{type(frame).__qualname__} is no frame")


def _pandas_to_arrow(frame: pandas.DataFrame) -> pa.Table:
    """Return the frame as Arrow: a named index becomes columns, one without a name counts rows and is left out."""
    import pyarrow as pa

    if frame.columns.nlevels > 1:
        raise DataError(
            "bad-column-names",
            f"the pandas frame has {frame.columns.nlevels} levels of column names: {list(frame.columns)[:3]} …",
            hint='join them: frame.columns = ["_".join(map(str, names)) for names in frame.columns]',
        )
    names = [*(str(name) for name in frame.index.names if name is not None), *map(str, frame.columns)]
    if repeated := _repeated(names):
        raise _bad_names(repeated)
    if any(name is not None for name in frame.index.names):
        unnamed = [level for level, name in enumerate(frame.index.names) if name is None]
        frame = (frame.droplevel(unnamed) if unnamed else frame).reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            "unsupported-type",
            f"a pandas column holds what Arrow cannot: {' '.join(map(str, error.args))}",
            hint='give the column one type, as in frame["x"].astype("string")',
        ) from error
    return table.replace_schema_metadata(None)


def _to_pandas(table: pa.Table) -> pandas.DataFrame:
    """Return the table for pandas, each column in a type that keeps what Arrow knows, even of no rows and of nulls.

    Numbers, truth and moments are NumPy's; whole numbers and truth with nulls are pandas' nullable ones, not floats.
    Text is pandas' own string type (of pandas 3, NaN for null). What NumPy has no type for stays Arrow's.
    """
    import pandas

    if repeated := _repeated(table.column_names):
        raise _bad_names(repeated)
    columns = {
        name: column.to_pandas(types_mapper=_pandas_type(column.type, has_nulls=column.null_count > 0))
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pandas.DataFrame(columns)


def _pandas_type(arrow: pa.DataType, *, has_nulls: bool) -> Callable[[pa.DataType], Any] | None:
    import pandas
    import pyarrow.types as kinds

    if kinds.is_integer(arrow) or kinds.is_boolean(arrow):
        name = str(arrow).replace("uint", "UInt").replace("int", "Int").replace("bool", "boolean")
        return (lambda _: pandas.api.types.pandas_dtype(name)) if has_nulls else None
    if kinds.is_floating(arrow) or kinds.is_timestamp(arrow) or kinds.is_duration(arrow) or kinds.is_dictionary(arrow):
        return None
    if kinds.is_string(arrow) or kinds.is_large_string(arrow) or kinds.is_string_view(arrow):
        return lambda _: pandas.StringDtype("pyarrow", na_value=float("nan"))
    return None if kinds.is_null(arrow) else pandas.ArrowDtype


def _to_relation(frame: Any, connection: duckdb.DuckDBPyConnection | None) -> duckdb.DuckDBPyRelation:
    if connection is None:
        import duckdb

        connection = duckdb.connect()
        connection.execute("set TimeZone = 'UTC'")
    # DuckDB reads a lazy frame by itself, with what it needs pushed down; the rest through Arrow.
    known = frame if kind_of(frame) is FrameKind.POLARS_LAZY else _to_arrow(frame)
    name = f"frame_{next(_view_numbers)}"
    connection.register(name, known)
    return connection.view(name)


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _bad_names(repeated: list[str]) -> DataError:
    return DataError(
        "bad-column-names",
        f"the frame has more than one column called {' and '.join(map(repr, repeated))}",
        hint="rename or drop one of each; an index of the same name counts too",
    )
