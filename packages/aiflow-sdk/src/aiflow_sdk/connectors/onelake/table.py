"""A Delta table as it is now: its files with typed partition values, without reading rows and without PyArrow."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiflow_sdk.connectors.onelake import features
from aiflow_sdk.connectors.onelake.location import LOG_FOLDER, TablePlace
from aiflow_sdk.connectors.onelake.schema import column_types
from aiflow_sdk.connectors.onelake.transactions import read_transactions
from aiflow_sdk.connectors.onelake.values import plain_float
from aiflow_sdk.connectors.onelake.writers import Writer
from aiflow_sdk.errors import DataError, MissingExtraError
from aiflow_sdk.stores import store_error

if TYPE_CHECKING:
    from deltalake import DeltaTable


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

    place: TablePlace
    version: int
    types: Mapping[str, str]
    """Column → type, as the Delta protocol writes it."""
    partition_columns: tuple[str, ...]
    files: tuple[ActiveFile, ...]
    _opened: DeltaTable | None = field(default=None, repr=False, compare=False)
    _values: dict[str, Mapping[Any, Sequence[ActiveFile]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Partition column → value → its files, as they are asked for."""
    noted: dict[str, int | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What the log notes for applications, as far as it was asked or is known."""
    _writable: set[features.Effect] = field(default_factory=set, init=False, repr=False, compare=False)
    """The effects of writes that the table was found to allow."""

    @cached_property
    def table(self) -> DeltaTable:
        """The driver's table of this version. Raises as :func:`load_table`, where it is opened only now."""
        table = self._opened or _opened(self.place, self.version)
        if table is None:
            raise DataError("unreadable-table", f"the table in {self.place.key} is gone", hint="run it again")
        return table

    def after(self, removed: Iterable[ActiveFile], added: Iterable[ActiveFile], noted: Mapping[str, int]) -> TableState:
        """Return the table as the next version has it, where that was made of this one: it need not be read.

        What changes the columns, the protocol or the properties makes another kind of version.
        """
        gone = {file.path for file in removed}
        files = (*(file for file in self.files if file.path not in gone), *added)
        state = replace(self, version=self.version + 1, files=files, _opened=None)
        state.noted.update({**self.noted, **noted})
        state._writable.update(self._writable)
        if "_is_all_noted" in self.__dict__:
            state.__dict__["_is_all_noted"] = self._is_all_noted
        return state

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
        return self.place.file(file.path)

    def generation(self, app: str) -> int | None:
        """Return what the table's log notes for an application, or None."""
        if app not in self.noted and not self._is_all_noted:
            self.noted[app] = self.table.transaction_version(app)
        return self.noted.get(app)

    @cached_property
    def _is_all_noted(self) -> bool:
        """Whether ``noted`` holds all that the log notes."""
        if features.TRANSACTION_RETENTION in self.table.metadata().configuration:
            return False  # what is too old is not noted any more: delta-rs knows which
        found = read_transactions(self.place, self.version)
        for app, number in (found or {}).items():
            self.noted.setdefault(app, number)
        return found is not None

    def all_noted(self) -> Mapping[str, int] | None:
        """Return all that the log notes for applications, which is read for that where it must be; None: it cannot."""
        if self._is_all_noted:
            return {app: number for app, number in self.noted.items() if number is not None}
        return read_transactions(self.place, self.version, at_any_price=True)

    def writers(self) -> Mapping[Writer, frozenset[str]]:
        """Return who wrote to the table, and for which partitions (keys), as far as the log tells."""
        found: dict[Writer, set[str]] = {}
        for app in self.all_noted() or ():
            if one := Writer.of_app(app):
                found.setdefault(one[0], set()).add(one[1])
        return {writer: frozenset(keys) for writer, keys in found.items()}

    @property
    def has_deletion_vectors(self) -> bool:
        """Whether rows may be deleted that still stand in the files."""
        return features.DELETION_VECTORS in (self.table.protocol().reader_features or ())

    def check_readable(self, name: str) -> None:
        """Raise ``DataError`` (``unsupported-table-feature``) if the rows are not just what the files hold."""
        features.check_readable(name, self.table.protocol(), self.table.metadata().configuration)

    def check_writable(self, name: str, effect: features.Effect = "overwrite") -> None:
        """Raise ``DataError`` (``unsupported-table-feature``) unless a write keeps all that the table asks for."""
        if effect in self._writable:
            return
        table = self.table
        features.check_writable(name, table.protocol(), table.metadata().configuration, table.schema(), effect)
        self._writable.add(effect)


def load_table(place: TablePlace, version: int | None = None, as_of: datetime | None = None) -> TableState | None:
    """Return the table at the place, at its newest version unless another is asked for; None if there is none.

    It reads the whole log since its last checkpoint; see :func:`read_table`. Raises ``StoreError``, and
    ``DataError`` (``unreadable-table``, ``unknown-version``).
    """
    table = _opened(place, version, as_of)
    if table is None:
        return None
    return TableState(
        place=place,
        version=table.version(),
        types=column_types(table.schema()),
        partition_columns=tuple(table.metadata().partition_columns),
        files=tuple(_active_files(table)),
        _opened=table,
    )


def _opened(place: TablePlace, version: int | None = None, as_of: datetime | None = None) -> DeltaTable | None:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError
    except ImportError as error:
        raise missing_deltalake() from error

    if place.folder is not None and not (place.folder / LOG_FOLDER).is_dir():  # delta-rs would make the folder
        return None
    _check_log(place)
    options = place.options or None  # an option that the store has not is no fault of the table's
    try:
        table = DeltaTable(place.uri, version=version, storage_options=options)
        if as_of is not None:
            table.load_as_version(as_of)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        if failed := store_error(error, place.uri):
            raise failed from error
        reason = _short(str(error))
        if "Unsupported" in reason:
            raise features.unsupported_reader(place.key, reason) from error
        raise _unreadable(place, version, as_of, reason) from error
    if as_of is not None:
        _check_was_there(place, table.version(), as_of)
    return table


def commit_info(place: TablePlace, version: int) -> dict[str, Any]:
    """Return what the commit of a version says of itself; nothing where it says nothing, or its file is gone.

    Read from the log's own file: delta-rs' ``history`` keeps all of this process waiting for the store.
    """
    lines = (place.store.read(f"{LOG_FOLDER}/{version:020}.json") or b"").splitlines()
    told = (json.loads(line).get("commitInfo") for line in lines if b'"commitInfo"' in line)
    return next((one for one in told if one), {})


def _check_was_there(place: TablePlace, version: int, as_of: datetime) -> None:
    """Raise ``DataError`` (``unknown-version``) for a moment before the oldest version, which delta-rs would return."""
    if version and _mark(place, version - 1) is not None:
        return
    if (made := commit_info(place, version).get("timestamp")) is not None and made > as_of.timestamp() * 1000:
        first = datetime.fromtimestamp(made / 1000, UTC)
        raise DataError(
            "unknown-version",
            f"the table in {place.key} was not there at {as_of.isoformat()}",
            hint=f"its oldest version is number {version}, of {first.isoformat(timespec='seconds')}",
        )


def _check_log(place: TablePlace) -> None:
    """Raise ``DataError`` (``unreadable-table``) for a commit without a byte, which readers pass over in silence.

    A machine that dies just after a writer renamed its commit into a folder may leave such a one.
    """
    if place.folder is None:
        return
    with os.scandir(place.folder / LOG_FOLDER) as found:
        entries = [entry for entry in found if entry.name[:20].isdecimal()]
    begins = max((entry.name[:20] for entry in entries if ".checkpoint." in entry.name), default="")
    for entry in entries:
        if entry.name[20:] == ".json" and entry.name[:20] > begins and (fault := _fault_of(entry)):
            raise DataError(
                "unreadable-table",
                f"the table in {place.key} cannot be opened: its commit {int(entry.name[:20])} is {fault}",
                hint="its writer's machine may have died; remove the file from _delta_log, and write those rows again",
            )


def _fault_of(commit: os.DirEntry[str]) -> str | None:
    try:
        return None if commit.stat().st_size else "empty"
    except FileNotFoundError:  # else the log was cleaned just now
        return "a link that leads nowhere" if commit.is_symlink() else None


def _short(reason: str) -> str:
    """Return delta-rs' reason without what it prints of its own insides."""
    return reason.split("\n", 1)[0].split(": ParsedLogPath", 1)[0][:300]


def _unreadable(place: TablePlace, version: int | None, as_of: datetime | None, reason: str) -> DataError:
    if version is None and as_of is None:
        message = f"the table in {place.key} cannot be opened: {reason}"
        return DataError("unreadable-table", message, hint="see its _delta_log")
    newest = load_table(place)
    wanted = f"version {version}" if as_of is None else f"version of {as_of.isoformat()}"
    return DataError(
        "unknown-version",
        f"the table in {place.key} has no {wanted}: {reason}",
        hint=f"its newest version is {newest.version}; older ones go once its log is cleaned and its files are vacuumed"
        if newest
        else None,
    )


_REMEMBERED_TABLES = 16
_remembered: OrderedDict[tuple[str, tuple[tuple[str, str], ...]], tuple[tuple[Any, ...], TableState]] = OrderedDict()
"""Address and options → the state that was read last, and what tells its log file from another of that number."""
_guard = threading.Lock()


def read_table(place: TablePlace, version: int | None = None) -> TableState | None:
    """Return the table as :func:`load_table` does; one state serves all in this process who ask for the same version.

    A writer may commit to what it is given: that leaves the state as it is, and fails where another was faster.
    """
    with _guard:
        mark, state = _remembered.get(_key(place), (None, None))
    if state is not None and mark == _mark(place, state.version):
        is_newest = version is None and _mark(place, state.version + 1) is None
        if is_newest or version == state.version:
            return state
    state = load_table(place, version)
    if state is not None:
        remember(state)
    return state


def remember(state: TableState) -> None:
    """Let :func:`read_table` return this state while it is the table's newest one."""
    place = state.place
    if mark := _mark(place, state.version):
        with _guard:
            _remembered[_key(place)] = mark, state
            _remembered.move_to_end(_key(place))
            while len(_remembered) > _REMEMBERED_TABLES:
                _remembered.popitem(last=False)


def _key(place: TablePlace) -> tuple[str, tuple[tuple[str, str], ...]]:
    return place.uri, tuple(sorted(place.options.items()))


def _mark(place: TablePlace, version: int) -> tuple[Any, ...] | None:
    """Return what tells a version from that of a table made anew in its place, or None where its log is gone."""
    return place.store.mark(f"{LOG_FOLDER}/{version:020}.json")


def _active_files(table: DeltaTable) -> Iterable[ActiveFile]:
    actions = table.get_add_actions()
    names = actions.column_names
    partitions: Sequence[Any]
    kinds = column_types(table.schema())
    floats = [column for column in table.metadata().partition_columns if kinds[column] in ("float", "double")]
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
        for column in floats:
            if (value := partition[column]) is not None:
                partition[column] = plain_float(value)
        yield ActiveFile(unquote(path) if "%" in path else path, size, modified, count, partition)


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
