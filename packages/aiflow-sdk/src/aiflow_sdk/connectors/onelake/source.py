"""Tables of the lake as a source."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake.catalog import facts_of, lake_tables
from aiflow_sdk.connectors.onelake.identity import begun_app, made_app
from aiflow_sdk.connectors.onelake.location import (
    LOG_FOLDER,
    TablePlace,
    check_path,
    check_table_name,
    dataset_name,
    is_deferred,
    read_places,
    unknown_table,
)
from aiflow_sdk.connectors.onelake.options import check_format, check_one_place
from aiflow_sdk.connectors.onelake.table import ActiveFile, Allowed, TableState, files_identity, load_table, read_table
from aiflow_sdk.connectors.onelake.values import shown_text, typed_value
from aiflow_sdk.connectors.parquet import (
    arrow_filter,
    check_request,
    group_files,
    narrow_polars,
    scan_arrow,
    scan_polars,
)
from aiflow_sdk.errors import AiflowError, ConfigurationError, DataError, did_you_mean, plural, unknown_name
from aiflow_sdk.frames import to_reader
from aiflow_sdk.ir import DatasetName, FrozenMap, PlainMap
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Hidden, PartitionFacts, PartitionState, Predicate, Reading, Scan, Source, TableFacts

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class _Found:
    """Which state of the table is read."""

    pinned: tuple[str, int] | None = None
    """The environment whose lake is read, and the version."""
    is_fixed: bool = False
    """Whether the run said so, and not what was found first."""
    state: TableState | None = None
    """What was read last."""


class OneLakeSource(Source, kind="onelake"):
    """A table of the lake, or some of its partitions."""

    drivers: ClassVar[tuple[str, ...]] = ("deltalake",)

    table: str | None = None
    """``schema.table``."""
    path: str | None = None
    """Instead of ``table``: where the table lies, relative to the lake's root."""
    format: str = "delta"
    partitions: PlainMap = FrozenMap()
    """Partition column → the value that is wanted, a list of them, None (null) or a window."""
    version: int | None = Field(default=None, ge=0)
    """Of the table; None: the newest."""
    as_of: datetime | None = None
    """Instead of ``version``: the newest one of that moment; without a time zone it is meant in UTC."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        check_one_place(self.kind, self.table, self.path)
        check_format(self.format)
        if self.table is not None and not is_deferred(self.table):
            check_table_name(self.table)
        if self.path is not None and not is_deferred(self.path):
            check_path(self.path)
        if self.version is not None and self.as_of is not None:
            raise ConfigurationError(
                "bad-option", "'onelake' has both 'version' and 'as_of'", hint="leave one of them out"
            )
        return self

    @cached_property
    def _found(self) -> _Found:
        # Private attributes of pydantic's would cost the compiler, which reads nothing, as much as a few fields. It is
        # replaced and never changed, so that a copy has its own.
        return _Found()

    def _find(self, **changed: Any) -> None:
        self.__dict__["_found"] = replace(self._found, **changed)

    @property
    def name(self) -> str:
        """The table's logical name."""
        return self.dataset().name

    def dataset(self) -> DatasetName:
        """Return the logical name; the environment gives the address."""
        return dataset_name(self.table, self.path)

    def arrow_schema(self) -> pa.Schema:
        """Return the table's columns. Raises ``UnknownNameError`` (``unknown-table``)."""
        return _arrow_schema(self._load())

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the wanted partitions."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        schema = _arrow_schema(state)
        allowed = self._allowed(state, _timezone(request.run))
        if state.has_deletion_vectors:
            reader = pa.RecordBatchReader.from_stream(state.table.scan())
            predicates = [*request.predicates, *_predicates(allowed)]
            columns = list(request.columns or schema.names)
            rows = (batch.cast(schema) for batch in reader)
            scanner = ds.Scanner.from_batches(rows, schema=schema, columns=columns, filter=arrow_filter(predicates))
            yield from scanner.to_batches()
        elif state.place.folder is None:
            # polars knows the store's options, and reads of each file what is asked for.
            wanted = pa.schema([schema.field(name) for name in request.columns or schema.names])
            for batch in to_reader(self.to_polars(request)):
                yield batch.cast(wanted)
        else:
            yield from scan_arrow(_groups(state, state.matching(allowed)), schema, request)

    def to_polars(self, request: Scan) -> pl.LazyFrame:
        """Return a lazy frame over just the files of the wanted partitions."""
        import polars as pl

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        allowed = self._allowed(state, _timezone(request.run))
        if not state.has_deletion_vectors:
            groups = _groups(state, state.matching(allowed))
            return scan_polars(groups, pl.Schema(state.table.schema()), request, state.place.options)
        frame = narrow_polars(pl.scan_delta(state.table), Scan(predicates=tuple(_predicates(allowed))))
        return narrow_polars(frame, request)

    def to_spark(self, spark: SparkSession, request: Scan) -> SparkFrame | None:
        """Return Spark's own reading of the table, filtered by columns that it knows as partitions.

        None where the table lies in a store that Spark was not given the keys of.
        """
        from pyspark.sql import functions as F

        state = self._load()
        check_request(request, tuple(state.types), f"'{self.name}'")
        lake, own = state.place.lake, self.environment.lake_root
        if state.place.folder is None and (lake.address.kind != own.address.kind or lake.storage != own.storage):
            return None
        reader = spark.read.format("delta").option("versionAsOf", state.version)
        frame = reader.load(state.place.uri)
        for predicate in [*_predicates(self._allowed(state, _timezone(request.run))), *request.predicates]:
            frame = frame.filter(_spark_condition(F.col(f"`{predicate.column}`"), predicate, F.lit))
        if request.columns is not None:
            frame = frame.select([F.col(f"`{name}`") for name in request.columns])
        return frame.limit(request.limit) if request.limit is not None else frame

    def present(self, column: str, timezone: str = "UTC") -> Sequence[str]:
        """Return the values of a partition column that the table has, sorted, hours as keys of ``timezone``."""
        state = self._load(fresh=True)
        self._check_partition_column(state, column)
        values = {file.partition[column] for file in state.files} - {None}
        return [shown_text(value, timezone) for value in sorted(values)]

    def partition_facts(self, column: str, keys: Sequence[str], timezone: str = "UTC") -> Mapping[str, PartitionFacts]:
        """Return what the table's log says of these partitions; one that a run made without rows is ``empty``.

        It is ``incomplete`` where one pipeline makes it by several sinks, of which some have not written yet.
        """
        state = self._load(fresh=True)
        self._check_partition_column(state, column)
        found: dict[str, PartitionFacts] = {}
        for key in keys:
            value = typed_value(key, state.types[column], column, timezone)
            files = state.matching({column: frozenset([value])})
            made, begun = (state.generation(app({column: value})) for app in (made_app, begun_app))
            there: PartitionState = "complete" if files else "absent" if made is None else "empty"
            found[key] = PartitionFacts(
                state="incomplete" if begun else there,
                rows=total_rows(state, files),
                bytes=sum(file.bytes for file in files),
                identity=files_identity(files),
            )
        return found

    def hidden(self, column: str, keys: Sequence[str], timezone: str = "UTC") -> Hidden | None:
        """Return which of these partitions the nearest environment has whose table the one that is read shadows."""
        here = self._load().place.lake.environment
        places = itertools.dropwhile(
            lambda one: one.lake.environment != here, read_places(self.environment, self.table, self.path)
        )
        with suppress(AiflowError):  # what cannot be looked at is no answer
            for place in itertools.islice(places, 1, None):
                state = read_table(place)
                if state is None or column not in state.partition_columns:
                    continue
                values = {key: frozenset([typed_value(key, state.types[column], column, timezone)]) for key in keys}
                if found := tuple(key for key in keys if state.matching({column: values[key]})):
                    return Hidden(here, place.lake.environment, found)
        return None

    def identity(self, run: Run) -> str:
        """Return a fingerprint of the files that the run reads, and read this version of the table from now on."""
        state = self._load(fresh=True)
        self._find(pinned=(state.place.lake.environment, state.version))
        return files_identity(state.matching(self._allowed(state, run.timezone)))

    @classmethod
    def tables(cls, environment: Environment) -> Sequence[str]:
        """Return the names of the tables of the environment's own lake, sorted."""
        return lake_tables(environment.lake_root, environment)

    @classmethod
    def table_facts(cls, environment: Environment, name: str) -> TableFacts | None:
        """Return what the log of a table of the environment's own lake tells, or None."""
        return facts_of(environment, name)

    def reading(self) -> Reading:
        """Return which version is read, and in which environment's lake."""
        state = self._load()
        return Reading(state.version, state.place.lake.environment, state.place.uri)

    def pin(self, environment: str, version: int) -> None:
        """Read this version, in the lake of that environment, from now on."""
        self._find(pinned=(environment, version), is_fixed=True)

    def measure(self, run: Run) -> tuple[int | None, int | None]:
        """Return rows and bytes of the wanted partitions, as the table's log tells them."""
        state = self._load()
        files = state.matching(self._allowed(state, run.timezone))
        return total_rows(state, files), sum(file.bytes for file in files)

    def _load(self, *, fresh: bool = False) -> TableState:
        """Return the table: as it is now if ``fresh`` (unless a version was asked for), else as it was read before."""
        found = self._found
        pinned = found.pinned if found.is_fixed or not fresh else None
        if found.state is not None and pinned == (found.state.place.lake.environment, found.state.version):
            return found.state
        for place in read_places(self.environment, self.table, self.path):
            if pinned is not None and pinned[0] != place.lake.environment:
                continue
            if (state := self._version_of(place, None if pinned is None else pinned[1])) is not None:
                state.check_readable(self.name)
                if found.is_fixed:
                    _check_kept(state, self.name)
                self._find(state=state)
                return state
        raise unknown_table(self.environment, self.name)

    def _version_of(self, place: TablePlace, pinned: int | None) -> TableState | None:
        if self.as_of is not None:
            moment = self.as_of if self.as_of.tzinfo else self.as_of.replace(tzinfo=UTC)
            return load_table(place, as_of=moment)
        return read_table(place, self.version if self.version is not None else pinned)

    def _allowed(self, state: TableState, timezone: str) -> Allowed:
        """Return the typed values that are wanted of each partition column."""
        allowed: dict[str, frozenset[Any]] = {}
        newest: list[str] = []
        for column, value in self.partitions.items():
            self._check_partition_column(state, column)
            if not isinstance(value, Mapping):
                wanted = value if isinstance(value, tuple) else (value,)
                kind = state.types[column]
                allowed[column] = frozenset(typed_value(one, kind, column, timezone) for one in wanted)
            elif value.get("$window") == "latest":
                newest.append(column)
            elif value.get("$window") != "all":
                raise ConfigurationError(
                    "unresolved-window",
                    f"the window {dict(value)} of '{column}' follows a run, and there is none",
                    hint="run the pipeline for a partition, or write the value itself",
                )
        for column in newest:
            values = {file.partition[column] for file in state.matching(allowed)} - {None}
            allowed[column] = frozenset([max(values)] if values else ())
        return allowed

    def _check_partition_column(self, state: TableState, column: str) -> None:
        if column in state.partition_columns:
            return
        error = unknown_name("unknown-column", "partition column", column, state.partition_columns)
        error.message = f"the table '{self.name}' has no partition column '{column}'"
        error.args = (error.message,)
        if column in state.types:
            error.hint = f"'{column}' is a column of its files; filter by it in the transform"
        elif not state.partition_columns:
            error.hint = did_you_mean(column, state.types) or "the table is not partitioned"
        raise error


