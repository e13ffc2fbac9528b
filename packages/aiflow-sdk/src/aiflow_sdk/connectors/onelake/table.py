"""A Delta table as it is now: its files with typed partition values, without reading rows and without PyArrow."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiflow_sdk.connectors.onelake.schema import column_types
from aiflow_sdk.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Reader features of the Delta protocol that change nothing about what the data files hold.
_PLAIN_FEATURES = frozenset({"timestampNtz", "vacuumProtocolCheck"})
_DELETION_VECTORS = "deletionVectors"


@dataclass(frozen=True, slots=True)
class ActiveFile:
    """A data file that the table's current version consists of."""

    path: str
    """Relative to the table's folder, decoded; or an address, of a file that lies elsewhere."""
    bytes: int
    modified: int
    rows: int | None
    partition: Mapping[str, Any]
    """Typed values."""


Allowed = Mapping[str, frozenset[Any]]
"""Partition column → the typed values that are wanted of it; None among them is null."""


@dataclass(frozen=True)
class TableState:
    """One version of a table."""

    folder: Path
    table: DeltaTable
    version: int
    types: Mapping[str, str]
    """Column → type, as the Delta protocol writes it."""
    partition_columns: tuple[str, ...]
    files: tuple[ActiveFile, ...]
    _values: dict[str, Mapping[Any, Sequence[ActiveFile]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Partition column → value → its files, as they are asked for."""

    def matching(self, allowed: Allowed) -> list[ActiveFile]:
        """Return the files of the wanted partitions."""
        files: Sequence[ActiveFile] = self.files
        if column := next((column for column, values in allowed.items() if len(values) == 1), None):
            # Without a look at every file: a backfill asks for one partition after the other.
            files = self._by_value(column).get(next(iter(allowed[column])), ())
        return [file for file in files if all(file.partition[column] in allowed[column] for column in allowed)]

    def _by_value(self, column: str) -> Mapping[Any, Sequence[ActiveFile]]:
        if column not in self._values:
            values: dict[Any, list[ActiveFile]] = {}
            for file in self.files:
                values.setdefault(file.partition[column], []).append(file)
            self._values[column] = values
        return self._values[column]

    def address(self, file: ActiveFile) -> str:
        """Return where a reader finds the file."""
        return file.path if "://" in file.path else str(self.folder / file.path)

    @property
    def has_deletion_vectors(self) -> bool:
        """Whether rows may be deleted that still stand in the files."""
        return _DELETION_VECTORS in (self.table.protocol().reader_features or ())

    def check_readable(self, name: str) -> None:
        """Raise ``DataError`` (``unsupported-table-feature``) if the files cannot be read as plain Parquet."""
        protocol = self.table.protocol()
        unknown = set(protocol.reader_features or ()) - _PLAIN_FEATURES - {_DELETION_VECTORS}
        if self.table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
            unknown.add("columnMapping")
        if unknown or protocol.min_reader_version > 3:
            raise DataError(
                "unsupported-table-feature",
                f"the table '{name}' needs a reader of Delta's {', '.join(sorted(unknown)) or 'newer protocol'}",
                hint="drop the feature from the table, or copy its rows into a new one",
            )


def load_table(folder: Path, version: int | None = None) -> TableState | None:
    """Return the table in the folder, at its newest version unless another is asked for; None if there is none.

    Reads the whole log since its last checkpoint; see :func:`read_table`.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError
    except ImportError as error:
        raise missing_deltalake() from error

    if not (folder / "_delta_log").is_dir():  # delta-rs would make the folder
        return None
    try:
        table = DeltaTable(str(folder), version=version)
    except TableNotFoundError:
        return None
    except DeltaError as error:
        wanted = f" at version {version}" if version is not None else ""
        message = f"the table in {folder.name}{wanted} cannot be opened: {error}"
        raise DataError("unreadable-table", message, hint="see its _delta_log") from error
    return TableState(
        folder=folder,
        table=table,
        version=table.version(),
        types=column_types(table.schema()),
        partition_columns=tuple(table.metadata().partition_columns),
        files=tuple(_active_files(table)),
    )


_REMEMBERED_TABLES = 16
_remembered: OrderedDict[Path, tuple[tuple[int, int, int], TableState]] = OrderedDict()
"""Folder → the state that was read last, and what tells its version's log file from another one of that number."""
_guard = threading.Lock()


def read_table(folder: Path, version: int | None = None) -> TableState | None:
    """Return the table as :func:`load_table` does; one state serves all in this process who ask for the same version.

    A writer may commit to what it is given: that leaves the state as it is, and fails where another was faster.
    """
    with _guard:
        mark, state = _remembered.get(folder, (None, None))
    if state is not None and mark == _mark(folder, state.version):
        is_newest = version is None and not os.path.exists(_log_file(folder, state.version + 1))
        if is_newest or version == state.version:
            return state
    state = load_table(folder, version)
    if state is not None and (mark := _mark(folder, state.version)):
        with _guard:
            _remembered[folder] = mark, state
            _remembered.move_to_end(folder)
            while len(_remembered) > _REMEMBERED_TABLES:
                _remembered.popitem(last=False)
    return state


def _log_file(folder: Path, version: int) -> str:
    return f"{folder}/_delta_log/{version:020}.json"


def _mark(folder: Path, version: int) -> tuple[int, int, int] | None:
    """Return what tells a version from that of a table made anew in its place, or None where its log is gone."""
    try:
        found = os.stat(_log_file(folder, version))
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _active_files(table: DeltaTable) -> Iterable[ActiveFile]:
    actions = table.get_add_actions()
    names = actions.column_names
    partitions: Sequence[Any]
    partitions = list(actions.column("partition").to_pylist()) if "partition" in names else [{}] * actions.num_rows
    rows = actions.column("num_records").to_pylist() if "num_records" in names else [None] * actions.num_rows
    for path, size, modified, count, partition in zip(
        actions.column("path").to_pylist(),
        actions.column("size_bytes").to_pylist(),
        actions.column("modification_time").to_pylist(),
        rows,
        partitions,
        strict=True,
    ):
        yield ActiveFile(unquote(path), size, modified, count, partition)


def files_identity(files: Iterable[ActiveFile]) -> str:
    """Return a fingerprint of the files: equal exactly when the data was not written anew."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.bytes}\0{file.modified}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def missing_deltalake() -> MissingExtraError:
    """Return the error for an environment without the Delta driver."""
    return MissingExtraError(
        "missing-extra",
        "reading and writing a lake needs the package deltalake",
        hint="pip install 'aiflow-sdk[python]'",
    )
