"""Tables of the lake as a sink: engines write the files, one commit makes them the table's newest version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from aiflow_sdk.connectors.onelake.change import EVOLUTIONS, MODES, WITHDRAWN, Change, Merge, NewFile, effect_of
from aiflow_sdk.connectors.onelake.commit import Committed, commit, may_land_later
from aiflow_sdk.connectors.onelake.identity import Owner, new_folder, partition_app
from aiflow_sdk.connectors.onelake.location import (
    TablePlace,
    check_alone,
    check_path,
    check_table_name,
    dataset_name,
    is_deferred,
    read_places,
    table_place,
)
from aiflow_sdk.connectors.onelake.merging import check_rows, may_lack_rows
from aiflow_sdk.connectors.onelake.options import check_choice, check_format, check_one_place
from aiflow_sdk.connectors.onelake.pending import PendingRows
from aiflow_sdk.connectors.onelake.replacement import generation_apps
from aiflow_sdk.connectors.onelake.schema import arrow_name, delta_schema
from aiflow_sdk.connectors.onelake.source import total_rows
from aiflow_sdk.connectors.onelake.succession import check_earlier
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState, files_identity, read_table
from aiflow_sdk.connectors.onelake.values import shown_text, typed_value
from aiflow_sdk.connectors.onelake.writers import check_writer_names, writers_of
from aiflow_sdk.connectors.parquet import missing_columns, partition_of, write_files
from aiflow_sdk.errors import AiflowError, ConfigurationError, DefinitionError, StoreError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, Destination, Pending, Sink, Write, Written
from aiflow_sdk.stores import FolderStore, discard_folder, make_folder, store_failures, writing

if TYPE_CHECKING:
    import pyarrow as pa

_WriteKey = tuple[str, str, int, int]


class OneLakeSink(Sink, kind="onelake"):
    """A table of the lake, made by the first write.

    ``overwrite`` replaces every row whose time column lies in the run's partition, or the whole table where it has no
    time column; ``overwrite_partitions`` replaces the partitions that the frame has rows of, and nothing else;
    ``append`` adds rows; ``upsert`` puts each row in the place of the one with the same keys; ``error_if_exists``
    writes only where nothing is. A run that is done again replaces what it wrote before, in every mode.
    """

    drivers: ClassVar[tuple[str, ...]] = ("deltalake",)

    table: str | None = None
    """``schema.table``."""
    path: str | None = None
    """Instead of ``table``: where the table lies, relative to the lake's root."""
    format: str = "delta"
    mode: str = "overwrite"
    """``overwrite``, ``overwrite_partitions``, ``append``, ``upsert`` or ``error_if_exists``."""
    partition_by: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Of ``upsert``: the columns that name a row."""
    order_by: str | None = None
    """Of ``upsert``: the column by which, of two rows with one key, the greater one stays. Without it the row of the
    later partition does."""
    withdrawn: str = "refuse"
    """Of ``upsert``: what becomes of rows that a run done again no longer has, where they stood in the place of rows of
    other runs: ``refuse`` the run, ``delete`` them, or ``keep`` them."""
    time: str | None = None
    """The partition column that holds the run's partition, where it is not plain which."""
    schema_evolution: str = "none"
    """Which changes of the columns a write may make: ``none``, ``add_columns``, or ``widen`` (types too)."""
    renamed_from: tuple[str, ...] = ()
    """Of ``append`` and ``upsert``: names under which this sink wrote before, ``sink`` or ``pipeline/sink``; their rows
    are replaced as its own."""
    beside: tuple[str, ...] = ()
    """Of ``append`` and ``upsert``: sinks that the pipeline does not have any more, whose rows stay."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        check_one_place(self.kind, self.table, self.path)
        check_format(self.format)
        if self.table is not None and not is_deferred(self.table):
            check_table_name(self.table)
        if self.path is not None and not is_deferred(self.path):
            check_path(self.path)
        check_choice("unsupported-mode", "mode", self.mode, MODES)
        check_choice("bad-option", "schema_evolution", self.schema_evolution, EVOLUTIONS)
        check_choice("bad-option", "withdrawn", self.withdrawn, WITHDRAWN)
        if self.mode == "overwrite_partitions" and not self.partition_by:
            raise ConfigurationError(
                "missing-option", "mode 'overwrite_partitions' needs partition_by", hint='add partition_by=["dt"]'
            )
        if self.mode == "upsert" and not self.keys:
            raise ConfigurationError("missing-option", "mode 'upsert' needs keys", hint='add keys=["order_id"]')
        if self.mode != "upsert" and not is_deferred(self.mode):
            for name, given in (("keys", self.keys), ("order_by", self.order_by)):
                if given:
                    raise ConfigurationError(
                        "bad-option", f"'{name}' is of mode 'upsert'", hint=f'write mode="upsert", or leave {name} out'
                    )
        check_writer_names(self.mode, self.renamed_from, self.beside)
        for name in ("partition_by", "keys"):
            columns = getattr(self, name)
            if len(set(columns)) < len(columns):
                raise ConfigurationError("bad-option", f"{name}={list(columns)} names a column twice")
        return self

    @property
    def name(self) -> str:
        """The table's logical name."""
        return self.dataset().name

    def dataset(self) -> DatasetName:
        """Return the logical name; the environment gives the address."""
        return dataset_name(self.table, self.path)

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` where the path, or a link on it, leads out of the lake."""
        if self.environment.own_root.address.is_folder:
            _ = self.place

    def partition_columns(self) -> tuple[str, ...]:
        """Return the columns that the table is partitioned by."""
        return self.partition_by

    def replaces(self) -> Literal["run", "written", "nothing"]:
        """Return what the mode says."""
        match self.mode:
            case "overwrite_partitions":
                return "written"
            case "append" | "upsert":
                return "nothing"
            case _:
                return "run"

    def destination(self, request: Write) -> Destination:
        """Return a folder of this write alone, below the table: where it is vacuumed once nothing refers to it."""
        place = self.place
        state = read_table(place)
        if state is not None:
            state.check_writable(self.name, effect_of(self.mode))  # type: ignore[arg-type]  # rendered and checked
        else:
            check_alone(place)
        key = _write_of(request)
        if key not in self._prefixes:
            self._prefixes[key] = new_folder(request.run, request.node_id)
            if place.folder is not None:
                place.check_inside(self._prefixes[key])
                with writing(place.folder):
                    make_folder(place.folder / self._prefixes[key])
        known = state.types if state else {}
        return Destination(
            folder=place.address.joined(self._prefixes[key]).uri,
            partition_by=self.partition_by,
            types={column: arrow_name(kind) for column, kind in known.items()},
            widening=self.schema_evolution == "widen",
            storage_options=place.options,
            root=place.lake.address.uri,
        )

    def prepare(self, files: Sequence[DataFile], schema: Any, request: Write) -> Pending:
        """Return the write of these files, checked, which nobody sees before it is published."""
        prefix = self._prefixes.pop(_write_of(request), None)
        if prefix is None:
            raise StoreError("no-destination", f"the files for '{self.name}' were not written to its destination()")
        try:
            change = self._change(prefix, files, schema, request)
        except BaseException:  # Ctrl-C too leaves no files behind; it goes on up
            self._remove_unused(prefix)
            raise
        return Pending(
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            source=PendingRows.of(change),
            publish=partial(self._publish, change),
            withdraw=partial(self._remove_unused, prefix),
        )

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Make the files the write, in one commit. If that fails they are removed, unless the table holds them."""
        return self.prepare(files, schema, request).publish()

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write all batches through Parquet files, or nothing."""
        import pyarrow as pa

        place = self.place
        state = read_table(place)
        types: Mapping[str, pa.DataType] = {}
        if state is not None:
            known = pa.schema(state.table.schema().to_arrow())
            untyped = [one.name for one in batches.schema if pa.types.is_null(one.type)]
            types = {name: known.field(name).type for name in (*self.partition_by, *untyped) if name in known.names}
        self.destination(request)
        prefix = self._prefixes[_write_of(request)]
        try:
            with store_failures(place.uri), _scratch(place, prefix) as folder:
                files, schema = write_files(batches, folder, self.partition_by, request, types=types)
        except BaseException:  # Ctrl-C too leaves no files behind; it goes on up
            self._remove_unused(self._prefixes.pop(_write_of(request)))
            raise
        return self.commit(files, schema, request)

    def identity(self, run: Run, node_id: str) -> str | None:
        """Return a fingerprint of what the run's sink has in its partition, or None where there is no table yet.

        Of rows that were added or merged it is their generation: other runs may have taken their place in files.
        """
        state = read_table(self.place)
        return self._identity(state, run, node_id) if state is not None else None

    def found(self, run: Run, node_id: str) -> tuple[str, str] | None:
        """Return the environment in which readers find the table, and the identity of the run's partition there."""
        for place in read_places(self.environment, self.table, self.path):
            if (state := read_table(place)) is not None:
                there = run.model_copy(update={"environment": place.lake.environment})
                identity = self._identity(state, there, node_id)
                return (place.lake.environment, identity) if identity is not None else None
        return None

    def newest_generation(self, request: Write) -> int | None:
        """Return the greatest generation that the table's transactions note for the write, or None."""
        state = read_table(self.place)
        if state is None:
            return None
        apps = generation_apps(request, self.mode, writers_of(self.renamed_from, request.run))  # type: ignore[arg-type]  # rendered and checked
        return max((noted for app in apps if (noted := state.generation(app)) is not None), default=None)

    def _identity(self, state: TableState, run: Run, node_id: str) -> str | None:
        if self.mode in ("append", "upsert"):
            owner = Owner.of_run(run, node_id)
            noted = state.generation(partition_app(run, run.partition_key, node_id))
            files = sum(owner.may_have_written(file.path) and Owner.of_file(file.path) == owner for file in state.files)
            # Where somebody rewrote or deleted some, it is not what the run made.
            if noted is None or state.generation(owner.files_app) != files:
                return None
            lacks = self.mode == "upsert" and may_lack_rows(state, owner)
            return f"generation {noted}" + (" and keys withdrawn" if lacks else "")
        time = self.time or (self.partition_by[0] if len(self.partition_by) == 1 else None)
        return files_identity(self._of_run(state, run, time))

    @cached_property
    def _prefixes(self) -> dict[_WriteKey, str]:
        # A private attribute of pydantic's would cost the compiler, which writes nothing, as much as a few fields.
        return {}

    @cached_property
    def place(self) -> TablePlace:
        """Where the table lies; links are followed once."""
        return table_place(self.environment, self.table, self.path)

    def _change(self, prefix: str, files: Sequence[DataFile], schema: Any, request: Write) -> Change:
        place = self.place
        state = read_table(place)
        # A frame without rows often knows no types; it fits a table that is there.
        frame = delta_schema(schema) if state is None or any(file.rows for file in files) else state.table.schema()
        missing_columns(self.partition_by, [field.name for field in frame.fields], Write(request.node_id, request.run))
        if request.time is not None and request.time not in self.partition_by:
            raise ConfigurationError(
                "no-time-column",
                f"time='{request.time}' is not among partition_by={list(self.partition_by)}",
                hint="name one of them",
            )
        if not request.run.partitions:
            request = replace(request, time=None)
        if self.mode in ("append", "upsert") and len(request.run.partitions) > 1:
            raise DefinitionError(
                "no-ranges",
                f"a run of {request.run.partition_text} cannot {self.mode} to '{self.name}': a later run of one of its "
                "partitions could not tell its rows from the others and replace them",
                hint='leave out ranges=True, or write mode="overwrite" with partition_by',
            )
        change = Change(
            name=self.name,
            place=place,
            prefix=prefix,
            files=[
                NewFile(file, partition_of(file.path, self.partition_by, file.partition)) for file in files if file.rows
            ],
            schema=frame,
            partition_by=self.partition_by,
            mode=self.mode,  # type: ignore[arg-type]  # rendered and checked
            evolution=self.schema_evolution,  # type: ignore[arg-type]  # likewise
            merge=Merge(self.keys, self.order_by, self.withdrawn) if self.mode == "upsert" else None,  # type: ignore[arg-type]
            request=request,
            earlier=writers_of(self.renamed_from, request.run),
            beside=writers_of(self.beside, request.run),
        )
        check_earlier(change)
        if change.merge is not None:
            import polars as pl

            with store_failures(place.uri):
                check_rows(change, change.types, pl.Schema(frame))
        return change

    def _publish(self, change: Change) -> Written:
        try:
            done = commit(change)
        except BaseException as error:  # Ctrl-C too leaves no files behind; it goes on up
            if not may_land_later(change, error):
                self._remove_unused(change.prefix)
            raise
        # Just what no version ever held: a newer one may have removed the rest, which readers of this one need.
        unused = {change.path(file) for file in change.files} - {file.path for file in done.added}
        with suppress(AiflowError, OSError):  # else a vacuum will
            self.place.store.delete(sorted(unused))
        return self._written(done, change.request)

    def _remove_unused(self, prefix: str) -> None:
        """Remove the files that no version of the table holds; where that cannot be told they wait for a vacuum."""
        place = self.place
        try:
            state = read_table(place)
            active = {file.path for file in state.files} if state else set()
            place.store.delete([key for key in place.store.list(prefix) if key not in active])
        except (AiflowError, OSError):
            return
        if place.folder is not None and not active & set(place.store.list(prefix)):
            with suppress(OSError, AiflowError):
                discard_folder(str(place.folder / prefix), {}, place.lake.address.uri)

    def _of_run(self, state: TableState, run: Run, time: str | None) -> list[ActiveFile]:
        """Return the files of the run's partition, of a table without time column all of them."""
        by_time = self.mode in ("overwrite", "error_if_exists")
        if time is None or time not in state.partition_columns or not run.partitions or not by_time:
            return list(state.files)
        try:
            wanted = {typed_value(one.key, state.types[time], time, run.timezone) for one in run.partitions}
        except AiflowError:
            # The column holds something other than the run's partitions.
            return list(state.files)
        return state.matching({time: frozenset(wanted)})

    def _written(self, done: Committed, request: Write) -> Written:
        state, run = done.state, request.run
        scope = self._of_run(state, run, request.time)
        if done.superseded:
            rows = total_rows(state, scope)
            size = sum(file.bytes for file in scope)
            values = [dict(file.partition) for file in scope]
        else:
            rows = sum(new.rows for new in done.added)
            size = sum(new.bytes for new in done.added)
            values = [dict(new.partition) for new in done.added]
        shown = {
            "/".join(f"{column}={shown_text(value[column], run.timezone)}" for column in state.partition_columns)
            for value in values
        }
        if request.time is not None and not shown:
            shown = {f"{request.time}={key}" for key in request.time_keys or ()}
        return Written(
            rows=rows,
            bytes=size,
            table_version=state.version,
            superseded=done.superseded,
            address=state.place.uri,
            partitions=tuple(sorted(shown - {""})),
            columns=tuple((column, arrow_name(kind)) for column, kind in state.types.items()),
            identity=self._identity(state, run, request.node_id),
        )


@contextmanager
def _scratch(place: TablePlace, prefix: str) -> Iterator[Path]:
    """Yield a folder of this machine for the files of a write, which lie in the table's store afterwards."""
    if place.folder is not None:
        yield place.folder / prefix
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="aiflow-write-") as name:
        folder = Path(name)
        yield folder
        for key, _ in FolderStore(folder).sizes():
            with (folder / key).open("rb") as file:
                place.store.upload(f"{prefix}/{key}", file)


def _write_of(request: Write) -> _WriteKey:
    run = request.run
    return (request.node_id, run.run_id, run.execution, run.attempt)
