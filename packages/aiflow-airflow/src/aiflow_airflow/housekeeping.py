"""Removes what tasks on this machine have not used for :data:`KEEP_DAYS`: ``python -m aiflow_airflow.housekeeping``.

A task that ends starts it where a day has gone by since it ran last, as a process of its own that nobody waits for.
What is in use stays, whatever its age: see :mod:`aiflow_airflow.folders`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from aiflow_airflow.aside import LEFT, is_pod_of_one_task
from aiflow_airflow.folders import remove_tree
from aiflow_sdk.lineage import is_heard

_log = logging.getLogger(__name__)
KEEP_DAYS = 30.0
"""How long environments, code, objects, scratch folders and spooled events are kept after they were last used.

Events that a listener has not heard are kept for good."""
_EVERY_SECONDS = 86_400.0
_POD_SECONDS = 120.0
"""How long a pod of one task stays for it: what is not removed by then is tomorrow."""
_STAMP = ".collected"
_LOCK = ".collecting"


def keep_house(home: Path, objects: Path | None) -> None:
    """Start collecting ``home`` and the folder of kept ``objects``, each where a day has gone by since.

    Costs a look at two files where it has not. In a pod of one task, with which all would end, it is waited for.
    Whatever goes wrong is logged and fails nothing.
    """
    try:
        wanted = [("home", home), *([("objects", objects)] if objects else [])]
        # Where nothing can be written, nothing can be removed, nor noted that it was tried.
        writable = [(what, folder) for what, folder in wanted if folder.is_dir() and os.access(folder, os.W_OK)]
        if due := [f"{what}={folder}" for what, folder in writable if _is_due(folder)]:
            import subprocess

            LEFT.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "aiflow_airflow.housekeeping", *due],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # it outlives this task
                )
            )
            if is_pod_of_one_task():
                with suppress(subprocess.TimeoutExpired):
                    LEFT[-1].wait(_POD_SECONDS)
    except Exception as error:  # noqa: BLE001 a task has ended well, and what is old can wait
        _log.warning("old environments and code are not removed: %s: %s", type(error).__name__, error)


def collect(what: str, folder: Path, keep_days: float = KEEP_DAYS) -> None:
    """Collect one folder, unless that is under way or was done within a day."""
    with _alone(folder) as is_alone:
        if is_alone and _is_due(folder):
            # First: where it is broken off or fails, not every task of the day tries again.
            (folder / _STAMP).touch()
            for step in (_steps_of_home if what == "home" else _steps_of_objects)(folder, keep_days):
                with suppress(Exception):  # one that cannot be removed keeps nothing else
                    step()


def _steps_of_home(home: Path, keep_days: float) -> Iterator[Callable[[], object]]:
    from aiflow_airflow.code import UserCode
    from aiflow_airflow.environments import UserEnvironments

    yield lambda: UserEnvironments(home).collect(keep_days)
    yield lambda: UserCode(home).collect(keep_days)
    oldest = time.time() - keep_days * 86_400
    for pattern in ("scratch/*", "plans/*"):
        for path in home.glob(pattern):
            yield partial(_remove_if_older, path, oldest)
    for path in home.glob("events/*/*/*/"):
        yield partial(_remove_if_older, path, oldest, is_heard)


def _steps_of_objects(folder: Path, keep_days: float) -> Iterator[Callable[[], object]]:
    from aiflow_airflow.objects import KeptObjects

    yield lambda: KeptObjects(folder).collect(keep_days)


def _remove_if_older(path: Path, oldest: float, may_go: Callable[[Path], bool] = lambda path: True) -> None:
    newest = max(os.lstat(one).st_mtime for one in (path, *path.glob("*")))
    if newest >= oldest or not may_go(path):
        return
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever works in a scratch folder has locked it
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def _is_due(folder: Path) -> bool:
    try:
        return os.stat(folder / _STAMP).st_mtime < time.time() - _EVERY_SECONDS
    except FileNotFoundError:
        return True


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def main(arguments: list[str]) -> None:
    """Collect the folders, each given as ``home=…`` or ``objects=…``, out of everybody's way."""
    os.nice(10)
    for argument in arguments:
        what, _, folder = argument.partition("=")
        with suppress(OSError):  # of a folder that cannot be written nothing is removed
            collect(what, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
