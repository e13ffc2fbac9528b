"""Where the author wrote something: the nearest line that is not aiflow's own, its file as seen from the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from aiflow_sdk.errors import AiflowError, ProblemsError, Where

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def caller() -> Where:
    """Return the line from which aiflow was called."""
    frame = sys._getframe(1)
    # Known by its globals: each look at a frame's code is told to audit hooks, of which discovery has one.
    while str(frame.f_globals.get("__file__")).startswith(_HERE) and frame.f_back:
        frame = frame.f_back
    return Where(relative_path(frame.f_code.co_filename), frame.f_lineno)


def place_of(function: Callable[..., Any]) -> Where:
    """Return the line where a function begins, its decorators included."""
    code = getattr(function, "__code__", None)
    return Where(relative_path(code.co_filename), code.co_firstlineno) if code else Where()


def failing_line(traceback: TracebackType | None) -> Where:
    """Return the innermost line of a traceback that is not aiflow's own."""
    found = Where()
    while traceback:
        filename = traceback.tb_frame.f_code.co_filename
        if not filename.startswith(_HERE):
            found = Where(relative_path(filename), traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def node_place(places: Mapping[str, Where], pipeline_id: str, node_id: str | None = None) -> Where:
    """Return where a node, or else the pipeline, was written; ``places`` are by node id, under ``""`` the pipeline."""
    about = f"pipeline '{pipeline_id}'" + (f", node '{node_id}'" if node_id else "")
    known = places.get(node_id or "") or Where()
    return Where(known.path, known.line, known.column, about)


@contextmanager
def placed(where: Where | None) -> Iterator[None]:
    """Give errors raised inside the place of the node that they are about.

    One that has a place of its own, such as the failing line of a user's function, keeps it and names the node's.
    """
    try:
        yield
    except AiflowError as error:
        for one in error.problems if isinstance(error, ProblemsError) else (error,):
            _place(one, where or Where())
        raise


def _place(error: AiflowError, where: Where) -> None:
    has_own = error.where is not None and error.where.path is not None
    if has_own and where.path and where.about:
        where = Where(about=f"{where.about} of {where.path}:{where.line}")
    error.at(where)


def relative_path(filename: str) -> str:
    """Return the path as it is shown: below the project, else below the current folder, else as it is."""
    if filename.startswith("<"):
        return filename
    # A file of a project is called the same wherever one stands; where that is the system has to be asked.
    return _in_project(filename) or _relative(filename, os.getcwd())


@lru_cache(maxsize=1024)
def _in_project(filename: str) -> str | None:
    """Return a full path as seen from its project, the nearest folder with an aiflow.toml; None where there is none."""
    is_known = os.path.isabs(filename) and _project(os.path.dirname(os.path.abspath(filename)))
    return _relative(filename, os.sep) if is_known else None


@lru_cache(maxsize=1024)
def _relative(filename: str, current: str) -> str:
    """Return the path below the project (the nearest folder with an aiflow.toml), else below the current folder."""
    filename = os.path.abspath(filename)
    project = _project(os.path.dirname(filename)) or current
    return Path(filename[len(project) + 1 :]).as_posix() if filename.startswith(project + os.sep) else filename


@lru_cache(maxsize=1024)
def _project(folder: str) -> str | None:
    """Return the nearest folder, this one or one above, that holds an aiflow.toml."""
    path = Path(folder)
    found = next((place for place in (path, *path.parents) if (place / "aiflow.toml").is_file()), None)
    return str(found) if found else None
