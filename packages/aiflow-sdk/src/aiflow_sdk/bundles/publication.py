"""What is published: the content of one project's new version, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiflow_sdk.bundles.identity import shard_of
from aiflow_sdk.bundles.model import (
    Entry,
    PlainPlaces,
    ProjectDocument,
    Release,
    StoredFile,
    digest,
    places_bytes,
    shard_bytes,
)


@dataclass(frozen=True)
class Content:
    """One version of a project, as its publisher has it at hand."""

    project: str
    code: StoredFile
    lock: str
    """Digest of the text of requirements."""
    entries: Mapping[str, Entry]
    """DAG id → pipeline."""
    read: Callable[[str], bytes]
    """Returns the content of an object by its digest; asked, by several threads, for what the store lacks."""
    wheels: tuple[StoredFile, ...] = ()
    python: str = ""
    places: Mapping[str, PlainPlaces] = field(default_factory=dict)
    """DAG id → node id (under ``""`` the pipeline itself) → the file and the line where it is written."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one pipeline since the version before."""

    dag_id: str
    action: Literal["added", "changed", "removed"]
    entry: Entry
    """The new one; of a removed pipeline the old one."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publication came to."""

    version: str
    """Of the bundle."""
    project_version: str
    release: Release | None
    """The release that holds it: the new one, or the one before where nothing changed; None: nothing was written."""
    is_new: bool
    """Whether something changed, so that there is a new release (or would be, where nothing was to be written)."""
    changes: tuple[Change, ...] = ()
    """Sorted by DAG id; a pipeline whose definition and plan stayed is not among them."""
    unchanged: int = 0
    objects: int = 0
    """How many objects were written, or would be."""


class Documents:
    """The documents of a content: shards, places and the project, each as its text."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.shards: dict[str, dict[str, Entry]] = {}
        places: dict[str, dict[str, PlainPlaces]] = {}
        for dag_id, entry in content.entries.items():
            shard = shard_of(dag_id)
            self.shards.setdefault(shard, {})[dag_id] = entry
            if found := content.places.get(dag_id):
                places.setdefault(shard, {})[dag_id] = found
        self.texts: dict[str, bytes] = {}
        """Digest → text."""
        self.document = ProjectDocument(
            content.project,
            content.code,
            content.lock,
            content.wheels,
            content.python,
            {shard: self._add(shard_bytes(entries)) for shard, entries in self.shards.items()},
            {shard: self._add(places_bytes(found)) for shard, found in places.items()},
        )
        self.version = self._add(self.document.to_bytes())

    def _add(self, text: bytes) -> str:
        name = digest(text)
        self.texts[name] = text
        return name


def changes_between(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[Change]:
    """Return what became of the pipelines of a shard."""
    found = [Change(dag_id, "removed", entry) for dag_id, entry in old.items() if dag_id not in new]
    for dag_id, entry in new.items():
        if dag_id not in old:
            found.append(Change(dag_id, "added", entry))
        elif entry != old[dag_id]:
            found.append(Change(dag_id, "changed", entry))
    return found
