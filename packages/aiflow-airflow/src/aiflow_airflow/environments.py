"""The user's own Python environments: made of a published lock, cached by what they hold, shared by all tasks.

Only a task process of Airflow comes here, often, and mostly to find what is there: what makes an environment is
imported where one is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiflow_airflow.folders import Artifact, SharedFolders

ENVIRONMENT_FORMAT = 1
"""Grows when environments are made in another way, so that those made before are made anew."""

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PYTHON = os.path.join("bin", "python")
_AIRFLOWS = frozenset(
    {
        "CONDA_DEFAULT_ENV",
        "CONDA_PREFIX",
        "PYTHONEXECUTABLE",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONPLATLIBDIR",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "VIRTUAL_ENV",
        "VIRTUAL_ENV_PROMPT",
    }
)
"""They say where Airflow's Python finds its modules."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment holds: exactly the packages of a lock, and wheels that no registry has.

    ``lock`` is a requirements text, ``python`` a version such as ``3.11`` or ``3.11.7``. The wheels are installed after
    the lock's packages, without their dependencies: those stand in the lock.
    """

    lock: Artifact
    wheels: tuple[Artifact, ...]
    python: str

    @property
    def key(self) -> str:
        """Return the name of the environment: equal for what would be equal on a machine like this one."""
        system = os.uname()
        libc = getattr(sys.implementation, "_multiarch", "")  # x86_64-linux-gnu or -musl: wheels differ
        wheels = sorted((wheel.file, wheel.sha) for wheel in self.wheels)
        parts = [ENVIRONMENT_FORMAT, self.lock.sha, wheels, self.python, system.sysname, system.machine, libc]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class UserEnvironments:
    """The environments below ``<home>/environments``. Tasks of many processes may want one at the same time."""

    def __init__(self, home: Path) -> None:
        self._folders = SharedFolders(home / "environments", "environment")

    def find(self, recipe: Recipe) -> Path | None:
        """Return the interpreter of the recipe's environment; None where it is not there yet."""
        found = self._folders.find(recipe.key, _PYTHON)
        return found / _PYTHON if found else None

    @contextmanager
    def in_use(self, recipe: Recipe) -> Iterator[Path]:
        """Yield the interpreter of the recipe's environment, which is made if it is not there.

        Where it is there, no process is started and no network asked; :meth:`collect` leaves it alone while the block
        runs. Raises ``broken-environment``, ``missing-python``, ``damaged-download`` and ``home-not-writable``, each
        once for all who wait.
        """
        with self._folders.in_use(recipe.key, _Installation(recipe), _PYTHON) as venv:
            yield venv / _PYTHON

    def collect(self, keep_days: float) -> list[str]:
        """Remove the environments that nobody has used for so many days; return their keys."""
        return self._folders.collect(keep_days)


@dataclass(frozen=True, slots=True)
class _Installation:
    recipe: Recipe

    def __call__(self, venv: Path) -> None:
        from aiflow_airflow.installation import install

        install(self.recipe.lock, self.recipe.wheels, self.recipe.python, venv)


def child_environment(python: Path | None = None) -> dict[str, str]:
    """Return the environment variables for a process of the user: what an operator configured, nothing of Airflow's.

    Airflow's settings, connections and variables (``AIRFLOW_…``) are left out, so are those by which its Python finds
    its modules, and its virtual environment on the ``PATH``. With ``python``, the interpreter of a user's environment,
    that environment takes their place.
    """
    own = {os.path.join(os.environ["VIRTUAL_ENV"], "bin")} if os.environ.get("VIRTUAL_ENV") else set()
    if sys.prefix != sys.base_prefix:
        own.add(os.path.join(sys.prefix, "bin"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _AIRFLOWS and not name.lstrip("_").startswith("AIRFLOW_")
    }
    path = [place for place in kept.get("PATH", os.defpath).split(os.pathsep) if place.rstrip("/") not in own]
    if python is not None:
        path.insert(0, str(python.parent))
        kept["VIRTUAL_ENV"] = str(python.parent.parent)
    kept["PATH"] = os.pathsep.join(path)
    # uv brings certificates of its own; where the machine keeps some (a company's among them), those count.
    if os.path.exists(_CERTIFICATES):
        kept.setdefault("UV_SYSTEM_CERTS", "1")
    return kept
