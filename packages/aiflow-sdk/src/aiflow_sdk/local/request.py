"""What the local runner can be asked for, as plain data that passes through a pipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRequest:
    """One run of a pipeline of a project."""

    project: str
    """The project's folder."""
    pipeline: str
    environment: str | None = None
    """None: the project's default."""
    date: str | None = None
    """Names the partition; None: the last complete one. ``first..last`` names a range, where the
    pipeline takes ranges."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Instead of the pipeline's defaults; text is read as the type of the default."""
    only: str | None = None
    """Run the task that makes this node, and no other."""
    from_node: str | None = None
    """Run the task that makes this node and all that follow from it."""
    until_node: str | None = None
    """Run the task that makes this node and all that it needs."""
    resume: str | None = None
    """Id, or unique end or beginning of it, of a run that failed or was cancelled: what succeeded is not done again."""
    cause: str = "manual"
    python: str | None = None
    """The interpreter; None: the one that aiflow.toml names, else this one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON-ready data."""
        return {"kind": "run", **asdict(self)}


@dataclass(frozen=True)
class BackfillRequest:
    """A run for each partition of a range that is not up to date."""

    project: str
    """The project's folder."""
    pipeline: str
    first: str
    """Names the first partition."""
    last: str
    """Names the last partition, included."""
    environment: str | None = None
    """None: the project's default."""
    params: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    """Run the partitions that are up to date too."""
    dry: bool = False
    """Say what would run, and why, and run nothing."""
    python: str | None = None
    """The interpreter; None: the one that aiflow.toml names, else this one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON-ready data."""
        return {"kind": "backfill", **asdict(self)}


def read_request(data: Mapping[str, Any]) -> RunRequest | BackfillRequest:
    """Return the request that ``to_dict`` described."""
    fields = {key: value for key, value in data.items() if key != "kind"}
    return BackfillRequest(**fields) if data["kind"] == "backfill" else RunRequest(**fields)


def interpreter_of(request: RunRequest | BackfillRequest) -> str | None:
    """Return the interpreter that the request or aiflow.toml names; the file is parsed only where it may name one."""
    root, python = Path(request.project).expanduser().resolve(), request.python
    if python is None:
        file = next((path for folder in (root, *root.parents) if (path := folder / "aiflow.toml").is_file()), None)
        if file and b"python" in file.read_bytes():
            from aiflow_sdk.config import load_project

            project = load_project(root)
            root, python = project.root, project.python
    return os.path.abspath(root / Path(python).expanduser()) if python else None
