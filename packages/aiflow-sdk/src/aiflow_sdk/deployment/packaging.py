"""Makes wheels of what is installed from this machine and from no registry."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aiflow_sdk.code import interpreter
from aiflow_sdk.config import Project
from aiflow_sdk.deployment.requirements import Installed, Requirements
from aiflow_sdk.deployment.wheel import rewritten, wheel_bytes
from aiflow_sdk.discovery.record import CACHE_FOLDER
from aiflow_sdk.errors import ConfigurationError

_PATIENCE_SECONDS = 600
_KEPT_BUILDS = 20
_NOT_SOURCES = frozenset({".git", ".venv", "__pycache__", "node_modules", "build", "dist"})
_NOT_TAKEN = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})

# The two calls of PEP 517 that a build without an environment of its own needs. The backend is the project's own.
_PROGRAM = """
import importlib, os, sys, tomllib
folder, out = sys.argv[1:]
os.chdir(folder)
try:
    with open("pyproject.toml", "rb") as file:
        system = tomllib.load(file).get("build-system", {})
except FileNotFoundError:
    system = {}
sys.path[:0] = [os.path.abspath(one) for one in system.get("backend-path", [])]
name, _, inner = system.get("build-backend", "setuptools.build_meta:__legacy__").partition(":")
try:
    backend = importlib.import_module(name)
except ImportError:
    sys.exit(77)
for part in inner.split(".") if inner else ():
    backend = getattr(backend, part)
print("\\n" + backend.build_wheel(out))
"""
_NO_BACKEND = 77


def local_wheels(project: Project, requirements: Requirements) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and content of a wheel for each thing that no registry has.

    What is used where it is written (editable) is built, by its own build backend; what was installed from a folder or
    a file is packed again as it is installed. Raises ``ConfigurationError`` (``unbuildable-package``).
    """
    cache = _Builds(project)
    for folder in requirements.folders:
        if folder.suffix == ".whl" and folder.is_file():
            yield folder.name, rewritten(folder.read_bytes())
        else:
            yield cache.build(folder.name, folder)
    for one in requirements.local:
        if one.is_editable and one.path:
            yield cache.build(one.name, one.path)
        else:
            yield pack_again(one)


class _Builds:
    """Builds folders, and remembers below ``.aiflow/cache`` what came of a folder that has not changed since."""

    def __init__(self, project: Project) -> None:
        self._python = interpreter(project)
        self._folder = project.root / CACHE_FOLDER / "wheels"

    def build(self, name: str, folder: Path) -> tuple[str, bytes]:
        """Return the wheel of a folder with a ``pyproject.toml``."""
        if not folder.is_dir():
            raise _unbuildable(name, f"it was installed from {folder}, which is not there any more")
        remembered = self._folder / _stamp(folder, self._python)
        for known in remembered.glob("*.whl"):
            return known.name, known.read_bytes()
        with tempfile.TemporaryDirectory(prefix="aiflow-build-") as out:
            made = self._run(name, folder, Path(out))
            content = rewritten(made.read_bytes())
        self._remember(remembered, made.name, content)
        return made.name, content

    def _run(self, name: str, folder: Path, out: Path) -> Path:
        target = out / "wheel"
        target.mkdir()
        source = folder
        if "hatchling" not in (text := _read(folder / "pyproject.toml")) and "flit" not in text:
            # Others leave what they made beside the sources, and take it for sources the next time.
            source = out / "source"
            shutil.copytree(folder, source, symlinks=True, ignore=lambda _, names: _NOT_SOURCES & set(names))
        variables = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
        command = [self._python, "-P", "-c", _PROGRAM, str(source), str(target)]
        done = _call(name, command, variables)
        if done.returncode == _NO_BACKEND:
            uv = shutil.which("uv")
            if uv is None:
                raise _unbuildable(name, f"its build backend is not installed beside {self._python}, nor is uv")
            done = _call(name, [uv, "build", "--quiet", "--wheel", "--out-dir", str(target), str(source)], variables)
        made = sorted(target.glob("*.whl"))
        if done.returncode or not made:
            raise _unbuildable(name, f"building {folder} failed", notes=(done.stderr or done.stdout).splitlines()[-15:])
        return made[0]

    def _remember(self, place: Path, name: str, content: bytes) -> None:
        try:
            place.mkdir(parents=True, exist_ok=True)
            beside = place / f"{name}.{os.getpid()}.part"
            beside.write_bytes(content)
            beside.replace(place / name)
            old = sorted(self._folder.iterdir(), key=lambda one: one.stat().st_mtime)[:-_KEPT_BUILDS]
            for one in old:
                shutil.rmtree(one, ignore_errors=True)
        except OSError:
            pass  # it is built again the next time


