"""Where files lie: formats by suffix, patterns, and what is there."""

from __future__ import annotations

import difflib
import errno
import glob
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar
from urllib.parse import unquote

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake.location import RESERVED, below_lake, lake_root
from aiflow_sdk.errors import ConfigurationError, DataNotReadyError
from aiflow_sdk.plugins import NULL_FOLDER

Found = TypeVar("Found")
LOOKS = 5
"""How often files are looked at that are replaced meanwhile."""

Format = Literal["parquet", "csv", "jsonl"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def format_of(path: str) -> Format | None:
    """Return the format that the path's suffix tells."""
    return SUFFIXES.get(PurePosixPath(path).suffix.lower())


def is_one_file(path: str) -> bool:
    """Whether the path names a file rather than a folder of files."""
    return format_of(path) is not None


@dataclass(frozen=True)
class Place:
    """What a path of a source names."""

    path: str
    format: Format
    root: Literal["project", "lake"]
    environment: Environment

    @property
    def base(self) -> Path:
        """The folder that relative paths start at."""
        if self.root == "lake":
            return lake_root(self.environment)
        return (self.environment.root or Path()).absolute()

    def files(self) -> list[Path]:
        """Return the files, sorted. Raises ``DataNotReadyError`` (``input-absent``) if there is none."""
        found = sorted(self._found())
        if not found:
            raise self._absent()
        return found

    def _found(self) -> Iterable[Path]:
        whole = self._whole()
        if whole.is_file():
            return [whole]
        if whole.is_dir():
            return self.below(whole)
        parts = PurePosixPath(self.path).parts
        fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        files: set[Path] = set()
        for name in glob.glob(self.path, root_dir=self.base, recursive=True):
            if any(map(_is_hidden, PurePosixPath(name).parts[fixed:])):
                continue
            path = self.base / name
            files.update([path] if path.is_file() else self.below(path))
        if self.root == "lake":
            # A link may lead anywhere.
            files = {path for path in files if _is_inside(path.resolve(), self.base)}
        return files

    def _whole(self) -> Path:
        if "\0" in self.path:
            raise ConfigurationError("bad-option", f"{self.path!r} is no path")
        if self.root == "lake":
            fixed = [part for part in PurePosixPath(self.path).parts if glob.has_magic(part)]
            below_lake(self.environment, self.path if not fixed else self.path.split(fixed[0], 1)[0] + "x")
            return self.base / self.path
        depth = 0
        for part in PurePosixPath(self.path).parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                raise ConfigurationError(
                    "outside-project",
                    f"'{self.path}' leads out of the project",
                    hint="write a path within it, or a whole path that begins with '/'",
                )
        return self.base / self.path

    def below(self, folder: Path) -> Iterable[Path]:
        """Return the files of the format in a folder and its folders, all of one moment.

        Raises ``FileNotFoundError`` where one of them, or a folder, is replaced meanwhile.
        """
        found: list[Path] = []
        marks = {str(folder): _mark(str(folder))}  # taken before a folder is listed
        for parent, folders, names in os.walk(folder, onerror=_raise_gone):
            folders[:] = [name for name in folders if not _is_hidden(name)]
            marks |= {inner: _mark(inner) for inner in (f"{parent}/{name}" for name in folders)}
            for name in names:
                if _is_hidden(name) or format_of(name) != self.format:
                    continue
                path = Path(parent, name)
                if path.is_file():
                    found.append(path)
                elif not os.path.lexists(path):
                    raise _gone(str(path))
        for listed, mark in marks.items():
            if _mark(listed) != mark:
                raise _gone(listed)
        return found

    def _absent(self) -> DataNotReadyError:
        whole = self._whole()
        folder = whole.parent
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        near = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        close = difflib.get_close_matches(
            whole.name if folder == whole.parent else whole.relative_to(folder).parts[0], near
        )
        return DataNotReadyError(
            "input-absent",
            f"there is no file '{self.path}'",
            hint=f"did you mean {' or '.join(repr(name) for name in close)}?" if close else None,
            retryable=True,
            notes=[f"looked for {whole}", f"the nearest folder that exists is {folder}"],
        )

    def partition(self, file: Path) -> dict[str, str | None]:
        """Return the values of the folders ``column=value`` above the file, as text."""
        values: dict[str, str | None] = {}
        parts = file.relative_to(self.base).parts if file.is_relative_to(self.base) else file.parts
        for part in parts[:-1]:
            column, equals, text = part.partition("=")
            if equals and column:
                values[unquote(column)] = None if text in ("", NULL_FOLDER) else unquote(text)
        return values


def _mark(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _gone(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _raise_gone(error: OSError) -> None:
    # What may not be listed is passed over; what is gone was replaced, and half of it would be listed.
    if isinstance(error, FileNotFoundError):
        raise error


def looked_at(look: Callable[[], Found], path: str) -> Found:
    """Return what a look at files finds, which is repeated where one went meanwhile.

    Raises ``DataNotReadyError`` (``input-changed``) where that goes on.
    """
    for _ in range(LOOKS - 1):
        with suppress(FileNotFoundError):
            return look()
    try:
        return look()
    except FileNotFoundError as error:
        raise changed(path, error) from error


def changed(path: str, error: FileNotFoundError) -> DataNotReadyError:
    """Return the error for files that went while they were read."""
    return DataNotReadyError(
        "input-changed",
        f"files of '{path}' were replaced or removed while they were read",
        hint="run it again, once what writes them is done",
        retryable=True,
        notes=[str(error)],
    )


def _is_inside(path: Path, lake: Path) -> bool:
    return path.is_relative_to(lake) and path.relative_to(lake).parts[0] not in RESERVED


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def files_identity(files: Iterable[Path], base: Path) -> str:
    """Return a fingerprint of the files: equal as long as none was written anew."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        name = file.relative_to(base) if file.is_relative_to(base) else file
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
