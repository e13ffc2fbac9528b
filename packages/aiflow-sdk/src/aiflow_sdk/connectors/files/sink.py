"""Files of the lake as a sink: written aside, then published by one rename, so that nobody reads half of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from pydantic import Field, PrivateAttr, model_validator

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.files.naming import dated_path
from aiflow_sdk.connectors.files.place import Format, Place, files_identity, format_of, is_one_file, looked_at
from aiflow_sdk.connectors.files.record import RECORD, Record, refuse_foreign_file, refuse_foreign_files
from aiflow_sdk.connectors.files.text import folder_name, write_text
from aiflow_sdk.connectors.onelake.identity import partition_app
from aiflow_sdk.connectors.onelake.location import (
    STAGING,
    below_lake,
    check_no_table,
    check_path,
    dataset_name,
    is_deferred,
    lake_root,
    lock_key,
    staged_folder,
)
from aiflow_sdk.connectors.onelake.options import check_choice
from aiflow_sdk.connectors.onelake.replacement import generation_apps
from aiflow_sdk.connectors.onelake.values import shown_text
from aiflow_sdk.connectors.parquet import missing_columns, partition_of, rows_outside, shared_schema, write_files
from aiflow_sdk.errors import ConfigurationError, StoreError, Where
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DataFile, DatasetPart, Destination, Sink, Write, Written
from aiflow_sdk.stores import FolderStore

if TYPE_CHECKING:
    import pyarrow as pa

_READY = "ready-"


class FilesSink(Sink, kind="files"):
    """Parquet, CSV or JSON lines below the lake's root; a partition, or the whole, is replaced in one step.

    A path that ends in a suffix of its format (``.parquet``, ``.csv``, ``.jsonl``) is one file, any other a folder.
    """

    path: str = Field(min_length=1)
    """Relative to the lake's root."""
    format: Format | None = None
    """None: what the path's suffix tells, else Parquet."""
    mode: str = "overwrite"
    partition_by: tuple[str, ...] = ()
    time: str | None = None
    """The partition column that holds the run's partition, where it is not plain which."""
    foreign: str = "refuse"
    """What becomes of files in the way that no files sink wrote there: ``refuse`` the run, or ``replace`` them."""

    _folders: dict[tuple[str, str, int, int], Path] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.mode != "overwrite" and not is_deferred(self.mode):
            raise ConfigurationError(
                "unsupported-mode",
                f"files have no mode '{self.mode}'",
                hint='write mode="overwrite", or write to a table',
            )
        check_choice("bad-option", "foreign", self.foreign, ("refuse", "replace"))
        if is_deferred(self.path):
            return self
        check_path(self.path)
        told = format_of(self.path)
        if told is not None and self.format not in (None, told):
            raise ConfigurationError("bad-option", f"'{self.path}' is to be {self.format}, and its name says {told}")
        if told is not None and self.partition_by:
            raise ConfigurationError(
                "bad-option",
                f"'{self.path}' is one file, and partition_by makes a folder for each value",
                hint="leave the suffix out of the path",
            )
        return self

    @classmethod
    def load(
        cls, options: Mapping[str, Any], environment: Environment | None = None, *, where: Where | None = None
    ) -> Self:
        """Return the sink; of Parquet files one that engines write the files of."""
        plugin = super().load(options, environment, where=where)
        if plugin._format == "parquet" and not issubclass(cls, ParquetFilesSink):
            return ParquetFilesSink.load(options, environment, where=where)  # type: ignore[return-value]  # is one of these
        return plugin

    def dataset(self) -> DatasetName:
        """Return the path below the lake, as a table there would be called."""
        return dataset_name(None, self.path)

    @classmethod
    def dated(cls, options: Mapping[str, Any]) -> DatasetPart | None:
        """Return the path without what the run's time decides at its end, and that."""
        path = options.get("path")
        found = dated_path(path)
        return DatasetPart(dataset_name(None, found.name), found.part, str(path)) if found else None

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` where the path, or a link on it, leads out of the lake, or to a table."""
        check_no_table(self.environment, self.path)

    def partition_columns(self) -> tuple[str, ...]:
        """Return the columns that the files are partitioned by."""
        return self.partition_by

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write all batches, or nothing."""
        order = self._order(request)
        folder = self._aside(request)
        try:
            if self._format == "parquet":
                files, schema = write_files(batches, folder, order, request)
            else:
                files, schema = write_text(batches, folder, order, request, self._format)
            return self._publish(folder, files, schema, request)
        finally:
            self._clean(folder)

    def identity(self, run: Run, node_id: str) -> str | None:
        """Return a fingerprint of the files of the run's partition, or None where there are none."""
        time = self.time or (self.partition_by[0] if len(self.partition_by) == 1 else None)

        def look() -> str | None:
            files = self._files(run, time)
            return files_identity(files, lake_root(self.environment)) if files else None

        return looked_at(look, self.path)

    def newest_generation(self, request: Write) -> int | None:
        """Return the greatest generation that the records beside the data note for the write, or None."""
        target = below_lake(self.environment, self.path)
        store = FolderStore(lake_root(self.environment))
        key, time, run = target.relative_to(store.root).as_posix(), self._time(request), request.run
        parts = [partition.key for partition in run.partitions] if time else [""]
        known: list[int] = []
        for one in parts:
            key_of_record = self._record(f"{key}/{folder_name(time, one)}" if time else key)
            record = Record.read(store, key_of_record) or Record()
            apps = self._apps(request, one)
            known += [record.generations[app] for app in apps if app in record.generations]
        return max(known, default=None)

    def _apps(self, request: Write, part: str) -> list[str]:
        """Return what the generations of a write are noted under: of one partition, or of all the files."""
        if self._time(request):
            return [partition_app(request.run, part, request.node_id)]
        return generation_apps(replace(request, time=None), "overwrite")

    @property
    def _format(self) -> Format:
        return self.format or format_of(self.path) or "parquet"

    def _aside(self, request: Write) -> Path:
        """Return a new folder on the lake's file system, swept with the run's staged frames if the writer dies."""
        check_no_table(self.environment, self.path)
        run = request.run
        name = f"files-{request.node_id}-{run.attempt}-{uuid4().hex[:16]}"
        return staged_folder(self.environment, run.run_id, str(run.execution), name)

    def _clean(self, folder: Path) -> None:
        """Remove what a write leaves aside, but for folders that it replaced: those are swept with the run's frames."""
        for path in folder.iterdir():
            if path.is_dir() and not path.name.startswith(_READY):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink(missing_ok=True)
        root = lake_root(self.environment) / STAGING
        FolderStore(root).prune(folder.relative_to(root).as_posix())

    def _order(self, request: Write) -> tuple[str, ...]:
        """Return the partition columns, that of the run's partition first: it is replaced as one folder."""
        time = self._time(request)
        if time is None:
            return self.partition_by
        if time not in self.partition_by:
            raise ConfigurationError(
                "no-time-column",
                f"time='{time}' is not among partition_by={list(self.partition_by)}",
                hint="name one of them",
            )
        return (time, *(name for name in self.partition_by if name != time))

    def _time(self, request: Write) -> str | None:
        return request.time if request.run.partitions else None

    def _publish(self, folder: Path, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        time, run = self._time(request), request.run
        target = below_lake(self.environment, self.path)
        store = FolderStore(lake_root(self.environment))
        key = target.relative_to(store.root).as_posix()
        columns = self.partition_by
        told = {file.path: partition_of(file.path, columns, file.partition) for file in files}
        parts: dict[str, list[DataFile]] = {"": list(files)}
        if time is not None:
            keys = [partition.key for partition in run.partitions]
            parts = {one: [] for one in keys}
            for file in files:
                parts.setdefault(_key_text(told[file.path][time], run.timezone), []).append(file)
            if outside := [one for one in parts if one not in keys]:
                raise rows_outside(self.path, request, ", ".join(outside[:5]))
        written: list[DataFile] = []
        superseded = False
        with store.lock(lock_key(target)):
            replaced: list[tuple[str, str, dict[str, int]]] = []
            for one in parts:
                apps = self._apps(request, one)
                place = f"{key}/{folder_name(time, one)}" if time else key
                known = dict((Record.read(store, self._record(place)) or Record()).generations)
                if max((known.get(app, 0) for app in apps), default=0) > run.generation:
                    superseded = True
                    continue
                if self.foreign == "refuse":
                    self._refuse_foreign(store, place, key)
                replaced.append((one, place, known | dict.fromkeys(apps, run.generation)))
            for one, place, known in replaced:
                self._replace(store, place, folder, folder_name(time, one) if time else "", parts[one], schema, known)
                written += parts[one]
        return self._written(written, told, superseded, schema, request)

    def _replace(
        self,
        store: FolderStore,
        place: str,
        folder: Path,
        own: str,
        files: Sequence[DataFile],
        schema: Any,
        generations: Mapping[str, int],
    ) -> None:
        """Publish the files at ``place``, in a folder with the record or as one file with the record after it."""
        if is_one_file(self.path):
            record = self._record(place)
            # What lies there is then its own, should the writer die in between; what lay there before stays another's.
            if Record.read(store, record) is None and not store.path(place).exists():
                store.put(record, Record().text())
            store.publish(_one_file([folder / file.path for file in files], folder, schema), place, replace=True)
            store.put(record, Record(generations, frozenset({self.path.rpartition("/")[2]})).text())
            return
        mark = uuid4().hex[:8]
        ready = folder / f"{_READY}{mark}"
        ready.mkdir()
        for file in files:
            parts = file.path.split("/")
            target = ready.joinpath(*(parts[1:] if own else parts))
            if len(files) > 1:
                # No name of before: who reads while it is replaced finds a file gone, and none of these among the old.
                target = target.with_name(f"{target.stem}-{mark}{target.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).rename(target)
        if not files and not own and self._format == "parquet":
            _one_file([], ready, schema)
        names = frozenset(path.relative_to(ready).as_posix() for path in ready.rglob("*") if path.is_file())
        (ready / RECORD).write_bytes(Record(generations, names).text())
        store.publish(ready, place, replace=True)  # what was there goes on being read, and is swept later

    def _record(self, place: str) -> str:
        """Return the key of the record of the files at ``place``: in their folder, or beside the one file."""
        if not is_one_file(self.path):
            return f"{place}/{RECORD}"
        folder, _, name = place.rpartition("/")
        return f"{folder}/.{name}{RECORD}" if folder else f".{name}{RECORD}"

    def _refuse_foreign(self, store: FolderStore, place: str, whole: str) -> None:
        if is_one_file(self.path):
            refuse_foreign_file(store, place, self._record(place))
        else:
            refuse_foreign_files(store, place, whole)

    def _files(self, run: Run, time: str | None) -> list[Path]:
        target = below_lake(self.environment, self.path)
        if target.is_file():
            return [target]
        place = Place(self.path, self._format, "lake", self.environment)
        folders = (
            [target / folder_name(time, one.key) for one in run.partitions] if time and run.partitions else [target]
        )
        return sorted(file for folder in folders if folder.is_dir() for file in place.below(folder))

    def _written(
        self,
        files: Sequence[DataFile],
        told: Mapping[str, Mapping[str, str | None]],
        superseded: bool,
        schema: Any,
        request: Write,
    ) -> Written:
        import pyarrow as pa

        run, time = request.run, self._time(request)
        shown = {
            "/".join(f"{name}={'null' if value is None else value}" for name, value in told[file.path].items())
            for file in files
        }
        if time is not None and not shown:
            shown = {f"{time}={partition.key}" for partition in run.partitions}
        return Written(
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            superseded=superseded,
            address=str(below_lake(self.environment, self.path)),
            partitions=tuple(sorted(shown - {""})),
            columns=tuple((column.name, str(column.type)) for column in shared_schema(pa.schema(schema))),
            identity=self.identity(run, request.node_id),
        )


class ParquetFilesSink(FilesSink, kind="files"):
    """Parquet files, which engines write by themselves."""

    def destination(self, request: Write) -> Destination:
        """Return a folder of this write alone."""
        key, order = _write_of(request), self._order(request)
        if key not in self._folders:
            self._folders[key] = self._aside(request)
        root = lake_root(self.environment) / STAGING
        return Destination(folder=str(self._folders[key]), partition_by=order, root=str(root))

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Publish the files. Whatever fails, what was there before stays."""
        folder = self._folders.pop(_write_of(request), None)
        if folder is None:
            raise StoreError("no-destination", f"the files for '{self.path}' were not written to its destination()")
        try:
            import pyarrow as pa

            missing_columns(self.partition_by, pa.schema(schema).names, Write(request.node_id, request.run))
            return self._publish(folder, [file for file in files if file.rows], schema, request)
        finally:
            self._clean(folder)


def _write_of(request: Write) -> tuple[str, str, int, int]:
    run = request.run
    return (request.node_id, run.run_id, run.execution, run.attempt)


def _key_text(text: str | None, timezone: str) -> str:
    """Return a partition's folder value as the key of a partition would be written."""
    if text is None:
        return "null"
    if len(text) > len("2026-11-20"):
        try:
            return shown_text(datetime.fromisoformat(text), timezone)
        except ValueError:
            return text
    return text


def _one_file(files: Sequence[Path], folder: Path, schema: Any) -> Path:
    """Return one file of all the Parquet files' rows, or the only file."""
    if len(files) == 1:
        return files[0]
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "part-0.parquet" if not files else folder / "whole.parquet"
    with pq.ParquetWriter(path, pq.read_schema(files[0]) if files else shared_schema(pa.schema(schema))) as writer:
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches():
                writer.write_batch(batch)
    return path
