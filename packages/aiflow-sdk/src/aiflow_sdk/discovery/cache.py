"""Remembers what modules gave, so that unchanged ones are not imported again.

One SQLite file below ``.aiflow/cache`` for each version of aiflow and each interpreter; it may be deleted at any time.
A module is unchanged while its file, the project files that it reaches by imports, the project data that was read
while they were imported, and what is installed, are. Modules with a problem are never remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from aiflow_sdk.code import (
    CodeIndex,
    SourceFile,
    Stamp,
    interpreter,
    is_foreign,
    lock_fingerprint,
    module_name,
    scan_sources,
    stamp_of,
    written_defaults,
)
from aiflow_sdk.config import Project
from aiflow_sdk.discovery.record import (
    CACHE_FOLDER,
    DEFINITION_FIELDS,
    PATIENCE_SECONDS,
    PIPELINE_FIELDS,
    Definitions,
    ModuleRecord,
)

_FORMAT = "3"
_TABLES = """
create table meta (key text primary key, value text) without rowid;
create table file (path text primary key, mtime integer, ctime integer, size integer, inode integer,
    looked_at integer, digest text, imports text) without rowid;
create table module (name text primary key, path text, builds integer, notes text, only_plugins integer,
    only_here integer) without rowid;
create table reach (path text, module text, primary key (path, module)) without rowid;
create index reach_of_module on reach (module);
create table pipeline (module text, position integer, id text, project text, path text, line integer, home text,
    fingerprint text, entrypoints text, defaults text, primary key (module, position)) without rowid;
create index pipeline_by_id on pipeline (id);
create table definition (module text, position integer, fingerprint text, ir text, locations text,
    primary key (module, position)) without rowid;
