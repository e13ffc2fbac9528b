"""Tables of the lake as a sink: engines write the files, one commit makes them the table's newest version."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

from pydantic import PrivateAttr, model_validator

from aiflow_sdk.connectors.onelake.commit import Change, Committed, Mode, NewFile, generation_apps
from aiflow_sdk.connectors.onelake.location import (
    check_path,
    check_table_name,
    dataset_name,
    is_deferred,
    lake_root,
    lock_key,
    table_folder,
)
from aiflow_sdk.connectors.onelake.options import check_format, check_one_place
from aiflow_sdk.connectors.onelake.schema import arrow_name, column_types, delta_schema
from aiflow_sdk.connectors.onelake.source import total_rows
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState, files_identity, read_table
from aiflow_sdk.connectors.onelake.values import shown_text, typed_value
from aiflow_sdk.connectors.parquet import missing_columns, partition_of, write_files
from aiflow_sdk.errors import AiflowError, ConfigurationError, StoreError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, Destination, Sink, Write, Written
from aiflow_sdk.stores import FolderStore

if TYPE_CHECKING:
    import pyarrow as pa

_MODES: tuple[Mode, ...] = ("overwrite", "overwrite_partitions")
_LATER_MODES = ("append", "upsert")


class OneLakeSink(Sink, kind="onelake"):
    """A table of the lake, made by the first write.

    ``overwrite`` replaces every row whose time column lies in the run's partition, or the whole table where it has no
    time column; ``overwrite_partitions`` replaces the partitions that the frame has rows of, and nothing else.
    """

    table: str | None = None
    """``schema.table``."""
    path: str | None = None
    """Instead of ``table``: where the table lies, relative to the lake's root."""
    format: str = "delta"
    mode: str = "overwrite"
    partition_by: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Of ``upsert``: the columns that name a row."""
    time: str | None = None
    """The partition column that holds the run's partition, where it is not plain which."""

    _folders: dict[tuple[str, str, int, int], Path] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        check_one_place(self.kind, self.table, self.path)
        check_format(self.format)
        if self.table is not None and not is_deferred(self.table):
            check_table_name(self.table)
        if self.path is not None and not is_deferred(self.path):
            check_path(self.path)
        if self.mode not in _MODES and not is_deferred(self.mode):
            later = self.mode in _LATER_MODES
            raise ConfigurationError(
                "unsupported-mode",
                f"mode '{self.mode}' is not supported yet" if later else f"there is no mode '{self.mode}'",
                hint=f"write {' or '.join(_MODES)}",
            )
        if self.mode == "overwrite_partitions" and not self.partition_by:
            raise ConfigurationError(
                "missing-option", "mode 'overwrite_partitions' needs partition_by", hint='add partition_by=["dt"]'
            )
        if len(set(self.partition_by)) < len(self.partition_by):
            raise ConfigurationError("bad-option", f"partition_by={list(self.partition_by)} names a column twice")
        return self

    @property
    def name(self) -> str:
        """The table's logical name."""
        return self.dataset().name

    def dataset(self) -> DatasetName:
        """Return the logical name; the environment gives the address."""
        return dataset_name(self.table, self.path)

    def partition_columns(self) -> tuple[str, ...]:
        """Return the columns that the table is partitioned by."""
        return self.partition_by

    def replaces(self) -> Literal["run", "written"]:
        """Return what the mode says."""
        return "written" if self.mode == "overwrite_partitions" else "run"

    def destination(self, request: Write) -> Destination:
        """Return a folder of this write alone, below the table: where it is vacuumed once nothing refers to it."""
        state = read_table(self.folder)
        key = _write_of(request)
        if key not in self._folders:
            run = request.run
            # Not beginning with "_": Delta's vacuum passes such folders by.
            own = self.folder / f"g{run.generation}-e{run.execution}-a{run.attempt}-{uuid4().hex[:16]}"
            own.mkdir(parents=True)
            self._folders[key] = own
        known = state.types if state else {}
        types = {column: arrow_name(kind) for column, kind in known.items()}
        return Destination(folder=str(self._folders[key]), partition_by=self.partition_by, types=types)

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Make the files the write, in one commit. If that fails they are removed, unless the table holds them."""
        folder = self._folders.pop(_write_of(request), None)
        if folder is None:
            raise StoreError("no-destination", f"the files for '{self.name}' were not written to its destination()")
        try:
            done = self._commit(folder, files, schema, request)
        except BaseException:  # Ctrl-C too leaves no files behind; it goes on up
            self._remove_unused(folder)
            raise
        if len(done.added) < len(files):
            self._remove_unused(folder)
        return self._written(done, request)

    def _remove_unused(self, folder: Path) -> None:
        """Remove the files that no version of the table holds; where that cannot be told they wait for a vacuum."""
        table = self.folder
        try:
            state = read_table(table)
        except AiflowError:
            return
        active = {table / file.path for file in state.files} if state else set()
        for path in [path for path in folder.rglob("*") if path.is_file() and path not in active]:
            path.unlink(missing_ok=True)
        if not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write all batches through Parquet files, or nothing."""
        import pyarrow as pa

        state = read_table(self.folder)
        types: Mapping[str, pa.DataType] = {}
        if state is not None:
            known = pa.schema(state.table.schema().to_arrow())
            untyped = [one.name for one in batches.schema if pa.types.is_null(one.type)]
            types = {name: known.field(name).type for name in (*self.partition_by, *untyped) if name in known.names}
        folder = Path(self.destination(request).folder)
        try:
            files, schema = write_files(batches, folder, self.partition_by, request, types=types)
        except BaseException:  # Ctrl-C too leaves no files behind; it goes on up
            del self._folders[_write_of(request)]
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.commit(files, schema, request)

    def identity(self, run: Run) -> str | None:
        """Return a fingerprint of the files of the run's partition, or None where there is no table yet."""
        state = read_table(self.folder)
        return self._identity(state, run) if state is not None else None

    def newest_generation(self, request: Write) -> int | None:
        """Return the greatest generation that the table's transactions note for the write, or None."""
        state = read_table(self.folder)
        if state is None:
            return None
        apps = generation_apps(request, self.mode)
        known = [version for app in apps if (version := state.table.transaction_version(app)) is not None]
        return max(known, default=None)

    def _identity(self, state: TableState, run: Run) -> str:
        time = self.time or (self.partition_by[0] if len(self.partition_by) == 1 else None)
        return files_identity(self._of_run(state, run, time))

    @cached_property
    def folder(self) -> Path:
        """The table's folder, links resolved once."""
        return table_folder(self.environment, self.table, self.path)

    def _commit(self, folder: Path, files: Sequence[DataFile], schema: Any, request: Write) -> Committed:
        state = None if any(file.rows for file in files) else read_table(self.folder)
        # A frame without rows often knows no types; it fits a table that is there.
        frame = delta_schema(schema) if state is None else state.table.schema()
        columns = tuple(column_types(frame))
        missing_columns(self.partition_by, columns, Write(request.node_id, request.run))
        if request.time is not None and request.time not in self.partition_by:
            raise ConfigurationError(
                "no-time-column",
                f"time='{request.time}' is not among partition_by={list(self.partition_by)}",
                hint="name one of them",
            )
        table = self.folder
        if not request.run.partitions:
            request = replace(request, time=None)
        change = Change(
            name=self.name,
            folder=table,
            prefix=folder.relative_to(table).as_posix(),
            files=[
                NewFile(file, partition_of(file.path, self.partition_by, file.partition)) for file in files if file.rows
            ],
            schema=frame,
            partition_by=self.partition_by,
            mode="overwrite" if self.mode == "overwrite" else "overwrite_partitions",
            request=request,
        )
        # Writers of one machine take turns, so that they need not lose and repeat; safety does not hang on it.
        with FolderStore(lake_root(self.environment)).lock(lock_key(table)):
            return change.commit()

    def _of_run(self, state: TableState, run: Run, time: str | None) -> list[ActiveFile]:
        """Return the files of the run's partition, of a table without time column all of them."""
        if time is None or time not in state.partition_columns or not run.partitions or self.mode != "overwrite":
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
            rows = sum(new.file.rows for new in done.added)
            size = sum(new.file.bytes for new in done.added)
            values = [dict(one) for one in done.values]
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
            address=str(state.folder),
            partitions=tuple(sorted(shown - {""})),
            columns=tuple((column, arrow_name(kind)) for column, kind in state.types.items()),
            identity=self._identity(state, run),
        )


def _write_of(request: Write) -> tuple[str, str, int, int]:
    run = request.run
    return (request.node_id, run.run_id, run.execution, run.attempt)
