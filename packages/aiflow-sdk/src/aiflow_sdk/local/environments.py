"""The environments of a project: what their lakes hold, which have expired, and removing one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiflow_sdk.config import ENVIRONMENTS, GENERATIONS, Environment, LakeRoot, Project, mounted_below, resolve_secrets
from aiflow_sdk.errors import AiflowError, ConfigurationError, RunError
from aiflow_sdk.local.store import list_runs, short_run_id
from aiflow_sdk.plugins import CatalogSource, installed_registry
from aiflow_sdk.runtime.staging import sweep_staging
from aiflow_sdk.stores import Store, Usage, folder_name, open_store

_LAKE = "onelake"
"""The source that knows a lake's tables."""
_AT_ONCE = 8
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class EnvironmentFacts:
    """One environment, and what its lake holds; what cannot be told is None, and ``error`` says why."""

    environment: Environment
    is_copy: bool
    tables: int | None = None
    usage: Usage | None = None
    error: AiflowError | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.environment.name

    @property
    def changed(self) -> float | None:
        """The moment (seconds since 1970) at which its lake was written to last; None where nothing lies there."""
        return self.usage.changed if self.usage and self.usage.objects else None

    @property
    def expires(self) -> float | None:
        """The moment from which ``aiflow env drop --expired`` removes it; None: it does not expire, or is not there.

        What ``dev`` says of it is meant for its copies.
        """
        keep_days = self.environment.keep_days
        if self.changed is None or keep_days is None or self.name == "dev":
            return None
        return self.changed + keep_days * _DAY_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-ready data, moments as seconds since 1970."""
        return {
            "name": self.name,
            "is_copy": self.is_copy,
            "lake": self.environment.lake_address,
            "reads_from": self.environment.reads_from,
            "keep_days": self.environment.keep_days,
            "spark": self.environment.spark,
            "clusters": list(self.environment.clusters),
            "handed_out": [one.facts() for one in self.environment.handed_out],
            "tables": self.tables,
            "objects": self.usage.objects if self.usage else None,
            "bytes": self.usage.bytes if self.usage else None,
            "changed": self.changed,
            "expires": self.expires,
            "error": self.error.to_dict() if self.error else None,
        }


def catalog() -> CatalogSource:
    """Return what knows the tables of lakes."""
    found: Any = installed_registry().sources.get(_LAKE)
    assert isinstance(found, CatalogSource)  # its methods are the class's own
    return found


def list_environments(project: Project, *extra: str) -> list[EnvironmentFacts]:
    """Return the environments that aiflow.toml names, ``dev``, ``extra``, and the copies of ``dev`` that have a lake.

    A lake that cannot be looked into is no error: its facts say so.
    """
    names = {"dev", *project.environments, *extra}
    with suppress(AiflowError):  # the store of dev's lake says so itself, below
        names.update(find_copies(project))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda name: environment_facts(project, name), sorted(names)))


def environment_facts(project: Project, name: str) -> EnvironmentFacts:
    """Return an environment and what its lake holds. Raises ``UnknownNameError``."""
    environment, is_copy = project.environment(name), project.is_copy(name)
    try:
        usage = lake_store(environment).usage()
        tables = len(catalog().tables(environment)) if usage.objects else 0
    except (AiflowError, OSError) as error:
        told = error if isinstance(error, AiflowError) else RunError("lake-not-readable", str(error))
        return EnvironmentFacts(environment, is_copy, error=told)
    return EnvironmentFacts(environment, is_copy, tables, usage)


def lake_store(environment: Environment) -> Store:
    """Return the environment's lake as a store."""
    root = environment.lake_root
    return open_store(root.address, storage=resolve_secrets(dict(root.storage), environment))


def find_copies(project: Project) -> list[str]:
    """Return the names of the copies of ``dev`` whose lakes lie beside its own, sorted. Raises ``StoreError``."""
    dev = project.environment("dev")
    example = "dev-x"
    address = dev.copy_as(example).lake_root.address
    parent, _, last = address.path.rpartition("/")
    beside = replace(address, path=parent or ("/" if address.is_folder else ""))
    prefix = last.removesuffix(example)
    store = open_store(beside, storage=resolve_secrets(dict(dev.storage), dev))
    names = (folder.removeprefix(prefix) for folder in store.folders() if folder.startswith(prefix))
    return sorted(name for name in names if project.is_copy(name))