def _check_kept(state: TableState, name: str) -> None:
    """Raise ``DataError`` (``pinned-version-gone``) where data files of an older version were removed since."""
    folder, version = state.place.folder, state.version
    if folder is None or not (folder / LOG_FOLDER / f"{version + 1:020}.json").exists():
        return
    if gone := [file.path for file in state.files if not Path(state.address(file)).exists()]:
        raise DataError(
            "pinned-version-gone",
            f"version {version} of '{name}' in '{state.place.lake.environment}', which this run reads since it began, "
            f"has lost {len(gone)} of its {plural(len(state.files), 'data file')}",
            hint="start a new run, which reads the newest version; vacuum that table with a longer retention",
            notes=[f"for instance {gone[0]}"],
        )


def _timezone(run: Run | None) -> str:
    return run.timezone if run is not None else "UTC"


def _arrow_schema(state: TableState) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(state.table.schema().to_arrow())


def _groups(state: TableState, files: Sequence[ActiveFile]) -> list[Any]:
    return group_files((state.address(file), file.partition) for file in files)


def total_rows(state: TableState, files: Sequence[ActiveFile]) -> int | None:
    """Return how many rows the files hold, or None where the log does not tell."""
    counts = [file.rows for file in files if file.rows is not None]
    return sum(counts) if len(counts) == len(files) and not state.has_deletion_vectors else None


def _predicates(allowed: Allowed) -> Iterator[Predicate]:
    for column, values in allowed.items():
        ordered = sorted(values - {None}) + ([None] if None in values else [])
        yield Predicate(column, "in", tuple(ordered))


def _spark_condition(column: Any, predicate: Predicate, literal: Any) -> Any:
    value = predicate.value
    match predicate.comparison:
        case "in":
            present = [item for item in value if item is not None]
            condition = column.isin(present) if present else literal(False)
            return condition | column.isNull() if len(present) < len(value) else condition
        case "==":
            return column.isNull() if value is None else column == literal(value)
        case "!=":
            return column.isNotNull() if value is None else column != literal(value)
        case "<":
            return column < literal(value)
        case "<=":
            return column <= literal(value)
        case ">":
            return column > literal(value)
        case ">=":
            return column >= literal(value)
