"""Where a table lies: its name or path, checked, below the lake of the environment or of one that it reads from."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from aiflow_sdk.config import ENVIRONMENTS, GENERATIONS, LEDGER, Address, Environment, LakeRoot, resolve_secrets
from aiflow_sdk.errors import ConfigurationError, UnknownNameError, did_you_mean
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.stores import FolderStore, Store, driver_options, has_link, make_folder, open_store
from aiflow_sdk.variables import has_secret, has_template

STAGING = "_staging"
_LOCKS = "_locks"
LOG_FOLDER = "_delta_log"
RESERVED = frozenset({STAGING, _LOCKS, GENERATIONS, LEDGER, ENVIRONMENTS})
"""Names below the lake's root that no table or file of a user has."""
_SEGMENT = re.compile(r"[^\W_][\w-]*")
_LONGEST_SEGMENT_BYTES = 200
_SHOWN_TABLES = 20


@dataclass(frozen=True)
class TablePlace:
    """Where one table lies or would lie."""

    lake: LakeRoot
    key: str
    """Below the lake's root, as ``raw/orders``."""
    storage: Mapping[str, Any]
    """Options of the lake's store, secrets looked up."""

    @cached_property
    def address(self) -> Address:
        """The address of the table's folder."""
        return self.lake.address.joined(self.key)

    @property
    def uri(self) -> str:
        """The address as drivers take it."""
        return self.address.uri

    @cached_property
    def options(self) -> dict[str, str]:
        """The store's options as delta-rs and polars take them."""
        return driver_options(self.address, self.storage)

    @property
    def folder(self) -> Path | None:
        """The table's folder; None in an object store."""
        return Path(self.address.path) if self.address.is_folder else None

    def file(self, path: str) -> str:
        """Return where a reader finds a data file of the table, by its path in the log."""
        if path.startswith("file:"):  # of a shallow clone; Spark writes file:/…
            return path.removeprefix("file:").removeprefix("//")
        if "://" in path:
            return path
        return str(self.folder / path) if self.folder else f"{self.uri}/{path}"

    def check_inside(self, key: str) -> None:
        """Raise ``ConfigurationError`` (``outside-lake``) where a link leads a folder below the table out of it."""
        base = f"{self.address.path.rstrip('/')}/"
        leads_out = ".." in key.split("/") or not _follow(base, key).startswith(base)
        if self.address.is_folder and leads_out:
            raise outside(f"{self.key}/{key}")

    @cached_property
    def store(self) -> Store:
        """The table's folder as a store: its data files and its log."""
        return open_store(self.address, storage=self.storage)

    @property
    def lock_key(self) -> str:
        """The key, in the lake's store, of the lock that writers of the table take turns by."""
        return lock_key(Path(self.key))


def is_deferred(text: str | None) -> bool:
    """Whether the text is only known where the task runs."""
    return text is not None and (has_template(text) or has_secret(text))


def check_table_name(name: str) -> None:
    """Raise ``ConfigurationError`` (``bad-table-name``) unless ``name`` is ``schema.table``."""
    segments = name.split(".")
    if len(segments) != 2 or not all(map(_is_segment, segments)):
        raise ConfigurationError(
            "bad-table-name",
            f"'{name}' is no name of a table",
            hint="write schema.table, each of letters, digits, '_' and '-', beginning with a letter or digit",
        )


def check_path(path: str) -> None:
    """Raise ``ConfigurationError`` for a path that leaves the lake, as far as its text alone tells."""
    if path.startswith(("/", "~")) or "://" in path or "\\" in path:
        raise outside(path)
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            raise outside(path)
    if posixpath.normpath(path).strip("/").split("/")[0].casefold() in RESERVED:
        raise outside(path)
    if any(part.casefold() == LOG_FOLDER for part in path.split("/")):
        raise _bad_path(f"'{path}' names the log of a table")
    if re.search("%2f|%2e|%5c", path, re.IGNORECASE):  # some drivers decode it, and then it leads elsewhere
        raise _bad_path(f"'{path}' has a part in percent-encoding")
    if "\0" in path or depth == 0:
        raise _bad_path(f"{path!r} is no path of a table")
    longest = max(len(part.encode(errors="replace")) for part in path.split("/"))
    if longest > 255 or len(path.encode(errors="replace")) > 1000:
        raise _bad_path(f"the path is too long: '{path[:60]}…'")


