"""What the processes of one local run share: a folder, in which a server that serves them all says that it is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from stat import S_ISDIR

from aiflow_sdk.stores import try_lock

SESSION_DIR = "AIFLOW_SESSION_DIR"
"""Environment variable: the folder. What lies in it serves every process of the session and ends with it."""
SESSION_OWNER = "AIFLOW_SESSION_OWNER"
"""Environment variable: id of the process that began the session; a server of the session ends when it is gone."""
_NAME = re.compile(r"aiflow-\d+-[0-9a-f]{12}(\.part)?")
"""Of the folder of a session that holds its lock, or is over; ``.part`` while it takes it."""
_OLD_SECONDS = 3600.0
"""How old what has no lock yet must be to be nobody's: whoever makes it takes a moment."""
_LOCK = "session.lock"
"""The file in the folder that is locked while the process lives that began the session."""


@contextmanager
def session() -> Iterator[dict[str, str]]:
    """Begin a session and yield its environment variables; what it started in the background ends with it.

    What sessions of this user left that were killed is removed.
    """
    home = os.environ.get("TMPDIR") or "/tmp"
    folder = os.path.join(home, f"aiflow-{os.getpid()}-{os.urandom(6).hex()}")
    made = f"{folder}.part"
    os.mkdir(made, 0o700)  # fails if it is there: nobody else may have made it
    lock = os.open(os.path.join(made, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try_lock(lock)  # before it has its name: nobody finds one that seems forsaken
    os.rename(made, folder)
    try:
        sweep_sessions(home)
        yield {SESSION_DIR: folder, SESSION_OWNER: str(os.getpid())}
    finally:
        stop_servers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_sessions(home: str) -> None:
    """Remove the folders of this user's sessions whose process was killed. Any number of processes may at once.

    Their servers end by themselves. A folder without a lock is left alone: nobody can tell whose it is.
    """
    with suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if found := _NAME.fullmatch(entry.name):
                with suppress(OSError):  # another one removes it
                    status = entry.stat(follow_symlinks=False)
                    is_begun = found[1] is None or status.st_mtime < time.time() - _OLD_SECONDS
                    if is_begun and S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                        _remove_forsaken(entry.path)


def _remove_forsaken(folder: str) -> None:
    handle = os.open(os.path.join(folder, _LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Shared: whoever asks meanwhile whether the session goes on is not told so by this.
        if try_lock(handle, shared=True):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def is_going_on(folder: str) -> bool:
    """Whether the process lives that began a session; of another user's, whose folder is left, it is believed.

    Raises ``OSError``.
    """
    try:
        handle = os.open(os.path.join(folder, _LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True
    try:
        return not try_lock(handle, shared=True)
    finally:
        os.close(handle)


def stop_servers(folder: str) -> None:
    """End at once what the session's processes started to serve them all: it holds nothing that outlives the session.

    A server says that it is there by a file in the folder: ``NAME.json`` with its ``pid``, or ``NAME.pid`` with nothing
    else. The file goes with it, so that the next process that needs one starts it anew.
    """
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        process = _process_of(path)
        if process is None:
            continue
        with suppress(OSError):
            if _is_of_session(process, folder):
                os.kill(process, signal.SIGKILL)
            os.unlink(path)


def _process_of(path: str) -> int | None:
    """Return the process that a file names, if it is such a file."""
    try:
        with open(path, encoding="utf-8") as file:
            if path.endswith(".pid"):
                return int(file.read())
            if path.endswith(".json"):
                return int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # another file, or a server that is still starting and ends with the folder it cannot find
    return None


def _is_of_session(process: int, folder: str) -> bool:
    """Whether the number is not another process's by now; where that cannot be told, it is believed."""
    if not os.path.isdir("/proc/self"):
        return True
    with open(f"/proc/{process}/cmdline", "rb") as command, open(f"/proc/{process}/environ", "rb") as variables:
        return folder.encode() in command.read() + variables.read()
