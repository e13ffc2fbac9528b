"""Folders that are made once, known by what they hold, and shared by all tasks of a machine or of a shared disk.

``<root>/<key>/files`` is what a key stands for. It is made in a folder beside and appears by rename, so what is there
is whole. Who makes it holds ``<root>/<key>.lock``; the kernel lets go of that when its process ends, however it ends.
``<root>/<key>/used`` is locked (shared) by those who use the folder, and its time says when one last did.
``<root>/<key>.failed`` remembers for a short time why it could not be made.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiflow_sdk.errors import AiflowError, DocumentError, StoreError

LOG = logging.getLogger(__name__)

REMEMBERED_SECONDS = 30.0
"""So long a failure answers for those who ask too: enough for fifty tasks at once, less than a mend takes."""
RETRYABLE_REMEMBERED_SECONDS = 5.0
"""The same of a failure that may pass by itself: less than most retry delays."""
_DAY_SECONDS = 86_400
_REMOVALS, _REMOVAL_SECONDS = 10, 0.1
"""How often it is tried to remove what a dead maker left, and the pause in between."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

Make = Callable[[Path], None]
"""Fills an empty folder. Whatever it raises, the folder is removed."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published file, known by the SHA-256 of its content, which is asked for only where something is made of it.

    Raises ``DocumentError`` (``bad-document``) for a name or a SHA that is none.
    """

    file: str
    sha: str
    content: bytes | Path | Callable[[], bytes] = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha):
            raise DocumentError("bad-document", f"'{self.sha}' is not the SHA-256 of a file ({self.file})")
        # It becomes a line of a list of requirements too: one with a line end in it would be two.
        if "/" in self.file or not self.file.isprintable() or self.file in ("", ".", ".."):
            raise DocumentError("bad-document", f"{self.file!r} is not the name of a file")

    @classmethod
    def of(cls, file: str, content: bytes) -> Self:
        """Return the file that holds this content."""
        return cls(file, hashlib.sha256(content).hexdigest(), content)

    def read(self) -> bytes:
        """Return the content, which is what the SHA says; else ``DocumentError`` (``damaged-download``, retryable)."""
        match self.content:
            case bytes() as content:
                pass
            case Path() as path:
                content = path.read_bytes()
            case fetch:
                content = fetch()
        if (found := hashlib.sha256(content).hexdigest()) != self.sha:
            raise DocumentError(
                "damaged-download",
                f"{self.file} is not what was published: its SHA-256 is {found}, not {self.sha}",
                hint="try again; if it stays so, deploy the project anew",
                retryable=True,
            )
        return content


