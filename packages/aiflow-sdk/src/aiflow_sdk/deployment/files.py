"""Which files of a project are deployed: its packages and modules, and the data that lies beside them."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aiflow_sdk.bundles import StoredFile, digest
from aiflow_sdk.config import CONFIG_FILE, Environment, Project, parse_address
from aiflow_sdk.deployment.credentials import credential_problems, is_installers_file
from aiflow_sdk.deployment.wheel import pure_wheel
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, StoreError, Where

_LEFT_OUT = frozenset({"__pycache__", "__pypackages__", "node_modules"})
_LEFT_OUT_AT_ROOT = frozenset({"build", "dist", "tests"})
_LEFT_OUT_ENDS = (".pyc", ".pyo", ".egg-info", ".dist-info", ".part")
_LARGEST_BYTES = 200_000_000


def code_wheel(project: Project) -> tuple[StoredFile, bytes]:
    """Return the project's own files as a wheel of pure Python, which, unpacked, is a folder to run it from.

    Equal files give equal bytes. Left out are hidden files, ``tests``, ``build`` and ``dist`` at the root, virtual
    environments, caches, what git ignores, and the places that ``aiflow.toml`` names: lakes, staging, bundles and
    files of secrets. Raises ``ConfigurationError`` (``code-too-large``, ``bad-file-name``), ``StoreError``
    (``unreadable-project``), ``ProblemsError`` of ``literal-secret`` where a file for installers holds a password.
    """
    problems: list[AiflowError] = []
    files: dict[str, tuple[bytes, bool]] = {}
    total = 0
    for path, file in sorted(_find(project.root, _places(project))):
        try:
            path.encode()
            status = file.stat()
            total += status.st_size
            if total > _LARGEST_BYTES:
                raise _too_large(project)
            files[path] = (file.read_bytes(), bool(status.st_mode & 0o100))
            if is_installers_file(path) and path != project.lock:  # that one is looked at as the lock
                problems += credential_problems(path, files[path][0].decode("utf-8", "replace"))
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                "bad-file-name",
                f"the name of the file {path!r} is no text",
                hint="give it another name, or have git ignore it",
            ) from error
        except OSError as error:
            if isinstance(error, AiflowError):
                raise
            raise StoreError(
                "unreadable-project",
                f"{path} cannot be read: {error.strerror}",
                where=Where(path),
                hint="let it be read, or have git ignore it",
            ) from error
    if problems:
        raise ProblemsError(problems)
    if CONFIG_FILE not in files:
        # Whoever unpacks it finds the project's root, and its name, by this file.
        files[CONFIG_FILE] = (b"", False)
    content = hashlib.sha256()
    for path, (data, is_executable) in files.items():
        content.update(f"{len(path.encode())} {path} {len(data)} {int(is_executable)}\n".encode())
        content.update(data)
    name = re.sub(r"[-_.]+", "_", f"aiflow_project_{project.name}").lower()
    file_name, wheel = pure_wheel(name, f"0+{content.hexdigest()[:16]}", files)
    return StoredFile(file_name, digest(wheel)), wheel


def _find(root: Path, places: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files, each by its path from the root; links are followed, but not in circles."""
    ignored = _ignored_by_git(root)
    folders: list[tuple[Path, str, tuple[str, ...]]] = [(root, "", (os.path.realpath(root),))]
    while folders:
        folder, prefix, above = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        if prefix and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            path = prefix + entry.name
            if _is_left_out(entry.name, prefix) or path in ignored or os.path.realpath(entry.path) in places:
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in above:
                    folders.append((Path(entry.path), f"{path}/", (*above, real)))
            elif entry.is_file():
                yield path, Path(entry.path)


def _is_left_out(name: str, prefix: str) -> bool:
    return (
        name.startswith(".")
        or name in _LEFT_OUT
        or (not prefix and name in _LEFT_OUT_AT_ROOT)
        or name.endswith(_LEFT_OUT_ENDS)
    )


def _places(project: Project) -> frozenset[str]:
    """Return the folders and files that ``aiflow.toml`` names and that are no code, secrets above all."""
    found: set[str] = set()
    for name in {"dev", *project.environments}:
        environment = replace(project.environments.get(name, Environment()), root=project.root)
        texts = [environment.lake, environment.staging, environment.bundles, str(environment.secrets.get("path", ""))]
        for text in filter(None, texts):
            try:
                address = parse_address(text, root=project.root, storage=environment.storage)
            except AiflowError:
                continue
            if address.is_folder:
                found.add(os.path.realpath(address.path))
    return frozenset(found - {os.path.realpath(project.root)})


def _ignored_by_git(root: Path) -> frozenset[str]:
    """Return the files and folders that git ignores, from the root; of a project that is not in git none."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(os.fsdecode(path).rstrip("/") for path in done.stdout.split(b"\0") if path)


def _too_large(project: Project) -> ConfigurationError:
    return ConfigurationError(
        "code-too-large",
        f"the project's files have more than {_LARGEST_BYTES // 1_000_000} MB",
        hint="move data out of the project's folder, or have git ignore it: what is deployed is the code",
        notes=[f"looked in {project.root}"],
    )
