"""SQLite's file, which somebody may remove or replace while it is open."""

from __future__ import annotations

import os

from aiflow_service.database.schema import UnfitDatabase


class ReplacedFile(UnfitDatabase):
    """The file was removed or replaced while it is open: what is written to it is nowhere once it is closed."""

    problem = "database-replaced"

    def __init__(self, path: str) -> None:
        super().__init__(f"the database's file {path} was removed or replaced while the service has it open")


class OpenFile:
    """A file that is open, known by its inode."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._inode: tuple[int, int] | None = None

    def require(self) -> None:
        """Return if the file is the one that was there the first time. Raises :class:`ReplacedFile`."""
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise ReplacedFile(self._path) from error
        # Known from the first time on, when it is open: on layers of a container that may be what makes the file.
        self._inode = self._inode or (status.st_dev, status.st_ino)
        if self._inode != (status.st_dev, status.st_ino):
            raise ReplacedFile(self._path)