def _bad_path(message: str) -> ConfigurationError:
    return ConfigurationError("bad-table-path", message, hint="write a short path below the lake's root")


@lru_cache(maxsize=4096)
def _is_segment(text: str) -> bool:
    return _SEGMENT.fullmatch(text) is not None and len(text.encode(errors="replace")) <= _LONGEST_SEGMENT_BYTES


def dataset_name(table: str | None, path: str | None) -> DatasetName:
    """Return the logical name, the same for a table however it is named: ``raw/orders`` is ``raw.orders``."""
    if table is None:
        segments = [part for part in (path or "").split("/") if part not in ("", ".")]
        table = ".".join(segments) if len(segments) == 2 and all(map(_is_segment, segments)) else "/".join(segments)
    return DatasetName("onelake", table)


def lake_root(environment: Environment) -> Path:
    """Return the folder of the environment's lake, links resolved.

    Raises ``ConfigurationError``: ``unsupported-store`` where the lake lies in an object store, ``shared-lake`` as
    :func:`table_place`.
    """
    address = environment.own_root.address
    if not address.is_folder:
        raise ConfigurationError(
            "unsupported-store",
            f"files are written to and read from a lake in a folder alone, and this one is {address.uri}",
            hint="use tables (onelake), or an environment whose lake is a folder",
        )
    return Path(address.path)


def below_lake(environment: Environment, path: str) -> Path:
    """Return ``path`` below the lake's folder, links resolved. Raises ``ConfigurationError`` (``outside-lake``)."""
    lake_root(environment)
    return Path(_place(environment.lake_root, environment, _key(None, path)).address.path)


def staged_folder(environment: Environment, *parts: str) -> Path:
    """Return a new folder below the lake's ``_staging``. Raises ``ConfigurationError`` as :func:`below_lake`."""
    root = lake_root(environment)
    folder = root.joinpath(STAGING, *parts)
    if not folder.resolve().is_relative_to(root):
        raise outside(f"{STAGING}/{'/'.join(parts)}")
    make_folder(folder)
    return folder


def lock_key(folder: Path) -> str:
    """Return the key, in the lake's store, of the lock that writers of the folder take turns by."""
    return f"{_LOCKS}/{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:32]}"


def outside(path: str) -> ConfigurationError:
    """Return the error for a path that leads out of the lake."""
    return ConfigurationError(
        "outside-lake",
        f"'{path}' leads out of the environment's lake",
        hint=f"write a path relative to the lake's root, without '..' and not in {' or '.join(sorted(RESERVED))}",
    )


def table_place(environment: Environment, table: str | None, path: str | None) -> TablePlace:
    """Return where a table of the environment's own lake lies or would lie: the only place that is written to.

    Raises ``ConfigurationError``: ``outside-lake`` for a path or link that leads out of it, ``shared-lake`` where the
    lake itself is, by whatever spelling, one that the environment only reads.
    """
    return _place(environment.own_root, environment, _key(table, path))


def read_places(environment: Environment, table: str | None, path: str | None) -> Iterator[TablePlace]:
    """Yield where a table may be read, in the order in which it is looked for: here, then where this reads from."""
    for root in (environment.lake_root, *environment.read_roots):
        yield _place(root, environment, _key(table, path))


def _key(table: str | None, path: str | None) -> str:
    """Return the key below the lake's root that a name or a path means, checked as far as its text alone tells."""
    if table is not None:
        check_table_name(table)
        return table.replace(".", "/")
    check_path(path or "")
    return posixpath.normpath(path or "").strip("/")