def pack_again(one: Installed) -> tuple[str, bytes]:
    """Return the wheel that an installed distribution of pure Python came from, as far as its ``RECORD`` tells.

    Raises ``ConfigurationError`` (``unbuildable-package``) where files lie where no wheel puts them, or are gone.
    """
    info = Path(one.dist_info)
    site = info.parent
    about = _read(info / "WHEEL")
    if "Root-Is-Purelib: true" not in about:
        raise _unbuildable(one.name, f"it was installed from {one.path} and is no pure Python")
    tags = [line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("Tag:")]
    scripts = _console_scripts(_read(info / "entry_points.txt"))
    files: dict[str, tuple[bytes, bool]] = {}
    for row in csv.reader(_read(info / "RECORD").splitlines()):
        path = row[0] if row else ""
        parts = Path(path).parts
        if not path or path.endswith((".pyc", ".pyo")) or (parts[0] == info.name and parts[1] in _NOT_TAKEN):
            continue
        if ".." in parts or os.path.isabs(path):
            if parts[-2:-1] in (("bin",), ("Scripts",)) and Path(path).stem in scripts:
                continue  # made by the installer from the entry points
            raise _unbuildable(one.name, f"it has installed {path}, which lies outside the packages")
        try:
            files[path] = ((site / path).read_bytes(), os.access(site / path, os.X_OK))
        except OSError as error:
            raise _unbuildable(one.name, f"of what it has installed, {path} cannot be read") from error
    if not tags or f"{info.name}/METADATA" not in files:
        raise _unbuildable(one.name, f"{info} does not tell what it has installed")
    stem = info.name.removesuffix(".dist-info")
    return f"{stem}-{_compressed(tags)}.whl", wheel_bytes(files, info.name)


def _compressed(tags: list[str]) -> str:
    """Return the tags as a file's name has them: ``py2.py3-none-any``."""
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(column)) for column in columns)


def _console_scripts(text: str) -> set[str]:
    found: set[str] = set()
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        elif section in ("console_scripts", "gui_scripts") and "=" in line:
            found.add(line.partition("=")[0].strip())
    return found


def _stamp(folder: Path, python: str) -> str:
    """Return what changes when a file of the folder does."""
    found = hashlib.sha256(f"{python}\0{folder}".encode("utf-8", "surrogateescape"))
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in _NOT_SOURCES and not one.startswith("."))
        for name in sorted(names):
            status = os.stat(os.path.join(place, name), follow_symlinks=False)
            found.update(f"{place}/{name} {status.st_mtime_ns} {status.st_size}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:32]


def _call(name: str, command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_SECONDS,
            env=variables,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _unbuildable(name, f"building it failed: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _unbuildable(name: str, why: str, notes: list[str] | None = None) -> ConfigurationError:
    return ConfigurationError(
        "unbuildable-package",
        f"the package '{name}' comes from no registry and cannot be made into a wheel: {why}",
        hint="publish it to your registry, or install its build backend (or uv) beside the project's interpreter",
        notes=notes or (),
    )
