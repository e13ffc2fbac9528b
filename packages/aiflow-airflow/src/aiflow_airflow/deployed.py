"""One version of a bundle as it lies on this machine: documents and plans, fetched when they are first asked for.

``<folder>/deployed.json`` says which version it is and from which store; every immutable object is kept once for all
versions, by its content, in ``objects`` beside them. One that is damaged there is fetched again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_airflow.objects import KeptObjects
from aiflow_sdk.bundles import BundleStore, Entry, ObjectReader, ProjectDocument, Release, shard_of
from aiflow_sdk.bundles.model import Places
from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import AiflowError, DocumentError, StoreError, Where
from aiflow_sdk.stores import replace_file

POINTER = "deployed.json"
_FETCHES = 16


class Found(NamedTuple):
    """A pipeline of a bundle."""

    dag_id: str
    project: ProjectDocument
    entry: Entry


@dataclass(frozen=True)
class Deployed(ObjectReader):
    """A version of a bundle; its documents are read as those of the store are."""

    version: str
    address: str
    """Of the bundle store."""
    environment: str
    storage: Mapping[str, Any]
    """Options of the store; references to secrets raw."""
    objects: Path
    """Where objects are kept on this machine."""
    depths: Mapping[str, int] | None = None
    """How often each shard was divided when the files were laid out, those that were; None where nobody laid them out
    by it, so that a file shows all that it may."""
    standing: dict[str, str | None] = field(default_factory=dict, compare=False)
    """Project → its version whose document is read: its own or, where that is of a newer format than is read here, what
    stands for it; None where nothing does. What nobody has looked for yet is not in it, and is added once somebody has.
    """
    lacking: set[str] = field(default_factory=set, compare=False)
    """Digests of the objects that could not be had."""

    @classmethod
    def lying_in(cls, folder: Path) -> Deployed:
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
                stated.get("depths"),
                stated.get("standing", {}),
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
        replace_file(folder / POINTER, text)

    @cached_property
    def kept(self) -> KeptObjects:
        """The objects on this machine."""
        return KeptObjects(self.objects)

    @cached_property
    def store(self) -> BundleStore:
        """The store, opened when something is first fetched from it."""
        return open_bundles(self.address, self.environment, self.storage)

    @cached_property
    def _releases(self) -> tuple[Release, ...]:
        return self.store.releases()

    @cached_property
    def projects(self) -> Mapping[str, str]:
        """What the bundle is made of: name of a project → its version."""
        return self.bundle(self.version).projects

    def parts(self, number: str, *, without: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
        """Return what a shard is made of: (project, digest of its shard document), sorted; ``without`` some projects.

        Raises ``AiflowError`` where the document of another project cannot be had.
        """
        names = sorted(self.projects.keys() - set(without))
        shards = ((name, self.document(name).shards.get(number)) for name in names)
        return tuple((name, sha) for name, sha in shards if sha)

    def unknown(self) -> dict[str, AiflowError]:
        """Return the projects whose documents cannot be had or understood, and why."""
        failures: dict[str, AiflowError] = {}
        for name in self.projects:
            try:
                self.document(name)
            except AiflowError as error:
                failures[name] = error
        return failures

    def document(self, name: str) -> ProjectDocument:
        """Return a project's document; where it is of a newer format than is read here, what stands for it.

        That is the newest version of the project that can be read of those deployed before its own ever was, wherever
        that was deployed again: each machine of one Airflow, which are of one version, finds the same at any time.
        Raises ``AiflowError``; where it cannot be known what stands for it, one that is retryable.
        """
        own = self.projects[name]
        if name in self.standing:
            return self.project(self.standing[name] or own)
        try:
            return self.project(own)
        except DocumentError as error:
            if not is_newer(error):
                raise
            self.standing[name] = found = self._readable_before(name)
            if found is None:
                raise
        return self.project(found)

    def looked_through(self) -> Deployed:
        """Return this with what stands for each project. Raises what passes by itself."""
        newer = self.newer()
        found = {name: self._readable_before(name) if name in newer else own for name, own in self.projects.items()}
        return replace(self, standing=found)

    @property
    def instead(self) -> dict[str, str]:
        """Project for which an earlier version stands, as far as somebody has looked → that version."""
        return {name: found for name, found in self.standing.items() if found and found != self.projects[name]}

    def newer(self) -> dict[str, AiflowError]:
        """Return the projects whose own documents are of a newer format than is read here, and what says so.

        Raises what passes by itself: whether one is newer is not known then.
        """
        failures: dict[str, AiflowError] = {}
        for name, version in self.projects.items():
            try:
                self.project(version)
            except AiflowError as error:  # one that is not newer is told by who needs it
                if is_newer(error):
                    failures[name] = error
                elif error.retryable:
                    raise
        return failures

    def tell_newer(self) -> str:
        """Return what people are told of those projects, a line each; nothing where there is none."""
        lines = []
        for name, error in sorted(self.newer().items()):
            version = self.instead.get(name)
            stands = f"its DAGs stay those of version {version[:12]}" if version else "none of its DAGs is shown"
            lines.append(f"project '{name}', version {self.projects[name][:12]}: {error}; until then {stands}")
        return "\n".join(lines)

    def _readable_before(self, name: str) -> str | None:
        """Return the newest version of a project that can be read of those deployed before its own was first.

        One that is damaged is passed over. Raises what passes by itself.
        """
        own = self.projects[name]
        versions = [release.project_version for release in self._releases if release.project == name]
        if own not in versions:  # whoever knows of a version knows of its release
            raise StoreError(
                "store-unavailable",
                f"the bundle store {self.store.address} has no release of project '{name}', version {own[:12]}: it is "
                "empty, away, or another",
                hint="run it again once it can be read",
                retryable=True,
            )
        before = list(takewhile(lambda version: version != own, reversed(versions)))
        for version in reversed(before):
            try:
                self.project(version)
            except AiflowError as error:
                if error.retryable:
                    raise
            else:
                return version
        return None

    def entries(self, parts: Iterable[tuple[str, str]]) -> dict[str, Entry]:
        """Return the pipelines of a shard of such parts, by DAG id."""
        return {dag_id: entry for _, sha in parts for dag_id, entry in self.shard(sha).items()}

    def pipelines(self, project: str, shard: str) -> Iterator[Found]:
        """Yield a project's pipelines of a shard (digest of its document), sorted."""
        document = self.document(project)
        for dag_id, entry in sorted(self.shard(shard).items()):
            yield Found(dag_id, document, entry)

    def pipeline(self, dag_id: str) -> Found | None:
        """Return the pipeline that a DAG stands for; None where this version has none. Reads four small documents.

        Another project whose documents cannot be had does no harm, unless the pipeline may be one of its.
        """
        number = shard_of(dag_id)
        failure: AiflowError | None = None
        for name in self._owners(dag_id):
            try:
                project = self.document(name)
                if (sha := project.shards.get(number)) and (entry := self.shard(sha).get(dag_id)):
                    return Found(dag_id, project, entry)
            except AiflowError as error:
                failure = failure or error
        if failure:
            raise failure
        return None

    def places_of(self, found: Found) -> Places:
        """Return where the author wrote the pipeline and its nodes, as far as that was deployed and can be had."""
        sha = found.project.places.get(shard_of(found.dag_id))
        try:
            return self.places(sha).get(found.dag_id, {}) if sha else {}
        except AiflowError:
            return {}  # they make errors kinder, and no task fails for want of them

    def read(self, sha: str) -> bytes:
        """Return an object's content, fetched where this machine has not got it whole. Raises ``AiflowError``."""
        content = self.kept.find(sha)
        if content is None:
            try:
                content = self.store.read(sha)
            except AiflowError:
                self.lacking.add(sha)
                raise
            self.kept.keep(sha, content)
        return content

    def file(self, sha: str) -> Path:
        """Return the file with an object's content, fetched where it is not there whole."""
        self.read(sha)
        return self.kept.path(sha)

    def fetch(self, shas: Iterable[str]) -> list[AiflowError]:
        """Fetch several objects at once, and return what kept those back that cannot be had."""
        with ThreadPoolExecutor(_FETCHES) as pool:
            return [error for error in pool.map(self._fetch, shas) if error]

    def _fetch(self, sha: str) -> AiflowError | None:
        try:
            self.read(sha)
        except AiflowError as error:
            return error
        return None

    def _owners(self, dag_id: str) -> Iterator[str]:
        """Yield the projects whose pipeline the DAG can be: ``a.b.c`` is of ``a.b``, of ``a``, or has no prefix."""
        names = self.projects
        yield from (name for name in names if dag_id.startswith(f"{name}.") or name == "default")
        yield from (name for name in names if not dag_id.startswith(f"{name}.") and name != "default")


def open_bundles(address: str, environment: str, storage: Mapping[str, Any]) -> BundleStore:
    """Return an environment's bundles; ``secret://name`` in the store's options is ``AIFLOW_SECRET_NAME``'s value."""
    return BundleStore.open(address, environment, storage=resolve_secrets(dict(storage), Environment(environment)))


def is_newer(error: AiflowError) -> bool:
    """Whether a document could not be read because a newer aiflow wrote it."""
    return error.code == "newer-document"


_STATED = ("version", "address", "environment", "storage", "objects", "depths", "standing")
