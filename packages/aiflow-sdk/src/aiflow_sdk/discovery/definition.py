"""What belongs to a pipeline that somebody holds in a notebook or a test: its project."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def find_root(pipeline: Any) -> Path:
    """Return the folder in which the project of a decorated function is looked for; of an IR the current one."""
    function = getattr(pipeline, "__wrapped__", None)
    code = getattr(function, "__code__", None)
    path = Path(code.co_filename) if code else Path()
    if not path.is_file():
        return Path()
    # The folder from which the module was imported, so that its neighbours can be imported too.
    depth = str(getattr(function, "__module__", "")).count(".")
    return path.resolve().parents[depth]
