"""``discover_pipelines``: the pipelines of a package or of a project's folder, as a list."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path

from aiflow_sdk.config import CONFIG_FILE, Project, load_project
from aiflow_sdk.discovery.project import discover
from aiflow_sdk.errors import UnknownNameError
from aiflow_sdk.ir import PipelineIR

logger = logging.getLogger(__name__)


def discover_pipelines(package_or_folder: str | Path) -> list[PipelineIR]:
    """Return the pipelines of a package on the import path (``user_repo.pipelines``) or of a project's folder.

    User code is imported in a child process, never in this one. Those that build are returned, in the order of their
    modules; what is wrong with the others is logged as errors, with file and line. Raises ``UnknownNameError`` when
    there is no such package or folder.
    """
    project = locate_project(package_or_folder)
    found = discover(project)
    for problem in found.problems:
        logger.error("%s: %s", problem.code, problem)
    return [pipeline.ir.found_in(str(project.root)) for pipeline in found.pipelines]


def locate_project(package_or_folder: str | Path) -> Project:
    """Return the project of a folder, or of a package on the import path, restricted to that package."""
    text = os.fspath(package_or_folder)
    folder = Path(text).expanduser()
    if isinstance(package_or_folder, Path) or os.sep in text or folder.is_dir() or text.startswith("."):
        return _of_folder(folder)
    return _of_package(text)


def _of_folder(folder: Path) -> Project:
    project = load_project(folder)
    if project.config_path or any((project.root / entry.replace(".", "/")).exists() for entry in project.pipelines):
        return project
    if (project.root / "__init__.py").is_file() or project.root.name in project.pipelines:
        return replace(project, root=project.root.parent, pipelines=(project.root.name,))
    return replace(project, pipelines=(".",))


def _of_package(name: str) -> Project:
    """Return the project around a package. Packages are found on the import path, and not imported."""
    top, *below = name.split(".")
    spec = PathFinder.find_spec(top, [entry or os.getcwd() for entry in sys.path])
    places = list(spec.submodule_search_locations or ()) if spec else []
    if spec and spec.origin and not places:
        places = [spec.origin]
    for place in map(Path, places):
        target = place.joinpath(*below)
        if target.exists() or target.with_suffix(".py").is_file():
            # The outermost package is the project where it holds packages, else the folder that it lies in.
            root = place if below else place.parent
            for folder in (target, *target.parents):
                if (folder / CONFIG_FILE).is_file() and folder not in place.parents:
                    root = folder
                    break
            project = load_project(root)
            return replace(project, root=root.resolve(), pipelines=(name,))
    raise UnknownNameError(
        "unknown-package",
        f"there is no package '{name}'",
        hint="name a package on the import path, or a project's folder",
        notes=[f"looked in {', '.join(entry or '.' for entry in sys.path)}"],
    )
