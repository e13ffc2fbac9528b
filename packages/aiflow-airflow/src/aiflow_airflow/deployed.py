"""One version of a bundle as it lies on this machine: documents and plans, fetched when they are first asked for.

``<folder>/deployed.json`` says which version it is and from which store; every immutable object is kept once for all
versions, by its content, in ``objects`` beside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from aiflow_sdk.bundles import BundleDocument, BundleStore, Entry, ProjectDocument, shard_of
from aiflow_sdk.bundles.model import Places, read_places, read_shard
from aiflow_sdk.errors import AiflowError, DocumentError, Where

POINTER = "deployed.json"
_FETCHES = 16


class Found(NamedTuple):
    """A pipeline of a bundle."""

    dag_id: str
    project: ProjectDocument
    entry: Entry


@dataclass(frozen=True)
class Deployed:
    """A version of a bundle."""

    version: str
    address: str
    """Of the bundle store."""
    environment: str
    storage: Mapping[str, Any]
    """Options of the store; references to secrets raw."""
    objects: Path
    """Where objects are kept on this machine."""

    @classmethod
    def read(cls, folder: Path) -> Deployed:
        """Return the version that lies in ``folder``. Raises ``DocumentError`` where its pointer cannot be read."""
        path = folder / POINTER
        try:
            stated = json.loads(path.read_text("utf-8"))
            return cls(
                stated["version"],
                stated["address"],
                stated["environment"],
                stated["storage"],
                Path(stated["objects"]),
            )
        except (OSError, ValueError, KeyError) as error:
            raise DocumentError(
                "bad-document",
                f"the bundle's pointer cannot be read: {type(error).__name__}: {error}",
                where=Where(str(path)),
                hint="remove the folder; the bundle is fetched again",
            ) from error

    def write(self, folder: Path) -> None:
        """Write the pointer into ``folder``, in one step."""
        text = json.dumps({**{k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items() if k in _STATED}})
        _replace(folder / POINTER, text.encode())

    @cached_property
    def store(self) -> BundleStore:
        """The store, opened when something is first fetched from it."""
        return BundleStore.open(self.address, self.environment, storage=self.storage)

    @cached_property
    def bundle(self) -> BundleDocument:
        """What the bundle is made of."""
        return BundleDocument.read(self.object(self.version))

    def project(self, name: str) -> ProjectDocument | None:
        """Return what was deployed of a project; None where it has no part in this version."""
        version = self.bundle.projects.get(name)
        return ProjectDocument.read(self.object(version)) if version else None

    def shard(self, number: str) -> tuple[tuple[str, str], ...]:
        """Return what a shard is made of: (project, digest of its shard document), sorted."""
        found = []
        for name in sorted(self.bundle.projects):
            project = self.project(name)
            if project and (digest := project.shards.get(number)):
                found.append((name, digest))
        return tuple(found)

    def pipelines(self, number: str) -> Iterator[Found]:
        """Yield the pipelines of a shard, sorted within each project."""
        for name, digest in self.shard(number):
            project = self.project(name)
            assert project is not None  # it has just told its shard
            for dag_id, entry in sorted(read_shard(self.object(digest)).items()):
                yield Found(dag_id, project, entry)

    def pipeline(self, dag_id: str) -> Found | None:
        """Return the pipeline that a DAG stands for; None where this version has none. Reads four small documents."""
        number = shard_of(dag_id)
        for name in self._owners(dag_id):
            project = self.project(name)
            digest = project.shards.get(number) if project else None
            if project and digest and (entry := read_shard(self.object(digest)).get(dag_id)):
                return Found(dag_id, project, entry)
        return None

    def places(self, found: Found) -> Places:
        """Return where the author wrote the pipeline and its nodes, as far as that was deployed."""
        digest = found.project.places.get(shard_of(found.dag_id))
        return read_places(self.object(digest)).get(found.dag_id, {}) if digest else {}

    def object(self, digest: str) -> bytes:
        """Return an object's content; from the store where this machine has not got it. Raises ``AiflowError``."""
        return self.file(digest).read_bytes()

    def file(self, digest: str) -> Path:
        """Return the file with an object's content, fetched where it is not there."""
        path = self.objects / digest[:2] / digest
        if not path.exists():
            content = self.store.read(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        return path

    def fetch(self, digests: Iterable[str]) -> None:
        """Fetch several objects at once; those that cannot be had are left for whoever asks for them."""
        missing = [digest for digest in digests if not (self.objects / digest[:2] / digest).exists()]
        with ThreadPoolExecutor(_FETCHES) as pool:
            list(pool.map(self._try_fetch, missing))

    def _try_fetch(self, digest: str) -> None:
        try:
            self.file(digest)
        except AiflowError:
            return  # the one pipeline that it belongs to will say so

    def _owners(self, dag_id: str) -> Iterator[str]:
        """Yield the projects whose pipeline the DAG can be: ``a.b.c`` is of ``a.b``, of ``a``, or has no prefix."""
        names = self.bundle.projects
        yield from (name for name in names if dag_id.startswith(f"{name}.") or name == "default")
        yield from (name for name in names if not dag_id.startswith(f"{name}.") and name != "default")


_STATED = ("version", "address", "environment", "storage", "objects")


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    beside.write_bytes(content)
    os.replace(beside, path)