def _place(root: LakeRoot, environment: Environment, key: str) -> TablePlace:
    storage = resolve_secrets(dict(root.storage), environment)
    if not root.address.is_folder:
        if set(key) & set("%?#"):  # drivers disagree about them in addresses
            raise _bad_path(f"the path '{key}' has one of % ? #")
        return TablePlace(root, key, storage)
    # Text, not Path: a compilation asks it of every sink.
    base = root.address.path.rstrip("/") + "/"
    found = _follow(base, key)
    if not found.startswith(base):
        raise outside(key)
    if os.path.islink(f"{found}/{LOG_FOLDER}"):  # a write would commit to the table that it leads to
        raise outside(f"{key}/{LOG_FOLDER}")
    target = found.removeprefix(base)
    if target.split("/")[0] in RESERVED:
        raise outside(key)
    return TablePlace(root, target, storage)


def _follow(base: str, key: str) -> str:
    """Return the path of a key below a folder, links resolved; those in the folder's own path are already."""
    return os.path.realpath(base + key) if has_link(base[:-1], ("", *key.split("/"))) else base + key


def check_alone(place: TablePlace) -> None:
    """Raise ``ConfigurationError`` (``taken-place``) where a table made here would lie in or around another one."""
    store = open_store(place.lake.address, storage=place.storage)
    if other := table_around(store, place.key):
        raise taken_place(place.key, f"lies in the table '{other}'")
    for name in store.folders(place.key):
        if LOG_FOLDER in store.folders(f"{place.key}/{name}"):
            raise taken_place(place.key, f"holds the table '{place.key}/{name}'")


def check_no_table(environment: Environment, path: str) -> None:
    """Raise ``ConfigurationError`` (``taken-place``) where files at ``path`` would replace a table, or lie in one."""
    target, store = below_lake(environment, path), FolderStore(lake_root(environment))
    key = target.relative_to(store.root).as_posix()
    if LOG_FOLDER in store.folders(key):
        raise taken_place(path, "is a table")
    if other := table_around(store, key):
        raise taken_place(path, f"lies in the table '{other}'")
    for folder, names, _ in os.walk(target):
        if LOG_FOLDER in names:
            raise taken_place(path, f"holds the table '{Path(folder).relative_to(store.root).as_posix()}'")
        names[:] = [name for name in names if "=" not in name]  # partitions of files


def table_around(store: Store, key: str) -> str | None:
    """Return the table whose folder a key of the lake lies in, or None."""
    parts = key.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return next((one for one in above if LOG_FOLDER in store.folders(one)), None)


def taken_place(path: str, what: str) -> ConfigurationError:
    """Return the error for a path where something else lies."""
    return ConfigurationError(
        "taken-place", f"'{path}' {what}, which a write there would damage", hint="write to a path of its own"
    )


def known_tables(root: LakeRoot, environment: Environment) -> list[str]:
    """Return the tables ``schema.table`` of a lake, sorted."""
    store = open_store(root.address, storage=resolve_secrets(dict(root.storage), environment))
    return [
        f"{schema}.{table}"
        for schema in store.folders()
        if _is_segment(schema)
        for table in store.folders(schema)
        if _is_segment(table) and LOG_FOLDER in store.folders(f"{schema}/{table}")
    ]


def unknown_table(environment: Environment, name: str) -> UnknownNameError:
    """Return the error for a table that is not there: near names of the lake, and where it was looked for."""
    roots = (environment.lake_root, *environment.read_roots)
    known = sorted({table for root in roots for table in known_tables(root, environment)})
    hint = did_you_mean(name, known)
    if hint is None:
        listed = ", ".join(known[:_SHOWN_TABLES]) + (" …" if len(known) > _SHOWN_TABLES else "")
        hint = f"the lake has: {listed}" if known else "the lake has no table yet"
    key = name.replace(".", "/")
    return UnknownNameError(
        "unknown-table",
        f"unknown table '{name}'",
        hint=hint,
        notes=[
            *(f"looked for a Delta table in {root.address.joined(key).uri}" for root in roots),
            f"environment '{environment.name}', lake {roots[0].address.uri}",
        ],
    )
