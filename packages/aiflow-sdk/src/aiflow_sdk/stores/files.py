"""Single files of this machine: their names, writing them whole, and locking them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISLNK
from urllib.parse import quote

from aiflow_sdk.errors import StoreError

_MAKINGS = 100


def folder_name(name: str) -> str:
    """Return a name that somebody chose as one part of a path, different for different names; plain ones stay.

    No name leaves the folder that it is put in: ``../x`` is ``..%2Fx``.
    """
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted or "%"


def make_folder(folder: Path) -> None:
    """Make a folder that is not there, and those above it, while others remove the empty ones of these.

    Raises ``OSError``.
    """
    for left in range(_MAKINGS, -1, -1):
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:
            if not left:
                raise
        else:
            return


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


def replace_private_file(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, as a whole, and its folder where that is not there.

    Raises ``OSError``, and then the old one stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed, and return whether nobody else has; never waits."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def has_link(folder: str, parts: Iterable[str]) -> bool:
    """Return whether a part of a path below ``folder`` is a link; an empty part is the folder itself.

    What is not there leads nowhere, nor does what would lie below.
    """
    path = folder
    for part in parts:
        path = f"{path}/{part}" if part else path
        try:
            if S_ISLNK(os.lstat(path).st_mode):
                return True
        except OSError:
            return False
    return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says against writing into a ``StoreError``."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            "store-not-writable",
            f"{path} cannot be written: {error.strerror or error}",
            hint="free some space on the disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "let the project's folder be written to",
        ) from error
