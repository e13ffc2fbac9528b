"""One commit: data files become the table's newest version, or nothing changes.

Every try is a compare-and-swap on the table's version: read it, decide what goes and what comes, commit as just the
next version. delta-rs' own retries (``max_commit_retries``) are off: they let two overwrites of an empty partition both
land. A loser loads the table again and decides anew; its files stay where they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiflow_sdk.connectors.onelake.schema import check_columns, column_types
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState, load_table, read_table
from aiflow_sdk.connectors.onelake.values import shown_text, stored_text, typed_value
from aiflow_sdk.connectors.parquet import missing_partition_column, rows_outside
from aiflow_sdk.errors import DataError, StoreError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, Write

if TYPE_CHECKING:
    from deltalake import CommitProperties, Schema

Mode = Literal["overwrite", "overwrite_partitions"]
_TRIES = 200
_LONGEST_PAUSE_SECONDS = 0.3
_CHECKPOINT_COMMITS = 10
"""After so many commits the log is summed up, unless the table says how often: a commit reads all since then. Spark's
default; that of delta-rs is 100."""


@dataclass(frozen=True)
class NewFile:
    """A data file to commit."""

    file: DataFile
    partition: Mapping[str, str | None]
    """Partition column → value as text."""


@dataclass(frozen=True)
class Committed:
    """What became of a commit."""

    state: TableState
    superseded: bool
    added: tuple[NewFile, ...]
    values: tuple[Mapping[str, Any], ...] = ()
    """The typed partition values of each file that was added."""


@dataclass(frozen=True)
class Change:
    """A write that is to be committed."""

    name: str
    folder: Path
    """The table's."""
    prefix: str
    """The files' folder, relative to the table's."""
    files: Sequence[NewFile]
    schema: Schema
    partition_by: tuple[str, ...]
    mode: Mode
    request: Write

    def commit(self) -> Committed:
        """Commit, and return the table as it is then. Raises ``DataError``, or ``StoreError`` (``commit-conflict``)."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        failure: Exception | None = None
        for attempt in range(_TRIES):
            # Who was too slow, or failed, trusts nothing that is remembered.
            state = load_table(self.folder) if attempt else read_table(self.folder)
            try:
                done = self._create() if state is None else self._replace(state)
            except (CommitFailedError, DeltaError, OSError) as error:
                now = load_table(self.folder)
                if now is not None and (landed := self._landed(now)):
                    # What failed came after the commit: a checkpoint, for instance.
                    return self._made(now, landed)
                if (now and now.version) == (state and state.version):
                    # Nobody was faster, so trying again would fail again.
                    message = f"the table '{self.name}' cannot be committed to: {error}"
                    raise StoreError("commit-failed", message) from error
                failure = error
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.01 * 2 ** min(attempt, 10))))
            else:
                return done
        raise StoreError(
            "commit-conflict",
            f"others wrote to the table '{self.name}' each of {_TRIES} times that this run tried to",
            hint="run it again, with fewer writers at once",
            retryable=True,
        ) from failure

    def _landed(self, now: TableState) -> tuple[NewFile, ...]:
        """Return the files of this write that the table holds."""
        active = {file.path for file in now.files}
        return tuple(file for file in self.files if f"{self.prefix}/{file.file.path}" in active)

    def _create(self) -> Committed:
        from deltalake.transaction import create_table_with_add_actions

        types = column_types(self.schema)
        keys = self._keys(types)
        self._check_time(self.files, types, keys)
        create_table_with_add_actions(
            str(self.folder),
            self.schema,
            [self._add(file, types) for file in self.files],
            mode="error",
            partition_by=list(self.partition_by),
            commit_properties=self._properties(transactions(self.request, keys)),
        )
        return self._after(self.files)

    def _replace(self, state: TableState) -> Committed:
        from deltalake.transaction import RemoveAction

        keys = self._keys(state.types)
        generation = self.request.run.generation
        newest = {app: state.table.transaction_version(app) for app in transactions(self.request, keys)}
        # An equal one is this execution's own earlier attempt, whose rows may be of other code: it is replaced.
        open_apps = {app for app, version in newest.items() if version is None or version <= generation}
        overtaken = [app for app, version in newest.items() if version is not None and version > generation]
        if not open_apps or (overtaken and not keys):
            return Committed(state, superseded=True, added=())
        self._check_fits(state)
        self._check_time(self.files, state.types, keys)
        if keys:
            # Of a range, the partitions that a newer execution wrote stay as they are.
            keys = {value: app for value, app in keys.items() if app in open_apps}
            files = [file for file in self.files if self._time_of(file, state.types) in keys]
        else:
            files = list(self.files)
        now = int(time.time() * 1000)
        removed = [
            RemoveAction(file.path, True, now, file.bytes, {name: stored_text(v) for name, v in file.partition.items()})
            for file in self._removed(state, files, keys)
        ]
        state.table.create_write_transaction(
            [*(self._add(file, state.types) for file in files), *removed],
            "append",  # "overwrite" would choose by itself what to remove
            state.table.schema(),
            list(state.partition_columns),
            commit_properties=self._properties(sorted(open_apps)),
        )
        return self._after(files)

    def _removed(self, state: TableState, files: Sequence[NewFile], keys: Mapping[Any, str]) -> list[ActiveFile]:
        """Return the table's files that the write takes the place of."""
        if self.mode == "overwrite_partitions":
            written = {self._typed(file, state.types) for file in files}
            columns = state.partition_columns
            return [file for file in state.files if tuple(file.partition[column] for column in columns) in written]
        if self.request.time is None:
            return list(state.files)
        return state.matching({self.request.time: frozenset(keys)})

    def _keys(self, types: Mapping[str, str]) -> dict[Any, str]:
        """Return typed value of the time column → the application that its last generation is noted under."""
        time_column, run = self.request.time, self.request.run
        if time_column is None or self.mode != "overwrite":
            return {}
        if time_column not in types:
            raise missing_partition_column(time_column, types)
        return {
            typed_value(partition.key, types[time_column], time_column, run.timezone): partition_app(
                run, partition.key, self.request.node_id
            )
            for partition in run.partitions
        }

    def _check_time(self, files: Sequence[NewFile], types: Mapping[str, str], keys: Mapping[Any, str]) -> None:
        if not keys or self.request.time is None:
            return
        outside = {self._time_of(file, types) for file in files} - keys.keys()
        if outside:
            ordered = sorted(outside, key=lambda value: (value is None, str(value)))
            values = ", ".join(shown_text(value, self.request.run.timezone) for value in ordered[:5])
            raise rows_outside(self.name, self.request, values)

    def _check_fits(self, state: TableState) -> None:
        if self.partition_by != state.partition_columns:
            raise DataError(
                "partition-mismatch",
                f"the table '{self.name}' is partitioned by {_listed(state.partition_columns)}, and the sink says "
                f"{_listed(self.partition_by)}",
                hint=f"write partition_by={list(state.partition_columns)}, or write to a new table",
            )
        check_columns(self.name, state.types, column_types(self.schema))

    def _time_of(self, file: NewFile, types: Mapping[str, str]) -> Any:
        return self.value(file, self.request.time or "", types)

    def _typed(self, file: NewFile, types: Mapping[str, str]) -> tuple[Any, ...]:
        return tuple(self.value(file, column, types) for column in self.partition_by)

    def value(self, file: NewFile, column: str, types: Mapping[str, str]) -> Any:
        """Return the typed partition value of a file."""
        text = file.partition[column]
        # Engines write moments in UTC; what they filled in as it was given is a time of the run's own zone.
        filled = text is not None and text == self.request.fill.get(column)
        return typed_value(text, types[column], column, self.request.run.timezone if filled else "UTC")

    def _add(self, file: NewFile, types: Mapping[str, str]) -> Any:
        from deltalake.transaction import AddAction

        values = dict(zip(self.partition_by, self._typed(file, types), strict=True))
        path = f"{self.prefix}/{file.file.path}"
        return AddAction(
            path=path,  # delta-rs encodes it
            size=file.file.bytes,
            partition_values={column: stored_text(value) for column, value in values.items()},
            modification_time=int((self.folder / path).stat().st_mtime * 1000),
            data_change=True,
            stats=f'{{"numRecords":{file.file.rows}}}',
        )

    def _properties(self, apps: Iterable[str]) -> CommitProperties:
        from deltalake import CommitProperties, Transaction

        run = self.request.run
        return CommitProperties(
            max_commit_retries=0,
            app_transactions=[Transaction(app, run.generation) for app in apps],
            custom_metadata={
                "aiflow.pipeline": f"{run.project}/{run.pipeline_id}",
                "aiflow.environment": run.environment,
                "aiflow.node": self.request.node_id,
                "aiflow.partition": run.partition_text,
                "aiflow.version": run.version,
                "aiflow.run_id": run.run_id,
                "aiflow.execution": str(run.execution),
                "aiflow.generation": str(run.generation),
                "aiflow.mode": self.mode,
            },
        )

    def _after(self, files: Sequence[NewFile]) -> Committed:
        state = read_table(self.folder)
        assert state is not None  # it was committed to just now
        stated = state.table.metadata().configuration
        if "delta.checkpointInterval" not in stated and (state.version + 1) % _CHECKPOINT_COMMITS == 0:
            state.table.create_checkpoint()
        return self._made(state, files)

    def _made(self, state: TableState, files: Sequence[NewFile]) -> Committed:
        values = tuple(
            {column: self.value(file, column, state.types) for column in self.partition_by} for file in files
        )
        return Committed(state, superseded=False, added=tuple(files), values=values)


def partition_app(run: Run, key: str | None, node_id: str) -> str:
    """Return the write's identity for one partition of the run, or for none: the whole table."""
    grain = run.partition_grain if key is not None else None
    one = run.model_copy(update={"partition_key": key, "last_partition_key": None, "partition_grain": grain})
    return one.write_key(node_id)


def generation_apps(request: Write, mode: str) -> list[str]:
    """Return the applications whose generation the write would check, without a look at the table's types."""
    run = request.run
    if request.time is None or mode != "overwrite" or not run.partitions:
        return transactions(request if run.partitions else replace(request, time=None), {})
    return [partition_app(run, partition.key, request.node_id) for partition in run.partitions]


def transactions(request: Write, keys: Mapping[Any, str]) -> list[str]:
    """Return the applications whose generation a write checks and notes.

    One for each partition that it replaces, so that a range and a single day know of each other; of a table that is
    replaced whole the table's own besides the run's.
    """
    if keys:
        return sorted(set(keys.values()))
    own = request.run.write_key(request.node_id)
    return sorted({own, partition_app(request.run, None, request.node_id)}) if request.time is None else [own]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns) if columns else "no column"
