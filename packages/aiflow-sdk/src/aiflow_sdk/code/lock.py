"""What is installed beside the user's code, as one fingerprint."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path

from aiflow_sdk.code.source import Stamp, normalise, stamp_of
from aiflow_sdk.config import Project
from aiflow_sdk.errors import ConfigurationError, Where
from aiflow_sdk.ir import fingerprint


def lock_fingerprint(project: Project) -> str:
    """Return the fingerprint of the lock file that ``aiflow.toml`` names, else of the installed distributions.

    These are the names and versions of the ``*.dist-info`` folders on the import path of the project's interpreter.
    Raises ``ConfigurationError`` when the lock file is not there.
    """
    if project.lock:
        path = project.root / project.lock
        try:
            return _of_file(path, stamp_of(path.stat()))
        except OSError as error:
            raise ConfigurationError(
                "missing-lock",
                f"the lock file '{project.lock}' cannot be read: {error.strerror}",
                where=Where(project.config_path.name if project.config_path else None, about="lock"),
                hint='correct lock = "…" in aiflow.toml, or remove it: then the installed versions count',
                notes=[f"looked for {path}"],
            ) from error
    return _of_folders(tuple((folder, _changed(folder)) for folder in _import_folders(project)))


def interpreter(project: Project) -> str:
    """Return the interpreter that imports the project's code, as an absolute path (links are not followed)."""
    if project.python is None:
        return sys.executable
    return os.path.abspath(project.root / Path(project.python).expanduser())


def is_foreign(project: Project) -> bool:
    """Tell whether the project's code is imported by another interpreter than this process."""
    return interpreter(project) != sys.executable


def _import_folders(project: Project) -> list[str]:
    if not is_foreign(project):
        return list(dict.fromkeys(folder or os.getcwd() for folder in sys.path))
    home = Path(interpreter(project)).parent.parent
    return sorted(str(folder) for folder in home.glob("lib/python3*/site-packages"))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _of_file(path: Path, stamp: Stamp) -> str:
    return fingerprint({"lock": normalise(path.read_bytes()).decode("utf-8", "replace")})


@lru_cache(maxsize=8)
def _of_folders(folders: tuple[tuple[str, int], ...]) -> str:
    installed: set[str] = set()
    for folder, _ in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        installed.update(name.removesuffix(".dist-info") for name in names if name.endswith(".dist-info"))
    return fingerprint({"installed": sorted(installed)})