class SharedFolders:
    """Makes, finds, keeps and removes the folders below one root. Any number of threads, processes and hosts may."""

    def __init__(self, root: Path, what: str) -> None:
        self.root = root.absolute()
        self._what = what

    def find(self, key: str, proof: str = ".") -> Path | None:
        """Return the folder of a key if it is there and holds ``proof``, and note that it was used."""
        folder = self.root / key
        try:
            os.utime(folder / "used")
        except FileNotFoundError:
            return None
        except OSError:
            pass  # a home that may only be read serves as well
        files = folder / "files"
        return files if os.path.exists(files / proof) else None

    def find_or_make(self, key: str, make: Make, proof: str = ".") -> Path:
        """Return the folder of a key; of all who want it at once one makes it, and the others wait.

        A failure to make it is remembered for :data:`REMEMBERED_SECONDS` and raised for those who waited or who ask
        meanwhile (:data:`RETRYABLE_REMEMBERED_SECONDS` where trying again may help). Raises what ``make`` does, and
        ``StoreError`` (``home-not-writable``).
        """
        if found := self.find(key, proof):
            return found
        asked = time.time()
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with self._alone(key):
            if found := self.find(key, proof):
                return found
            self._raise_remembered(key, asked)
            for leftover in self.root.glob(f".making-{key}-*"):  # its maker is dead, or we would not be alone
                _remove_half_made(leftover)
            try:
                return self._make(key, make)
            except AiflowError as error:
                self._remember(key, error)
                raise

    @contextmanager
    def in_use(self, key: str, make: Make, proof: str = ".") -> Iterator[Path]:
        """Like :meth:`find_or_make`, and nobody removes the folder while the block runs."""
        while True:
            files = self.find_or_make(key, make, proof)
            mark = files.parent / "used"
            try:
                handle = os.open(mark, os.O_RDONLY)
            except FileNotFoundError:
                continue  # it was removed in between
            try:
                with suppress(OSError):  # where nothing can be locked, nothing is removed either
                    fcntl.flock(handle, fcntl.LOCK_SH)
                if not _is_at(handle, mark):
                    continue
                try:
                    yield files
                finally:
                    with suppress(OSError):
                        os.utime(mark)
                return
            finally:
                os.close(handle)

    def collect(self, keep_days: float) -> list[str]:
        """Remove what nobody has used for so many days, and what dead makers left; return the keys that are gone.

        What is in use stays, however old. Raises ``StoreError`` (``home-not-writable``).
        """
        removed: list[str] = []
        with writing(self.root):
            names = sorted(os.listdir(self.root)) if self.root.is_dir() else []
            oldest = time.time() - keep_days * _DAY_SECONDS
            for name in names:
                path = self.root / name
                if name.startswith(".removing-"):
                    remove_tree(path)
                elif name.startswith(".making-"):
                    with self._alone_at_once(name.split("-")[1]) as alone:
                        if alone:
                            _remove_half_made(path)
                elif name.endswith(".failed"):
                    if _time_of(path) < time.time() - _DAY_SECONDS:
                        path.unlink(missing_ok=True)
                elif not name.endswith(".lock") and self._collect_one(name, oldest):
                    removed.append(name)
            for name in names:
                key = name.removesuffix(".lock")
                if key != name and not (self.root / key).exists():
                    with self._alone_at_once(key) as alone:
                        if alone:  # who waits for this lock sees that its file has gone, and takes the next
                            (self.root / name).unlink(missing_ok=True)
        return removed

    def _collect_one(self, key: str, oldest: float) -> bool:
        mark = self.root / key / "used"
        if _time_of(mark) >= oldest:
            return False
        with self._alone_at_once(key) as alone:
            try:
                handle = os.open(mark, os.O_RDONLY)
            except FileNotFoundError:
                return False
            try:
                if not alone or not _lock_at_once(handle) or _time_of(mark) >= oldest:
                    return False
                gone = self._put_away(key)
            finally:
                os.close(handle)
        remove_tree(gone)
        return True

    def _make(self, key: str, make: Make) -> Path:
        making = self.root / _unique(".making", key)
        try:
            with writing(self.root):
                (making / "files").mkdir(parents=True)
            make(making / "files")
            with writing(self.root):
                (making / "used").touch()
                if (self.root / key).exists():  # damaged: it is there, and no proof that it is whole
                    remove_tree(self._put_away(key))
                os.rename(making, self.root / key)
                (self.root / f"{key}.failed").unlink(missing_ok=True)
        except BaseException:  # a kill too leaves nothing half made behind; it goes on up
            remove_tree(making)
            raise
        return self.root / key / "files"

    def _put_away(self, key: str) -> Path:
        """Let a folder vanish at once; removing all its files takes a while."""
        gone = self.root / _unique(".removing", key)
        os.rename(self.root / key, gone)
        return gone

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Be the only one who makes or removes what the key stands for; wait, and say for whom, while another does."""
        path = self.root / f"{key}.lock"
        while True:
            with writing(path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                with writing(path):
                    if not _lock_at_once(handle):
                        LOG.info("waiting for %s, which makes the %s %s", _holder(handle), self._what, key)
                        fcntl.flock(handle, fcntl.LOCK_EX)
                if not _is_at(handle, path):
                    continue
                with writing(path):
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, _this_process().encode(), 0)
                yield
                return
            finally:
                os.close(handle)

    @contextmanager
    def _alone_at_once(self, key: str) -> Iterator[bool]:
        """Like :meth:`_alone`, but tell whether it could be had without waiting."""
        path = self.root / f"{key}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            yield _lock_at_once(handle) and _is_at(handle, path)
        finally:
            os.close(handle)

    def _remember(self, key: str, error: AiflowError) -> None:
        path = self.root / f"{key}.failed"
        beside = path.with_name(_unique(".failed", key))
        failure = {"at": time.time(), "by": _this_process(), "error": error.to_dict()}
        with suppress(OSError):  # a full disk remembers nothing
            beside.write_text(json.dumps(failure), "utf-8")
            os.replace(beside, path)

    def _raise_remembered(self, key: str, asked: float) -> None:
        try:
            failure: dict[str, Any] = json.loads((self.root / f"{key}.failed").read_text("utf-8"))
            at, by, error = float(failure["at"]), failure["by"], AiflowError.from_dict(failure["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        age_seconds = time.time() - at
        remembered_seconds = RETRYABLE_REMEMBERED_SECONDS if error.retryable else REMEMBERED_SECONDS
        if at >= asked or 0 <= age_seconds < remembered_seconds:
            again = f"{by} found this {age_seconds:.0f} s ago; {remembered_seconds:.0f} s after that it is tried again"
            error.notes = (*error.notes, again)
            raise error


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it, also where nothing in it may be written; what cannot be removed stays."""
    for place, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_half_made(folder: Path) -> None:
    """Remove what a dead maker left: what it had started may write into it until it finds its files gone."""
    for _ in range(_REMOVALS):
        remove_tree(folder)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_SECONDS)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says against writing into a ``StoreError`` (``home-not-writable``)."""
    try:
        yield
    except AiflowError:
        raise
    except OSError as error:
        raise not_writable(str(error.filename or path), error.strerror or str(error), error.errno in _FULL) from error


def not_writable(where: str, why: str, is_full: bool, notes: tuple[str, ...] = ()) -> StoreError:
    """Return the error for a place where tasks' environments or code cannot be put; a full disk may be mended soon."""
    return StoreError(
        "home-not-writable",
        f"{where} cannot be written: {why}",
        hint="free some space on the disk, or collect old environments"
        if is_full
        else "let the user that runs Airflow's tasks write there, or name another folder",
        retryable=is_full,
        notes=notes,
    )


def _lock_at_once(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Tell whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _time_of(path: Path) -> float:
    """Return when a file was last written; of one that is not there: just now."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _unique(kind: str, key: str) -> str:
    return f"{kind}-{key}-{os.getpid()}-{os.urandom(4).hex()}"


def _this_process() -> str:
    names = [os.environ.get(f"AIRFLOW_CTX_{part}_ID") for part in ("DAG", "TASK")]
    task = f" (task {'.'.join(filter(None, names))})" if all(names) else ""
    return f"process {os.getpid()} on {os.uname().nodename}{task}"


def _holder(handle: int) -> str:
    return os.pread(handle, 500, 0).decode("utf-8", "replace") or "another process"
