"""SQL over polars frames, by DuckDB."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError, DataError, DefinitionError, MissingExtraError, UserCodeError, install_hint
from aiflow_sdk.frames import FrameKind, convert, name_inputs

if TYPE_CHECKING:
    import duckdb
    import polars as pl


def run_query(query: str, inputs: Mapping[str, Any]) -> pl.LazyFrame:
    """Return the query's result as a lazy frame; ``{name}`` in it stands for an input.

    Inputs are registered, never pasted, and read with the columns and conditions that the query needs. Each computation
    runs the query in a connection of its own, which reaches no file and no network. Raises ``UserCodeError``
    (``sql-failed``) with the place in the query, ``DefinitionError`` (``bad-sql``) for anything but one query.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    views: dict[str, Any] = {}

    def view_of(name: str, input_id: str) -> str:
        views[name] = inputs[input_id]
        return f'"{name}"'

    text = name_inputs(query, inputs, view_of)

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        with _told(text, views), _connection(views) as connection:
            relation = connection.sql(text)
            if columns is not None:
                relation = relation.project(", ".join(map(_quoted, columns)))
            if most is not None and predicate is None:
                relation = relation.limit(most)
            reader = relation.to_arrow_reader(size or 100_000)
            try:
                for batch in reader:
                    part = pl.DataFrame(batch)
                    yield part if predicate is None else part.filter(predicate)
            finally:
                reader.close()

    with _told(text, views), _connection(views) as connection:
        _check_is_query(connection, text)
        relation = connection.sql(text)
        if repeated := sorted({name for name in relation.columns if relation.columns.count(name) > 1}):
            raise DataError(
                "bad-column-names",
                f"the query gives more than one column called {' and '.join(map(repr, repeated))}",
                hint="name each of them with 'as'",
            )
        schema = convert(relation.limit(0).to_arrow_table(), FrameKind.POLARS).schema
    return register_io_source(rows, schema=schema, is_pure=True).cache()


@contextmanager
def user_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection for relations that are handed to user code; it may reach what the user's process may."""
    with _told("", {}), _opened({}) as connection:
        yield connection


@contextmanager
def _connection(views: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    with _opened({"enable_external_access": False, "python_enable_replacements": False}) as connection:
        for name, frame in views.items():
            connection.register(name, frame)
        yield connection


@contextmanager
def _opened(settings: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("missing-extra", "SQL needs the package duckdb", hint=install_hint("sql")) from error

    # DuckDB's own choice would leave a folder .tmp wherever the process runs.
    spill = Path(tempfile.gettempdir()) / f"aiflow-duckdb-{os.getpid()}"
    connection = duckdb.connect(config={**settings, "temp_directory": str(spill)})
    try:
        # Else moments come back in the machine's time zone.
        connection.execute("set TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


@contextmanager
def _told(text: str, views: Mapping[str, Any]) -> Iterator[None]:
    try:
        import duckdb
    except ImportError:
        yield
        return
    try:
        yield
    except AiflowError:
        raise
    except duckdb.Error as error:
        message, *details = str(error).strip().splitlines() or [type(error).__name__]
        # The view is as wide as its placeholder, so the mark below stays where it belongs.
        for name in views:
            details = [line.replace(f'"{name}"', f"{{{name}}}") for line in details]
        raise UserCodeError(
            "sql-failed",
            f"the query failed: {message}",
            hint=_hint(details),
            notes=[line for line in details if line] or [text],
        ) from error


def _hint(details: list[str]) -> str | None:
    return next((line.strip() for line in details if line.startswith(("Did you mean", "Candidate bindings"))), None)


def _check_is_query(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    import duckdb

    statements = connection.extract_statements(text)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DefinitionError(
            "bad-sql", "a SQL node is one query that gives rows", hint="write one SELECT; sinks do the writing"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
