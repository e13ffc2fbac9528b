"""The record beside files of a sink: which generation of which write lies there, and which files are its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from aiflow_sdk.errors import DataError, StoreError, plural
from aiflow_sdk.stores import FolderStore

RECORD = "_aiflow.json"
_SHOWN_FILES = 5
_LITTER = (".ds_store", "thumbs.db", "desktop.ini")
"""What macOS and Windows put into folders that somebody looks at."""
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
"""How a file begins in which macOS keeps what another file system cannot hold of the file beside it (RFC 1740)."""


@dataclass(frozen=True)
class Record:
    """What is noted beside the files of a sink."""

    generations: Mapping[str, int] = field(default_factory=dict)
    """Write → the newest generation of it that lies there."""
    files: frozenset[str] | None = frozenset()
    """Relative to the folder; None: not noted, as by records that held generations alone, so that all count."""

    @classmethod
    def read(cls, store: FolderStore, key: str) -> Record | None:
        """Return the record at a key, or None. Raises ``StoreError`` (``unreadable-record``) for what is none."""
        return cls._of(store.root / key, store.read(key))

    @classmethod
    def _of(cls, path: Path, text: bytes | None) -> Record | None:
        if text is None:
            return None
        try:
            known = json.loads(text)
            generations = known.get("generations", known)
            files = frozenset(map(str, known["files"])) if "files" in known else None
            return cls({str(app): int(generation) for app, generation in generations.items()}, files)
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(
                "unreadable-record",
                f"{path} does not tell what was written there: {error}",
                hint="remove it and what lies beside it if that may be replaced",
            ) from error

    def text(self) -> bytes:
        """Return the record as it is stored."""
        return json.dumps(
            {"files": sorted(self.files or ()), "generations": dict(self.generations)}, sort_keys=True
        ).encode()


def refuse_foreign_file(store: FolderStore, place: str, record: str) -> None:
    """Raise ``DataError`` (``foreign-files``) where what is to be one file is there without its record."""
    target = store.path(place)
    if target.is_dir():
        _refuse(store, place, list(_files_below(target)))
    elif target.is_file() and Record.read(store, record) is None:
        _refuse(store, place, [target])


def refuse_foreign_files(store: FolderStore, place: str, whole: str) -> None:
    """Raise ``DataError`` (``foreign-files``) where the folder at ``place`` holds what no record of this sink's notes.

    ``whole`` is the key of all the sink's files, at or above ``place``: one write may have made all of its partitions.
    """
    target = store.path(place)
    if target.is_file():
        _refuse(store, place, [target])
    elif target.is_dir():
        own = _own_files(store.path(whole), target)
        _refuse(store, place, [file for file in _files_below(target) if file not in own])


def _refuse(store: FolderStore, place: str, found: Sequence[Path]) -> None:
    foreign = [file for file in found if not _is_litter(file)]
    if not foreign:
        return
    names = [file.relative_to(store.root).as_posix() for file in sorted(foreign)]
    shown = ", ".join(names[:_SHOWN_FILES]) + (" …" if len(names) > _SHOWN_FILES else "")
    raise DataError(
        "foreign-files",
        f"the run would replace {plural(len(names), 'file')} at '{place}' that no files sink wrote there: {shown}",
        hint='move them away, write to a path of its own, or declare foreign="replace" if they may go',
    )


def _is_litter(file: Path) -> bool:
    """Whether an operating system left the file there: it is nobody's data, and goes with the folder."""
    try:
        if not S_ISREG(file.lstat().st_mode):
            return False
        if file.name.startswith("._"):
            with file.open("rb") as stream:
                return stream.read(len(_APPLE_DOUBLE)) == _APPLE_DOUBLE
    except OSError:  # what cannot be looked at may be somebody's data
        return False
    return file.name.lower() in _LITTER


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield files and links below a folder."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        yield from (Path(parent, name) for name in folders if os.path.islink(f"{parent}/{name}"))


def _own_files(whole: Path, target: Path) -> set[Path]:
    """Return what the records in and above ``target`` note, themselves included."""
    above = [folder for folder in target.parents if folder.is_relative_to(whole)]
    # A folder that is no partition's is another sink's.
    own: set[Path] = set()
    for folder in (*above, target, *_partitions_below(target)):
        path = folder / RECORD
        record = Record._of(path, path.read_bytes() if path.is_file() else None)
        if record is not None:
            own.add(path)
            own |= set(_files_below(folder)) if record.files is None else {folder / name for name in record.files}
    return own


def _partitions_below(folder: Path) -> Sequence[Path]:
    found = [
        Path(entry.path) for entry in os.scandir(folder) if "=" in entry.name and entry.is_dir(follow_symlinks=False)
    ]
    return [*found, *(inner for one in found for inner in _partitions_below(one))]
