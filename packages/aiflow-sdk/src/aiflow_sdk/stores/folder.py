"""A store in a folder of a file system that has hard links and atomic renames."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from aiflow_sdk.errors import StoreError
from aiflow_sdk.stores.files import has_link, writing
from aiflow_sdk.stores.usage import Usage


class FolderStore:
    """A store in a folder of a file system that has hard links and atomic renames."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return where the key lies. Raises ``StoreError`` (``bad-key``) for one that would leave the store."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise StoreError("bad-key", f"{key!r} is no key of a store", hint="write names joined by '/'")
        return self.root.joinpath(*parts)

    def _target(self, key: str) -> Path:
        """Return where the key is written. Raises ``StoreError`` (``outside-store``) where a link leads out."""
        target = self.path(key)
        if has_link(str(self.root), key.split("/")[:-1]) and not target.parent.resolve().is_relative_to(
            self.root.resolve()
        ):
            raise StoreError(
                "outside-store",
                f"{target} leads out of {self.root} by a link",
                hint="remove the link; nothing is written where it leads",
            )
        return target

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless the key is there; whoever reads it finds all of it. Survives a crash once answered."""
        target = self._target(key)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = _write_beside(target, data)
            try:
                os.link(part, target)
            except FileExistsError:
                return False
            finally:
                part.unlink()
        _sync_folder(target.parent)
        return True

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, in place of what was there; whoever reads it finds all of the one or all of the other."""
        target = self._target(key)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_beside(target, data).replace(target)
        _sync_folder(target.parent)

    def read(self, key: str) -> bytes | None:
        """Return what lies at the key, or None."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def mark(self, key: str) -> tuple[int, int, int] | None:
        """Return what tells the file at the key from another one there, or None where there is none."""
        try:
            found = os.stat(f"{self.root}/{key}")
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Store what the file holds."""
        target = self._target(key)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = target.open("wb")
        with writing(target), copy:
            shutil.copyfileobj(file, copy)

    def open(self, key: str) -> IO[bytes]:
        """Return a reader of what lies at the key."""
        return self.path(key).open("rb")

    def list(self, prefix: str = "") -> builtins.list[str]:
        """Return the keys at or below ``prefix``, sorted; what is still being written is left out."""
        return sorted(key for key, _ in self.sizes(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and bytes of what lies at or below ``prefix``; what is still being written is left out."""
        start = self.path(prefix) if prefix else self.root
        if start.is_file():
            yield prefix, start.stat().st_size
            return
        for folder, _, names in os.walk(start):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # it went while we looked
                    if not _is_part(name):
                        yield path.relative_to(self.root).as_posix(), path.stat().st_size

    def moments(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        """Yield key and moment of the last write of what lies at or below ``prefix``, likewise."""
        for key, _ in self.sizes(prefix):
            with suppress(FileNotFoundError):  # it went while we looked
                yield key, self.path(key).stat().st_mtime

    def changed(self, prefix: str) -> float:
        """Return the moment (seconds since 1970) at which something at or below ``prefix`` was written last; else 0."""
        start = self.path(prefix)
        found = [start, *start.rglob("*")] if start.is_dir() else [start]
        times = []
        for path in found:
            with suppress(FileNotFoundError):
                times.append(path.lstat().st_mtime)
        return max(times, default=0.0)

    def usage(self, prefix: str = "") -> Usage:
        """Return how much lies at or below ``prefix``; links are not followed."""

        def found() -> Iterator[tuple[int, float]]:
            start = self.path(prefix) if prefix else self.root
            for folder, _, names in os.walk(start):
                for name in names:
                    with suppress(FileNotFoundError):  # it went while we looked
                        status = os.lstat(os.path.join(folder, name))
                        yield status.st_size, status.st_mtime

        return Usage.of(found())

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Return the names of the folders right below ``prefix``, sorted; links are left out."""
        start = self.path(prefix) if prefix else self.root
        return (
            sorted(one.name for one in os.scandir(start) if one.is_dir(follow_symlinks=False)) if start.is_dir() else []
        )

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these keys, and the folders that are empty then."""
        for key in keys:
            target = self._target(key)
            with suppress(FileNotFoundError, NotADirectoryError):
                target.unlink()
            self._prune(target.parent)

    def prune(self, key: str) -> None:
        """Remove the folder at the key and those above it, as far as they are empty; the store's own stays."""
        self._prune(self._target(key))

    def _prune(self, folder: Path) -> None:
        while folder != self.root and folder.is_relative_to(self.root):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # somebody else's file is in it
                return
            folder = folder.parent

    def delete_prefix(self, prefix: str) -> None:
        """Remove what lies at or below ``prefix``; nothing there is no error."""
        target = self._target(prefix) if prefix else self.root
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def publish(self, source: Path, key: str, *, replace: bool = False) -> bool:
        """Move a file or folder of this file system to the key in one step, and tell whether that happened.

        Where something is there already, nothing happens, unless ``replace``: then the two change places, so that who
        reads the old may go on at ``source`` until the caller removes it (of a file nothing is left). Readers see the
        old or the new, never a part; where the system cannot exchange two folders, for a moment neither.
        """
        target = self._target(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file() and not target.is_dir():
            if replace:
                source.replace(target)
            else:
                try:
                    os.link(source, target)
                except FileExistsError:
                    return False
                source.unlink()
        elif not replace:
            try:
                if target.is_file():
                    return False
                source.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
        elif target.exists():
            _exchange(source, target)
        else:
            source.rename(target)
        _sync_folder(target.parent)
        return True

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the key's lock; others on this machine wait. It is free again when its holder dies."""
        import fcntl

        target = self._target(key)
        with writing(target):
            try:
                file = target.open("a")
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("a")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


_PART = ".part-"


def _write_beside(target: Path, data: bytes) -> Path:
    part = target.with_name(f"{_PART}{os.urandom(8).hex()}")
    # As any file: who reads a folder, Airflow's user for instance, is seldom who has published to it.
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return part


def _is_part(name: str) -> bool:
    return name.startswith(_PART)


def _sync_folder(folder: Path) -> None:
    # The name itself must survive a crash too; some file systems cannot sync a folder and need not.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Let the two paths change places, atomically where the system can (Linux's renameat2, macOS's renamex_np)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    here, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE and RENAME_SWAP are both 2
    if hasattr(libc, "renameat2") and libc.renameat2(here, first, here, second, swap) == 0:
        return
    if hasattr(libc, "renamex_np") and libc.renamex_np(first, second, swap) == 0:
        return
    aside = one.with_name(one.name + ".old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
