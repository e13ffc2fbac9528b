"""Remembers from what each plan was made, so that it is not made of the same again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from aiflow_sdk.discovery.cache import CACHE_FOLDER

_PATIENCE_SECONDS = 2.0
_TABLE = """
create table if not exists plan (folder text, home text, key text, mtime integer, size integer,
    primary key (folder, home)) without rowid
"""


class PlanMemory:
    """What each plan in one folder was made of, and the file's time and size when it was written.

    It lies below ``.aiflow/cache`` and may be deleted at any time; where it cannot be read or written, it is empty.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._path = root / CACHE_FOLDER / "plans.sqlite"
        self._folder = os.fsencode(folder)  # a path need not be text that a database holds
        self._known: dict[str, tuple[str, int, int]] = {}
        self._new: dict[str, tuple[str, int, int]] = {}
        self._gone: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._known = self._read()
        except sqlite3.OperationalError:
            self._known = {}
        except sqlite3.DatabaseError:
            # Damaged: it is made anew.
            with suppress(OSError):
                self._path.unlink()
        return self

    def __exit__(self, *error: object) -> None:
        if self._new or self._gone:
            with suppress(sqlite3.Error, OSError):
                self._write()

    @property
    def homes(self) -> frozenset[str]:
        """``project/id`` of the plans that earlier compilations left in the folder."""
        return frozenset(self._known)

    def knows(self, home: str, key: str, path: str) -> bool:
        """Tell whether the plan at ``path`` is the one that was made of ``key``, untouched since."""
        known = self._known.get(home)
        return known is not None and known[0] == key and known[1:] == _stamp(path)

    def remember(self, home: str, key: str | None, path: str) -> None:
        """Note that the plan at ``path`` was just made of ``key``."""
        if key is not None and (stamp := _stamp(path)):
            self._new[home] = (key, *stamp)

    def forget(self, homes: Iterable[str]) -> None:
        """Note that these plans are no more."""
        self._gone.update(homes)

    def _read(self) -> dict[str, tuple[str, int, int]]:
        if not self._path.is_file():
            return {}
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS)
        try:
            rows = connection.execute("select home, key, mtime, size from plan where folder = ?", (self._folder,))
            return {home: (key, mtime, size) for home, key, mtime, size in rows}
        finally:
            connection.close()

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS)
        try:
            connection.execute("pragma synchronous = off")
            with connection:
                connection.execute(_TABLE)
                connection.executemany(
                    "delete from plan where folder = ? and home = ?", [(self._folder, home) for home in self._gone]
                )
                connection.executemany(
                    "insert or replace into plan values (?, ?, ?, ?, ?)",
                    [(self._folder, home, *value) for home, value in self._new.items()],
                )
        finally:
            connection.close()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
