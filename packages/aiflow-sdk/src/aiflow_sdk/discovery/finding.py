"""Which of a project's files may define pipelines, and the names that they are imported by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiflow_sdk.code import module_name
from aiflow_sdk.errors import AiflowError, DiscoveryError, Where, did_you_mean

if TYPE_CHECKING:
    from aiflow_sdk.config import Project

_REGISTERS = re.compile(rb"^[ \t]*@[\w.]*\bregister_(source|sink|engine)\b", re.MULTILINE)


class Module(NamedTuple):
    """A file that is to be imported."""

    name: str
    path: str
    """Relative to the project, with ``/``."""
    only_plugins: bool = False
    """Whether it lies outside the packages of pipelines and is imported for the plugins that it registers."""


class Found(NamedTuple):
    """The modules of a project, sorted by name."""

    modules: tuple[Module, ...]
    problems: tuple[AiflowError, ...] = ()
    notes: tuple[str, ...] = ()


def find_modules(project: Project, sources: Iterable[str], unimportable: Iterable[str] = ()) -> Found:
    """Return the modules in the packages that ``pipelines`` of ``aiflow.toml`` names.

    ``sources`` and ``unimportable`` are as :func:`aiflow_sdk.code.scan_sources` gives them. Tests and
    ``__main__`` are left out; a file whose name no import can say is noted.
    """
    paths = sorted(sources)
    modules: dict[str, Module] = {}
    problems: list[AiflowError] = []
    notes: list[str] = []
    for entry in project.pipelines:
        folder, prefix = _folder(project, entry)
        mine = [path for path in paths if path == f"{folder}.py" or path.startswith(f"{folder}/" if folder else "")]
        if not mine and not (project.root / folder).is_dir():
            problems.append(_missing(project, entry, paths))
        for path in mine:
            if not is_test(path.removeprefix(folder)) and not path.endswith("__main__.py"):
                modules[path] = Module(
                    prefix + module_name(path) if path != "__init__.py" else prefix.rstrip("."), path
                )
        notes.extend(
            f"{path} was skipped: '{path.rpartition('/')[2][:-3]}' is no name that Python can import; use '_'"
            for path in sorted(unimportable)
            if path.startswith(f"{folder}/" if folder else "") and not is_test(path)
        )
    return Found(tuple(sorted(module for module in modules.values() if module.name)), tuple(problems), tuple(notes))


def find_plugin_modules(root: Path, paths: Iterable[str]) -> list[Module]:
    """Return those of the files that register a plugin of the project's own, by their text."""
    return [
        Module(module_name(path), path, only_plugins=True)
        for path in sorted(paths)
        if not is_test(path) and path != "__init__.py" and registers_plugin(root / path)
    ]


def registers_plugin(path: Path) -> bool:
    """Tell whether the file's text has ``@register_source(…)`` or one of its like."""
    try:
        return _REGISTERS.search(path.read_bytes()) is not None
    except OSError:
        return False


def is_test(path: str) -> bool:
    """Tell whether the file holds tests, by its name or its folders' names."""
    *folders, name = path.split("/")
    named = name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"
    return named or not {"test", "tests"}.isdisjoint(folders)


def _folder(project: Project, entry: str) -> tuple[str, str]:
    """Return the folder of an entry, relative to the root, and what goes before its modules' names."""
    root = project.root
    text = entry.replace("\\", "/").strip("/").removeprefix("./")
    if text in ("", "."):
        return "", ""
    if "/" in text or (root / text).is_dir():
        return text, ""
    folder = text.replace(".", "/")
    # ``user_repo.pipelines`` where the project's folder is user_repo: a package inside the folder above.
    top, _, rest = folder.partition("/")
    if top == root.name and not (root / top).exists():
        return rest, f"{top}."
    return folder, ""


def _missing(project: Project, entry: str, paths: list[str]) -> AiflowError:
    packages = {path.rpartition("/")[0].replace("/", ".") for path in paths if "/" in path}
    said = project.config_path is not None
    return DiscoveryError(
        "unknown-package",
        f"there is no package '{entry}' in the project",
        where=Where("aiflow.toml", about="pipelines") if said else None,
        hint=did_you_mean(entry, packages)
        or (
            "correct pipelines = […] in aiflow.toml"
            if said
            else "look whether this is the project's folder: aiflow init"
        ),
        notes=[f"looked in {project.root}"],
    )
