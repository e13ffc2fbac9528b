"""The DAG bundle over a bundle store: what ``aiflow deploy`` published, versioned, as Airflow's bundles are.

Configured in ``[dag_processor] dag_bundle_config_list``::

    [{"name": "aiflow", "classpath": "aiflow_airflow.bundle.AiflowBundle",
      "kwargs": {"store": "s3://company-bundles", "environment": "prod", "storage": {"region": "eu-west-1"}}}]

The DAG processor looks at ``current``, whose files stay where they are while versions come and go, so that a publish
makes Airflow parse those files anew that it changed, and no other. A task looks at ``versions/<version>``, the one
that its run began with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.sdk import get_parsing_context

from aiflow_airflow.deployed import POINTER, Deployed, is_newer, open_bundles
from aiflow_airflow.layout import depth_of, divide, files_of, shard_in, undivided
from aiflow_airflow.shims import read_lacking, start_ahead, write_refusing_shim, write_shim
from aiflow_sdk.bundles import Entry
from aiflow_sdk.errors import AiflowError, DocumentError

_log = logging.getLogger(__name__)
_NEWEST = "current"
_LAID_OUT = "laid_out"
"""Says which version's shims are all there and touched."""
_LEFT_OUT = "left_out"
"""Names the projects whose documents could not be had when nothing else was here yet, one a line."""
_NEWER = "newer_documents.py"
"""Fails to be parsed while a project's documents are of a newer format than is read here: Airflow shows why."""
_NEEDED_TO_PARSE = (
    "aiflow_airflow.dag",
    # Airflow looks at each task for these when it serializes it.
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
)


