"""Storage that says "not there yet" in one atomic step: what locks, spools and single publications stand on.

A store is opened by address. Folders work today; object stores (``s3://``, ``abfss://``) get a class of the same shape.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from aiflow_sdk.errors import ConfigurationError, StoreError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # one letter is a Windows drive


class Store(Protocol):
    """Keys (``a/b/c``) and the bytes behind them."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless the key is there. Of many who try at once, exactly one is answered True."""

    def read(self, key: str) -> bytes | None:
        """Return what lies at the key, whole, or None where nothing does."""

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys at or below ``prefix``, sorted."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove what lies at or below ``prefix``; nothing there is no error."""


def open_store(address: str, *, root: Path | None = None) -> FolderStore:
    """Return the store at ``address``: a folder, relative to ``root`` (else to the current folder), or ``file://…``.

    Raises ``ConfigurationError`` (``unsupported-store``) for every other scheme. Nothing is created yet.
    """
    if _SCHEME.match(address):
        parts = urlsplit(address)
        if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
            raise ConfigurationError(
                "unsupported-store",
                f"'{parts.scheme}://' stores are not supported yet: {_without_credentials(address)}",
                hint='use a folder, as in lake = ".aiflow/lake"',
            )
        return FolderStore(Path(unquote(parts.path)))
    if not address:
        raise ConfigurationError("unsupported-store", "the address of a store is empty", hint="name a folder")
    return FolderStore((root or Path()).absolute() / address)


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

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless the key is there; whoever reads it finds all of it. Survives a crash once answered."""
        target = self.path(key)
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
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_beside(target, data).replace(target)
        _sync_folder(target.parent)

    def read(self, key: str) -> bytes | None:
        """Return what lies at the key, or None."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys at or below ``prefix``, sorted; what is still being written is left out."""
        start = self.path(prefix) if prefix else self.root
        if start.is_file():
            return [prefix]
        return sorted(
            (Path(folder) / name).relative_to(self.root).as_posix()
            for folder, _, names in os.walk(start)
            for name in names
            if not _is_part(name)
        )

    def delete_prefix(self, prefix: str) -> None:
        """Remove what lies at or below ``prefix``."""
        target = self.path(prefix)
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
        target = self.path(key)
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

        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def folder_name(name: str) -> str:
    """Return a name that somebody chose as one part of a path, different for different names; plain ones stay.

    No name leaves the folder that it is put in: ``../x`` is ``..%2Fx``.
    """
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted or "%"


def replace_file(path: Path, text: str) -> None:
    """Write a file as a whole: a reader sees the old one or the new one, a crash leaves one of them.

    Raises ``StoreError`` (``store-not-writable``), and then the old one stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            beside.write_text(text, "utf-8", "backslashreplace")  # a file name that is no UTF-8 may be told of
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed, and return whether nobody else has; never waits."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says against writing into a ``StoreError``."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            "store-not-writable",
            f"{path} cannot be written: {error.strerror or error}",
            hint="free some space on the disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "let the project's folder be written to",
        ) from error


_PART = ".part-"


def _write_beside(target: Path, data: bytes) -> Path:
    import tempfile

    handle, name = tempfile.mkstemp(prefix=_PART, dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


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


def _without_credentials(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address.split("?", 1)[0])
