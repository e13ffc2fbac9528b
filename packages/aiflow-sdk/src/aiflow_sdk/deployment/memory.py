"""Remembers from what each plan was made, so that it is not made of the same again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiflow_sdk.discovery.record import CACHE_FOLDER

PLAN_FILE = "plan.json"

_PATIENCE_SECONDS = 2.0
_TABLES = """
create table if not exists plan (folder text, home text, key text, mtime integer, size integer,
    primary key (folder, home)) without rowid;
create table if not exists common (folder text primary key, key text) without rowid
"""


class PlanMemory:
    """What each plan in one folder was made of, and the file's time and size when it was written.

    What a plan was made of are two keys: one that all plans of the folder share, and its own. All lies below
    ``.aiflow/cache`` and may be deleted at any time; where it cannot be read or written, it is empty.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._path = root / CACHE_FOLDER / "plans.sqlite"
        self._root = str(folder)
        self._name = os.fsencode(folder)  # a path need not be text that a database holds
        self._known: dict[str, tuple[str, int, int]] | None = None
        self._intact: dict[str, str] = {}
        self._common = ""
        self._is_of_common = True
        self._new: dict[str, tuple[str, int, int]] = {}
        self._gone: set[str] = set()

    def load(self) -> None:
        """Read what is remembered and look at the files; done by itself when it is first needed."""
        if self._known is not None:
            return
        try:
            self._known, self._common = self._read()
        except sqlite3.OperationalError:
            self._known = {}
        except sqlite3.DatabaseError:
            # Damaged: it is made anew.
            self._known = {}
            with suppress(OSError):
                self._path.unlink()
        self._intact = {home: known[0] for home, known in self._known.items() if known[1:] == self._stamp(home)}

    @contextmanager
    def all_made_of(self, common: str) -> Iterator[None]:
        """Take what all plans are made of; when it is done, what was noted inside is written down."""
        if common != self._loaded_common():
            self._is_of_common = False
            self._intact = {}
        self._common = common
        try:
            yield
        finally:
            if self._new or self._gone or not self._is_of_common:
                with suppress(sqlite3.Error, OSError):
                    self._write()

    @property
    def homes(self) -> frozenset[str]:
        """``project/id`` of the plans that earlier compilations left in the folder."""
        return frozenset(self._loaded())

    def remembers(self, home: str, definition: str) -> bool:
        """Tell whether the plan was made of this definition, whatever else it was made of."""
        known = self._loaded().get(home)
        return known is not None and known[0].startswith(f"{definition} ")

    def knows(self, home: str, key: str | None) -> bool:
        """Tell whether the plan is the one that was made of ``key``, untouched since. Asked inside ``all_made_of``."""
        return key is not None and self._intact.get(home) == key

    def remember(self, home: str, key: str | None) -> None:
        """Note that the plan was just made of ``key``."""
        if key is not None and (stamp := self._stamp(home)):
            self._new[home] = (key, *stamp)

    def forget(self, homes: Iterable[str]) -> None:
        """Note that these plans are no more."""
        self._gone.update(homes)

    def _loaded(self) -> dict[str, tuple[str, int, int]]:
        self.load()
        return self._known or {}

    def _loaded_common(self) -> str:
        self.load()
        return self._common

    def _stamp(self, home: str) -> tuple[int, int] | None:
        try:
            status = os.stat(f"{self._root}/{home}/{PLAN_FILE}")
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _read(self) -> tuple[dict[str, tuple[str, int, int]], str]:
        if not self._path.is_file():
            return {}, ""
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS)
        try:
            common = connection.execute("select key from common where folder = ?", (self._name,)).fetchone()
            rows = connection.execute("select home, key, mtime, size from plan where folder = ?", (self._name,))
            return {home: (key, mtime, size) for home, key, mtime, size in rows}, common[0] if common else ""
        finally:
            connection.close()

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS)
        try:
            connection.execute("pragma synchronous = off")
            with connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                if not self._is_of_common:
                    # Those that could not be made again are of the old; that they are there stays known.
                    connection.execute("update plan set key = '' where folder = ?", (self._name,))
                    connection.execute("insert or replace into common values (?, ?)", (self._name, self._common))
                connection.executemany(
                    "delete from plan where folder = ? and home = ?", [(self._name, home) for home in self._gone]
                )
                connection.executemany(
                    "insert or replace into plan values (?, ?, ?, ?, ?)",
                    [(self._name, home, *value) for home, value in self._new.items()],
                )
        finally:
            connection.close()
