"""Where a task finds what it runs with: the interpreter, the user's code, the plan."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from aiflow_airflow.child import start_ahead, tell_ahead
from aiflow_airflow.code import UserCode
from aiflow_airflow.deployed import Deployed, Found
from aiflow_airflow.environments import Recipe, UserEnvironments, child_environment
from aiflow_airflow.folders import Artifact, remove_tree, writing
from aiflow_sdk.errors import Where
from aiflow_sdk.lineage import worker_home
from aiflow_sdk.plan import Plan
from aiflow_sdk.stores import replace_file

_log = logging.getLogger(__name__)


class Ready(NamedTuple):
    """All that a task's process needs, there while it runs."""

    python: Path
    folder: Path
    """The project's root."""
    scratch: Path
    """Where the process works."""
    environment: Mapping[str, str]
    """The process's environment variables."""
    plan: Path
    places: Mapping[str, Where]
    """Node id → where its author wrote it; under ``""`` the pipeline."""
    never_changes: bool = False
    """Whether what is installed for the interpreter stays as it is: a process may have imported it long before."""


class Supply(Protocol):
    """Provides what the tasks of one pipeline run with."""

    @property
    def objects(self) -> Path | None:
        """Where this machine keeps what it has fetched; None where it fetches nothing."""

    def ready(self) -> AbstractContextManager[Ready]:
        """Make what is not there yet, and keep it while the block runs. Raises ``AiflowError``."""


@dataclass(frozen=True)
class BundleSupply:
    """What was deployed: the code's wheel, and an environment made of the lock."""

    deployed: Deployed
    found: Found

    @property
    def objects(self) -> Path:
        """Where this machine keeps the bundle's objects."""
        return self.deployed.objects

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        """Unpack the code and make the environment, each once on this machine."""
        code = self._artifact(self.found.project.code.file, self.found.project.code.sha)
        place = worker_home()
        with UserCode(place).in_use(code) as folder, UserEnvironments(place).in_use(self._recipe) as python:
            plan, places = self.deployed.file(self.found.entry.plan), self.deployed.places_of(self.found)
            with _scratch(place, folder) as scratch:
                yield Ready(python, folder, scratch, child_environment(python), plan, places, never_changes=True)

    def start_ahead(self) -> None:
        """Start the process of a task that will be done at once, if its environment is there already."""
        if python := UserEnvironments(worker_home()).find(self._recipe):
            start_ahead(python, child_environment(python))

    def tell_ahead(self, task_id: str) -> None:
        """Tell the process that was started ahead which task it will be, once the plan lies on this machine."""
        tell_ahead(self.deployed.file(self.found.entry.plan), task_id)

    @property
    def _recipe(self) -> Recipe:
        project = self.found.project
        return Recipe(
            self._artifact("lock", project.lock),
            tuple(self._artifact(wheel.file, wheel.sha) for wheel in project.wheels),
            project.python or ".".join(map(str, sys.version_info[:2])),
        )

    def _artifact(self, file: str, sha: str) -> Artifact:
        return Artifact(file, sha, lambda: self.deployed.read(sha))


@dataclass(frozen=True)
class FolderSupply:
    """A project's folder on this machine, and an interpreter that somebody else looks after."""

    root: Path
    python: Path
    plan: Plan
    objects: None = None
    """Nothing is fetched."""

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        """Write the plan to a file."""
        path = worker_home() / "plans" / f"{self.plan.fingerprint.rpartition(':')[2]}.json"
        try:
            os.utime(path)  # what was used of late is not removed
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, self.plan.to_json())
        except OSError as error:  # another user's, who looks after it
            _log.debug("%s is used as it is: %s", path, error)
        yield Ready(self.python, self.root, self.root, child_environment(self.python), path, {})


@contextmanager
def _scratch(home: Path, project: Path) -> Iterator[Path]:
    """Make an attempt's own folder, in which the project's files are found and what is written is nobody else's."""
    folder = home / "scratch" / uuid4().hex
    try:
        folder.mkdir(parents=True)
    except OSError:  # a home that may only be read serves as well
        folder = Path(tempfile.mkdtemp(prefix="aiflow-scratch-"))
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # who collects sees that it is in use, however long that takes
        with writing(folder):
            for entry in project.iterdir():
                (folder / entry.name).symlink_to(entry)
        yield folder
    finally:
        remove_tree(folder)
        os.close(handle)