class AiflowBundle(BaseDagBundle):
    """The pipelines of one environment, of all projects that were deployed to it."""

    supports_versioning = True

    def __init__(
        self, *, store: str, environment: str, storage: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """``store`` is the address of the bundle store, ``storage`` its options, as in aiflow.toml."""
        super().__init__(**options)
        self._address = store
        self._environment = environment
        self._storage = dict(storage or {})
        self._knows_newer = False
        """Whether this process has looked which of the documents that lie here it cannot read."""

    @property
    def path(self) -> Path:
        """The folder with the shims."""
        return self.versions_dir / self.version if self.version else self.base_dir / _NEWEST

    def initialize(self) -> None:
        """Bring the version to this machine; of the newest one, what is here is enough where the store is away."""
        if self.version:
            deployed = _lying_in(self.path) or self._deployed(self.version)
            start_ahead(deployed)
            self._lay_out_version(deployed)
        else:
            try:
                self.refresh()
            except AiflowError as error:
                if _lying_in(self.path) is None:
                    raise
                _log.warning("the bundle store cannot be reached, and what is here is used: %s", error)
        super().initialize()

    def get_current_version(self) -> BundleVersion | None:
        """Return the version that lies here; None before anything was deployed."""
        if self.version:
            return BundleVersion(self.version)
        lying = _lying_in(self.path)
        return BundleVersion(lying.version) if lying else None

    def refresh(self) -> None:
        """Bring the newest version to this machine. Raises ``AiflowError`` and leaves all as it is where it cannot.

        Files that lacked something when they were parsed are parsed again once it can be had.
        """
        if self.version:
            raise ValueError(f"version {self.version} of the bundle '{self.name}' never changes")
        _load_for_forks()
        release = open_bundles(self._address, self._environment, self._storage).newest()
        with self.lock():
            self.path.mkdir(parents=True, exist_ok=True)
            before = _lying_in(self.path)
            is_whole = before is not None and _read(self.path / _LAID_OUT) == before.version
            if release and not (before and is_whole and before.version == release.version):
                deployed = self._deployed(release.version).looked_through()
                left_out = self._left_out(deployed, self._missed() if before else None)
                # Where somebody was broken off, nobody knows which shims are as they should be.
                self._lay_out(deployed, before if is_whole else None, left_out)
            elif before:
                self._heal(before)

    def _deployed(self, version: str) -> Deployed:
        return Deployed(version, self._address, self._environment, self._storage, self.base_dir / "objects")

    def _missed(self) -> frozenset[str]:
        """Return the projects that were left out."""
        return frozenset(_read(self.path / _LEFT_OUT).splitlines())

    @staticmethod
    def _left_out(deployed: Deployed, missed: frozenset[str] | None) -> frozenset[str]:
        """Return the projects that are not shown because their documents cannot be had.

        On a machine where nothing is yet (``missed`` is None) one of them keeps the others back no more; where it is
        shown already, the version that is here stays, whole, unless a newer aiflow than this wrote them: that is no
        damage, and may last. Raises what passes by itself.
        """
        failures = deployed.unknown()
        newer = frozenset(name for name, error in failures.items() if is_newer(error))
        if missed is not None and not missed:
            return newer
        if passing := next((error for error in failures.values() if error.retryable), None):
            raise passing
        for name, error in failures.items():
            if name in newer:
                continue  # these are told by an import error
            _log.error("the DAGs of project %s are not known: %s", name, error)
        return newer | frozenset(failures if missed is None else missed & failures.keys())

    def _lay_out_version(self, deployed: Deployed) -> None:
        """Write the pointer of a version that never changes, and the shims by which somebody may look at it.

        Airflow names the file that shows the DAG in the newest version. No document is needed for it: one that is
        damaged is its own project's trouble. What stands for a project whose document is of a newer format is looked
        for once, of a task's own project alone, and stays in the pointer: all tasks of a run do the same.
        """
        folder = self.path
        folder.mkdir(parents=True, exist_ok=True)
        dag_id, task_id = get_parsing_context()
        newest = self.base_dir / _NEWEST
        names = files_of(dag_id) if dag_id else {*undivided(), *(path.name for path in newest.glob("aiflow_*.py"))}
        for name in names:
            if not (folder / name).exists():
                write_shim(folder / name)
        lying = _lying_in(folder)
        if lying is None and not task_id:  # else what starts ahead has looked
            with suppress(AiflowError):  # who needs the document will meet it and tell it
                _ = deployed.pipeline(dag_id) if dag_id else deployed.unknown()
        found = lying.standing if lying else {}
        if lying is None or deployed.standing.keys() - found.keys():
            replace(deployed, standing=deployed.standing | found).write(folder)  # what was found first stays

    def _lay_out(self, deployed: Deployed, before: Deployed | None, left_out: frozenset[str]) -> None:
        """Write pointer and shims; those that show what they showed ``before`` keep their time."""
        folder, missed = self.path, self._missed()
        shards = {number: deployed.parts(number, without=left_out) for number in map(shard_in, undivided())}
        depths = dict((before and before.depths) or {})
        expected: set[str] = set()
        changed: dict[str, Mapping[str, Entry]] = {}
        redone = []
        for number, parts in shards.items():
            if before and self._parts(before, number, missed) == parts:
                continue
            redone.append(number)
            entries = deployed.entries(parts)
            depth = depth_of(len(entries))
            files = divide(entries, depth)
            earlier = self._shown(before, number, depths.pop(number, 0), missed) if before else {}
            changed |= {name: shown for name, shown in files.items() if earlier.get(name) != shown}
            expected |= files.keys()
            depths |= {number: depth} if depth else {}
        failures = deployed.fetch(entry.plan for shown in changed.values() for entry in shown.values())
        if passing := next((error for error in failures if error.retryable), None):
            raise passing  # a DAG that works is not taken down for a store that is away for a moment
        (folder / _LAID_OUT).unlink(missing_ok=True)
        (folder / _LEFT_OUT).write_text("\n".join(sorted(left_out)))
        replace(deployed, depths=depths).write(folder)
        for path in folder.glob("aiflow_*.py"):
            if shard_in(path.name) in redone and path.name not in expected:
                path.unlink()
        for name in changed:
            path = folder / name
            if path.exists():
                os.utime(path)
            else:
                write_shim(path)
        self._tell_newer(deployed)
        (folder / _LAID_OUT).write_text(deployed.version)  # last: a break before it has all laid out anew

    def _tell_newer(self, deployed: Deployed) -> None:
        path = self.path / _NEWER
        if told := deployed.tell_newer():
            _log.error("%s", told)
            write_refusing_shim(path)
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _parts(before: Deployed, number: str, missed: frozenset[str]) -> tuple[tuple[str, str], ...] | None:
        """Return what a shard was made of; None where that is not known any more. Raises what passes by itself."""
        try:
            return before.parts(number, without=missed)
        except AiflowError as error:
            if error.retryable:
                raise
            return None

    @staticmethod
    def _shown(before: Deployed, number: str, depth: int, missed: frozenset[str]) -> Mapping[str, Mapping[str, Entry]]:
        """Return what the files of a shard showed; nothing where that is not known any more. Raises likewise."""
        try:
            return divide(before.entries(before.parts(number, without=missed)), depth)
        except AiflowError as error:
            if error.retryable:
                raise
            return {}

    def _heal(self, deployed: Deployed) -> None:
        if not self._knows_newer:
            newer = deployed.newer().keys()
            is_another = newer != deployed.instead.keys() | (newer & self._missed())
            if is_another:  # Airflow's side is
                found = self._deployed(deployed.version).looked_through()
                self._lay_out(found, deployed, self._left_out(found, self._missed()))
            self._knows_newer = True  # last: where the store is away, the next refresh looks
            if is_another:
                return
        if (missed := self._missed()) and (missed - (unknown := deployed.unknown().keys())):
            self._lay_out(deployed, None, missed & unknown)
            return
        for path in self.path.glob("*.py"):
            if (shas := read_lacking(path)) and len(deployed.fetch(shas)) < len(shas):
                os.utime(path)


def _load_for_forks() -> None:
    """Load what parsing needs: the DAG processor parses each file in a fork of itself, which then finds it there."""
    for module in _NEEDED_TO_PARSE:
        with suppress(ImportError):
            import_module(module)


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _lying_in(folder: Path) -> Deployed | None:
    """Return the version that lies in the folder; None where none does, or a half of one, which is laid out anew."""
    try:
        return Deployed.lying_in(folder) if (folder / POINTER).is_file() else None
    except DocumentError as error:
        _log.warning("%s", error)
        return None
