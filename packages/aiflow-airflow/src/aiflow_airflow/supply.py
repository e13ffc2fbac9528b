"""Where a task finds what it runs with: the interpreter, the user's code, the plan."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from aiflow_airflow.code import UserCode
from aiflow_airflow.deployed import Deployed, Found
from aiflow_airflow.environments import Recipe, UserEnvironments, child_environment, home
from aiflow_airflow.folders import Artifact
from aiflow_sdk.errors import Where
from aiflow_sdk.plan import Plan
from aiflow_sdk.stores import replace_file


class Ready(NamedTuple):
    """All that a task's process needs, there while it runs."""

    python: Path
    folder: Path
    """The project's root."""
    environment: Mapping[str, str]
    """The process's environment variables."""
    plan: Path
    places: Mapping[str, Where]
    """Node id → where its author wrote it; under ``""`` the pipeline."""


class Supply(Protocol):
    """Provides what the tasks of one pipeline run with."""

    def ready(self) -> AbstractContextManager[Ready]:
        """Make what is not there yet, and keep it while the block runs. Raises ``AiflowError``."""


@dataclass(frozen=True)
class BundleSupply:
    """What was deployed: the code's wheel, and an environment made of the lock."""

    deployed: Deployed
    found: Found

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        """Unpack the code and make the environment, each once on this machine."""
        project = self.found.project
        recipe = Recipe(
            self._artifact("lock", project.lock),
            tuple(self._artifact(wheel.file, wheel.sha) for wheel in project.wheels),
            project.python or ".".join(map(str, sys.version_info[:2])),
        )
        code = self._artifact(project.code.file, project.code.sha)
        place = home()
        with UserCode(place).in_use(code) as folder, UserEnvironments(place).in_use(recipe) as python:
            plan, places = self.deployed.file(self.found.entry.plan), self.deployed.places(self.found)
            yield Ready(python, folder, child_environment(python), plan, places)

    def _artifact(self, file: str, sha: str) -> Artifact:
        return Artifact(file, sha, lambda: self.deployed.object(sha))


@dataclass(frozen=True)
class FolderSupply:
    """A project's folder on this machine, and an interpreter that somebody else looks after."""

    root: Path
    python: Path
    plan: Plan

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        """Write the plan to a file."""
        path = home() / "plans" / f"{self.plan.fingerprint.rpartition(':')[2]}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, self.plan.to_json())
        yield Ready(self.python, self.root, child_environment(self.python), path, {})