create table data (source text, path text, primary key (source, path)) without rowid;
create table mark (path text, type text, kind text, reference text) ;
"""


class Cache:
    """The remembered modules of one project, as they were when it was opened, and what has changed since."""

    def __init__(
        self, project: Project, snapshot: Mapping[str, Stamp], connection: sqlite3.Connection, path: Path | None
    ) -> None:
        self._project = project
        self.definitions = Definitions(path)
        """Of the pipelines in :meth:`records`."""
        self._snapshot = snapshot
        self._connection = connection
        self._data_digests: dict[str, str] = {}
        self._written_defaults: dict[str, str] = {}
        self._files: dict[str, tuple[Any, ...]] = {
            row[0]: row[1:]
            for row in connection.execute(
                "select path, mtime, ctime, size, inode, looked_at, digest, imports from file"
            )
        }
        self.index = CodeIndex(project.root, snapshot=snapshot, memory=self._remembered, foreign=is_foreign(project))
        """Knows the files as they are now; of unchanged ones without reading them."""
        self.valid: dict[str, tuple[str, int, bool]] = {}
        """Name of each module that is unchanged → its file, how many times it was built, and whether a function of its
        pipelines exists only in the process that built them."""
        self.stale: set[str] = set()
        """Names of the modules that are not."""
        self.fresh: set[str] = set()
        """Project files that are new or were changed; all where nothing is remembered."""
        self._added: set[str] = set()
        self.has_lost = False
        """Whether files are gone that were there before."""
        self._compare()

    def records(self) -> dict[str, ModuleRecord]:
        """Return what the unchanged modules gave, by name."""
        rows = self._connection.execute("select name, path, notes from module")
        records = {name: ModuleRecord(name, path, notes=notes) for name, path, notes in rows if name in self.valid}
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        for pipeline in cursor.execute("select * from pipeline order by module, position"):
            record = records.get(pipeline["module"])
            if record:
                record.pipelines.append(pipeline)
        return records

    def plugin_modules(self) -> list[str]:
        """Return the files that were imported for the plugins that they register, and have not changed."""
        rows = self._connection.execute("select path from module where only_plugins")
        return [path for (path,) in rows if path in self._snapshot and path not in self.fresh]

    def modules_of(self, pipeline_id: str) -> list[tuple[str, str | None]]:
        """Return the modules that defined a pipeline of the id the last time, unchanged or not, with its project."""
        rows = self._connection.execute("select module, project from pipeline where id = ?", (pipeline_id,))
        return rows.fetchall()

    def marks(self) -> list[tuple[str, str, str, str]]:
        """Return (file, type, kind, ``module:object``) of the plugins that unchanged files register."""
        rows = self._connection.execute("select path, type, kind, reference from mark").fetchall()
        return [row for row in rows if row[0] in self._snapshot and row[0] not in self.fresh]

    def data_read_by(self, source: str) -> list[str]:
        """Return the project data that was read while the file's code ran."""
        return [path for (path,) in self._connection.execute("select path from data where source = ?", (source,))]

    def save(
        self,
        records: Iterable[tuple[ModuleRecord, int, Iterable[str]]],
        *,
        gone: Iterable[str],
        data: Mapping[str, Iterable[str]],
        marks: Iterable[tuple[str, str, str, str]],
        executed: Iterable[str],
    ) -> None:
        """Remember modules (record, how many times built, files reached), and forget those that are ``gone`` or stale.

        ``data`` and ``marks`` are those of the files that were ``executed``. Where another process holds the file, or
        the disk is full or read-only, nothing is remembered and nobody stopped.
        """
        records = list(records)
        with suppress(sqlite3.Error), self._connection as connection:
            names = [(name,) for name in {*gone, *self.stale, *(record.name for record, _, _ in records)}]
            for table in ("module", "pipeline", "definition", "reach"):
                column = "name" if table == "module" else "module"
                connection.executemany(f"delete from {table} where {column} = ?", names)
            ran = [(path,) for path in executed]
            connection.executemany("delete from data where source = ?", ran)
            connection.executemany("delete from mark where path = ?", ran)
            connection.executemany(
                "insert or ignore into data values (?, ?)", [(source, path) for source in data for path in data[source]]
            )
            connection.executemany("insert into mark values (?, ?, ?, ?)", marks)
            connection.executemany(
                "insert into module values (?, ?, ?, ?, ?, ?)",
                [
                    (record.name, record.path, builds, record.notes, record.only_plugins, record.is_only_here)
                    for record, builds, _ in records
                ],
            )
            connection.executemany(
                "insert into reach values (?, ?)",
                [(path, record.name) for record, _, reached in records for path in reached],
            )
            connection.executemany(
                f"insert into pipeline values (?, ?, ?{', ?' * len(PIPELINE_FIELDS)})",
                [
                    (
                        record.name,
                        position,
                        *(pipeline[name] for name in PIPELINE_FIELDS),
                        self._defaults(pipeline["entrypoints"]),
                    )
                    for record, _, _ in records
                    for position, pipeline in enumerate(record.pipelines)
                ],
            )
            connection.executemany(
                "insert into definition values (?, ?, ?, ?, ?)",
                [
                    (record.name, position, *(pipeline[name] for name in DEFINITION_FIELDS))
                    for record, _, _ in records
                    for position, pipeline in enumerate(record.pipelines)
                ],
            )
            self._save_files(connection, self._added.union(*(reached for _, _, reached in records)))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _remembered(self, path: str) -> SourceFile | None:
        row = self._files.get(path)
        if row is None or row[6] is None:
            return None
        return SourceFile(row[:4], row[5], tuple(json.loads(row[6])), row[4])

    def _compare(self) -> None:
        """Find out which modules are unchanged."""
        modules = {
            name: (path, builds, bool(only_here))
            for name, path, builds, only_here in self._connection.execute(
                "select name, path, builds, only_here from module"
            )
        }
        changed: set[str] = set()
        settled: set[str] = set()
        self._added = self._snapshot.keys() - self._files.keys()
        for path, row in self._files.items():
            stamp = self._snapshot.get(path)
            if stamp is None and not path.endswith(".py"):
                stamp = _data_stamp(self._project.root, path)
            if row[:4] == stamp and (row[5] is None or SourceFile(stamp, "", (), row[4]).is_settled):
                continue
            if row[5] is None and stamp is not None:
                settled.add(path)
                self.fresh.add(path)
            elif stamp is not None and self._digest(path) == row[5]:
                settled.add(path)
            else:
                changed.add(path)
        self.fresh |= self._added | changed
        self.has_lost = any(path.endswith(".py") and path not in self._snapshot for path in changed)
        if not modules:
            return
        self.stale = {
            module
            for path in changed
            for (module,) in self._connection.execute("select module from reach where path = ?", (path,))
        }
        removed = {path for path in changed if path.endswith(".py") and path not in self._snapshot}
        if self._added or removed:
            self.stale |= self._resolved_otherwise(modules, {module_name(path) for path in self._added | removed})
        if any(path.endswith(".py") for path in (*self.fresh, *removed)):
            self.stale.update(self._defaulted_otherwise())
        self.valid = {name: facts for name, facts in modules.items() if name not in self.stale}
        if settled or self._added:
            with suppress(sqlite3.Error), self._connection as connection:
                self._save_files(connection, settled | self._added)

    def _resolved_otherwise(self, modules: Iterable[str], names: set[str]) -> set[str]:
        """Return the modules for which files that came or went make an import or an entrypoint mean something else."""
        reached: dict[str, set[str]] = {name: set() for name in modules}
        for path, module in self._connection.execute("select path, module from reach"):
            if path.endswith(".py"):
                reached[module].add(path)
        paths = dict(self._connection.execute("select name, path from module"))
        stale = set()
        for module, before in reached.items():
            if paths[module] not in self._snapshot or set(self.index.closure(paths[module])) != before:
                stale.add(module)
        for module, entrypoints in self._connection.execute("select module, entrypoints from pipeline"):
            for entrypoint in entrypoints.splitlines():
                parts = entrypoint.replace(":", ".").split(".")
                if any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1)):
                    stale.add(module)
        return stale

    def _defaulted_otherwise(self) -> Iterator[str]:
        """Yield the modules of pipelines for whose functions ``@transform(…)`` says something else now."""
        for entrypoints, defaults in self._connection.execute("select distinct entrypoints, defaults from pipeline"):
            if self._defaults(entrypoints) != defaults:
                query = "select module from pipeline where entrypoints = ? and defaults = ?"
                yield from (name for (name,) in self._connection.execute(query, (entrypoints, defaults)))

    def _defaults(self, entrypoints: str) -> str:
        """Return what ``@transform(…)`` says of functions, whatever their own text is."""
        if entrypoints not in self._written_defaults:
            roots = [str(self._project.root)]
            found = {named: written_defaults(named, roots) for named in entrypoints.splitlines()}
            self._written_defaults[entrypoints] = repr({named: says for named, says in found.items() if says})
        return self._written_defaults[entrypoints]

    def _digest(self, path: str) -> str:
        if path in self._snapshot:
            return self.index.source(path).digest
        if path not in self._data_digests:
            self._data_digests[path] = _data_digest(self._project.root, path)
        return self._data_digests[path]

    def _save_files(self, connection: sqlite3.Connection, paths: Iterable[str]) -> None:
        """Remember files as they are now; those that no module reaches are only known to be there."""
        rows: list[tuple[Any, ...]] = []
        for path in paths:
            known = self.index.known(path)
            if known:
                rows.append((path, *known.stamp, known.looked_at_ns, known.digest, json.dumps(known.imports)))
            elif path in self._snapshot:
                rows.append((path, *self._snapshot[path], 0, None, None))
            else:
                looked_at_ns = time.time_ns()
                stamp = _data_stamp(self._project.root, path) or (0, 0, 0, 0)
                rows.append((path, *stamp, looked_at_ns, self._digest(path), None))
        connection.executemany("insert or replace into file values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        gone = [(path,) for path in self._files if path.endswith(".py") and path not in self._snapshot]
        connection.executemany("delete from file where path = ?", gone)


def open_cache(project: Project, snapshot: Mapping[str, Stamp]) -> Cache:
    """Return the cache of the project. One that is damaged is thrown away, one that cannot be written forgets all."""
    path = _path(project)
    for place in (path, path, None):
        try:
            return Cache(project, snapshot, _connect(place, lock_fingerprint(project)), place)
        except (OSError, sqlite3.OperationalError):
            continue  # locked for long, or a read-only folder
        except sqlite3.DatabaseError:
            with suppress(OSError):
                path.unlink()
    raise AssertionError("a database in memory can be opened")


def _connect(path: Path | None, lock: str) -> sqlite3.Connection:
    if path and not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n")
    connection = sqlite3.connect(path or ":memory:", timeout=PATIENCE_SECONDS)
    # What a crash damages is only made anew.
    connection.execute("pragma synchronous = off")
    with connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        if "meta" in tables and dict(connection.execute("select key, value from meta")).get("lock") == lock:
            return connection
        for table in tables:
            connection.execute(f"drop table {table}")
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        connection.execute("insert into meta values ('lock', ?)", (lock,))
    return connection


def _path(project: Project) -> Path:
    python = interpreter(project)
    version = sys.version if python == sys.executable else repr(os.stat(python)) if os.path.exists(python) else ""
    key = hashlib.sha256("\0".join((_FORMAT, own_version(), python, version)).encode()).hexdigest()[:12]
    return project.root / CACHE_FOLDER / f"discovery-{key}.sqlite"


@cache
def own_version() -> str:
    """Return what changes with aiflow itself, installed or edited."""
    package = Path(__file__).parent.parent
    return repr(sorted((path, stamp[0], stamp[2]) for path, stamp in scan_sources(package).items()))


def _data_stamp(root: Path, path: str) -> Stamp | None:
    try:
        return stamp_of(os.stat(root / path))
    except OSError:
        return None


def _data_digest(root: Path, path: str) -> str:
    """Return the digest of a file's content, of a folder's names (``path`` ends with ``/``), or of its absence."""
    try:
        content = (
            "\0".join(sorted(os.listdir(root / path))).encode() if path.endswith("/") else (root / path).read_bytes()
        )
    except OSError:
        return ""
    return hashlib.sha256(content).hexdigest()