def check_removable(project: Project, name: str) -> Environment:
    """Return the environment, if its lake may be removed.

    Raises ``UnknownNameError``, ``ConfigurationError`` (``environment-read``, ``unsafe-drop``) or ``RunError``
    (``environment-busy``).
    """
    environment = project.environment(name)
    others = [project.environment(other) for other in sorted({"dev", *project.environments} - {name})]
    if readers := [other.name for other in others if name in {one.environment for one in other.reads}]:
        raise ConfigurationError(
            "environment-read",
            f"{', '.join(repr(reader) for reader in readers)} reads from '{name}'",
            where=project.place_of("environments", readers[0], "reads_from"),
            hint="its tables would be missing there; let them read from another environment first",
        )
    running = [run for run in list_runs(project.root, environment=name) if run.state == "running"]
    if running:
        raise RunError(
            "environment-busy",
            f"run {short_run_id(running[0].run_id)} of '{running[0].pipeline_id}' is writing to '{name}'",
            hint="wait for it, or cancel it",
        )
    copies = [project.environment(copy) for copy in find_copies(project) if copy != name]
    _check_folder(project, environment, [one.lake_root for one in (*others, *copies)])
    return environment


def _check_folder(project: Project, environment: Environment, others: list[LakeRoot]) -> None:
    """Raise ``ConfigurationError`` (``unsafe-drop``) where what lies there is more than the environment's lake."""
    root = environment.lake_root
    reasons = [f"the lake of '{other.environment}' lies there" for other in others if root.collides(other)]
    if root.address.is_folder:
        folder = Path(root.address.path)
        stated = os.path.normpath((environment.root or Path.cwd()) / environment.lake.removeprefix("file://"))
        if os.path.islink(stated):
            reasons.append(f"{stated} is a link to it")
        around = {"the project": project.root.resolve(), "your home folder": Path.home().resolve()}
        reasons += [f"{what} lies there" for what, path in around.items() if path.is_relative_to(folder)]
        reasons += [f"{point} is mounted there" for point in mounted_below(str(folder))]
    elif not root.address.path and root.address.kind == "azure" and not root.address.host:
        reasons.append("it names no container")
    if not reasons and (stranger := _strangers(environment)):
        reasons.append(stranger)
    if reasons:
        raise ConfigurationError(
            "unsafe-drop",
            f"the lake of '{root.environment}' ({root.address.uri}) is not removed: {reasons[0]}",
            where=project.place_of("environments", root.environment, "lake"),
            hint="remove by hand what is meant",
        )


def _strangers(environment: Environment) -> str | None:
    """Return why what lies in the lake may not be this environment's, or None."""
    store = lake_store(environment)
    writers = set(store.folders(GENERATIONS))
    if others := sorted(writers - {folder_name(environment.name)}):
        return f"environment {', '.join(others)} has written to it"
    if not writers and store.usage().objects:
        return f"no run of '{environment.name}' has written to it, and what lies there may be anybody's"
    return None


def drop_environment(project: Project, name: str) -> Usage:
    """Remove an environment's lake and its staging, and return what was there. Repeating it is safe.

    Nothing outside its root is touched: links are removed and not followed. Raises as :func:`check_removable`, and
    ``StoreError``.
    """
    environment = check_removable(project, name)
    store, address = lake_store(environment), environment.lake_root.address
    usage = store.usage()
    sweep_staging(environment, time.time(), keep_days=0)
    if address.is_folder:
        for name in store.folders():
            if name != GENERATIONS:  # it tells whose lake it is, and goes last
                store.delete_prefix(name)
        store.delete_prefix("")
        return usage
    keys = [key for key in store.list() if not key.startswith(f"{ENVIRONMENTS}/")]
    # A table is absent as soon as its log is; what tells whose lake it is goes last.
    store.delete(sorted(keys, key=lambda key: (key.startswith(f"{GENERATIONS}/"), "/_delta_log/" not in key)))
    return usage


def expired_environments(project: Project, now: float) -> Iterator[EnvironmentFacts]:
    """Yield the environments that expired before ``now`` (seconds since 1970)."""
    for facts in list_environments(project):
        if facts.expires is not None and facts.expires < now:
            yield facts
