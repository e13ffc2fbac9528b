"""The documents of a bundle store, as frozen values, and their canonical JSON.

The SHA-256 of a document's text is its version, so that equal content has one version wherever it was published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiflow_sdk.errors import AiflowError, DocumentError, Where
from aiflow_sdk.ir import FrozenMap, canonical_json

RELEASE_FORMAT = BUNDLE_FORMAT = PROJECT_FORMAT = 1

Action = Literal["deploy", "rollback"]
_T = TypeVar("_T")


def digest(content: bytes) -> str:
    """Return the name of an object: the SHA-256 of its content, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Note:
    """What whoever published says of it, and which state of their repository it was."""

    message: str = ""
    commit: str = ""
    """Of git, hexadecimal; empty outside a repository."""
    is_dirty: bool | None = None
    """Whether the project's folder differed from that commit; None outside a repository."""


@dataclass(frozen=True, slots=True)
class Release:
    """A pointer: from its moment until the next one's, its bundle is what the environment runs."""

    number: int
    version: str
    """Of the bundle, all projects included."""
    project: str
    """Whose deployment or rollback it is."""
    project_version: str
    action: Action
    by: str
    at: str
    """Moment in UTC, ISO 8601; for people, and for how long old ones are kept."""
    token: str = ""
    """Tells it from another release of the same content by the same person, where two publish at once."""
    note: Note = Note()

    @property
    def key(self) -> str:
        """What tells the release from every other one, of this store and of others."""
        return digest(f"{self.number:020} ".encode() + self.to_bytes())[:32]

    def to_bytes(self) -> bytes:
        """Return the document; the number is its key."""
        note = {"message": self.note.message, "commit": self.note.commit, "dirty": self.note.is_dirty}
        return _text(
            release_format=RELEASE_FORMAT,
            version=self.version,
            project=self.project,
            project_version=self.project_version,
            action=self.action,
            by=self.by,
            at=self.at,
            token=self.token,
            **{name: value for name, value in note.items() if value not in ("", None)},
        )

    @classmethod
    def read(cls, number: int, content: bytes) -> Release:
        """Return the release of a document. Raises ``DocumentError`` (``bad-document``, ``newer-document``)."""

        def made(data: Mapping[str, Any]) -> Release:
            if (action := data["action"]) not in ("deploy", "rollback"):
                raise ValueError(f"{action!r} is no action")
            version, project, project_version, by, at = (
                _as_text(data[name]) for name in ("version", "project", "project_version", "by", "at")
            )
            message, commit = _as_text(data.get("message", "")), _as_text(data.get("commit", ""))
            dirty = data.get("dirty")
            note = Note(message, commit, dirty if isinstance(dirty, bool) else None)
            token = _as_text(data.get("token", ""))
            return cls(number, version, project, project_version, action, by, at, token, note)

        return _read(content, "release_format", RELEASE_FORMAT, "release", made)


@dataclass(frozen=True, slots=True)
class BundleDocument:
    """Which version of each project an environment runs."""

    environment: str
    projects: Mapping[str, str] = field(default_factory=FrozenMap)
    """Name of a project → its version: the digest of its :class:`ProjectDocument`."""

    def to_bytes(self) -> bytes:
        """Return the document; its digest is the bundle's version."""
        return _text(bundle_format=BUNDLE_FORMAT, environment=self.environment, projects=dict(self.projects))

    @classmethod
    def read(cls, content: bytes) -> BundleDocument:
        """Return the bundle of a document. Raises ``DocumentError`` (``bad-document``, ``newer-document``)."""
        return _read(
            content,
            "bundle_format",
            BUNDLE_FORMAT,
            "bundle",
            lambda data: cls(_as_text(data["environment"]), _texts(data["projects"])),
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that keeps its name: a wheel says by it what it is."""

    file: str
    sha: str


@dataclass(frozen=True, slots=True)
class ProjectDocument:
    """One version of a project: its code, what it needs installed, and its pipelines."""

    project: str
    code: StoredFile
    """The user's code as a wheel; unpacked it is a folder that serves as the project's root."""
    lock: str
    """Digest of the text of requirements that its environment is made of."""
    wheels: tuple[StoredFile, ...] = ()
    """What the requirements name and no registry has."""
    python: str = ""
    """Version of Python that the requirements were made for: ``3.11``."""
    shards: Mapping[str, str] = field(default_factory=FrozenMap)
    """Shard (:func:`~aiflow_sdk.bundles.shard_of`) → digest of its document; one without pipelines is left out."""
    places: Mapping[str, str] = field(default_factory=FrozenMap)
    """Shard → digest of the document that says where its pipelines and nodes are written."""

    def to_bytes(self) -> bytes:
        """Return the document; its digest is the project's version."""
        return _text(
            project_format=PROJECT_FORMAT,
            project=self.project,
            code={"file": self.code.file, "sha": self.code.sha},
            lock=self.lock,
            wheels=[{"file": wheel.file, "sha": wheel.sha} for wheel in self.wheels],
            python=self.python,
            shards=dict(self.shards),
            places=dict(self.places),
        )

    @classmethod
    def read(cls, content: bytes) -> ProjectDocument:
        """Return the project of a document. Raises ``DocumentError`` (``bad-document``, ``newer-document``)."""

        def made(data: Mapping[str, Any]) -> ProjectDocument:
            return cls(
                _as_text(data["project"]),
                _file(data["code"]),
                _as_text(data["lock"]),
                tuple(map(_file, data["wheels"])),
                _as_text(data["python"]),
                _texts(data["shards"]),
                _texts(data.get("places", {})),
            )

        return _read(content, "project_format", PROJECT_FORMAT, "project", made)


@dataclass(frozen=True, slots=True)
class Entry:
    """One pipeline of a shard."""

    pipeline: str
    """Its id."""
    plan: str
    """Digest of its plan."""
    ir: str
    """Digest of its definition."""
    project: str = ""
    """Its project; empty: that of the project document, as is usual."""


def shard_bytes(entries: Mapping[str, Entry]) -> bytes:
    """Return the document of a shard: DAG id → entry."""
    data = {}
    for dag_id, entry in entries.items():
        data[dag_id] = {"pipeline": entry.pipeline, "plan": entry.plan, "ir": entry.ir}
        if entry.project:
            data[dag_id]["project"] = entry.project
    return _text(**data)


def read_shard(content: bytes) -> Mapping[str, Entry]:
    """Return the entries of a shard by DAG id. Raises ``DocumentError`` (``bad-document``)."""
    return _read(
        content,
        "",
        0,
        "shard",
        lambda data: {dag_id: _entry(one) for dag_id, one in data.items()},
    )


Places = Mapping[str, Where]
"""By node id, under ``""`` the pipeline itself: where the author wrote it."""


PlainPlaces = Mapping[str, Sequence[Any]]
"""The same as a publisher has it at hand, in thousands: file and line, and what else may follow."""


def places_bytes(places: Mapping[str, PlainPlaces]) -> bytes:
    """Return the document of a shard's places: DAG id → node id → ``[file, line]``."""
    return _text(**{dag_id: {node: where[:2] for node, where in found.items()} for dag_id, found in places.items()})


def read_places(content: bytes) -> Mapping[str, Places]:
    """Return the places of a shard's pipelines. Raises ``DocumentError`` (``bad-document``)."""
    return _read(
        content,
        "",
        0,
        "places",
        lambda data: {
            dag_id: {node: Where(path, line) for node, (path, line) in found.items()} for dag_id, found in data.items()
        },
    )


def _text(**fields: Any) -> bytes:
    return canonical_json(fields).encode()


def _read(content: bytes, version_field: str, newest: int, what: str, made: Callable[[Mapping[str, Any]], _T]) -> _T:
    """Return what ``made`` makes of a document; a wrong shape and a newer format are errors."""
    try:
        data = json.loads(content)
        version = data.pop(version_field) if version_field else 0
        if not isinstance(version, int) or version < 0:
            raise TypeError(f"{version_field} is {version!r}")
        if version > newest:
            raise DocumentError(
                "newer-document",
                f"this {what} document has format {version}; this aiflow reads formats up to {newest}",
                hint="upgrade aiflow-sdk (in Airflow's environment too), or deploy again with this one",
            )
        return made(data)
    except AiflowError:
        raise
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DocumentError(
            "bad-document", f"this is not a {what} document: {error!r}", hint="deploy the project again"
        ) from error


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(data: Any) -> Mapping[str, str]:
    return FrozenMap({name: _as_text(value) for name, value in data.items()})


def _entry(data: Any) -> Entry:
    pipeline, plan, ir, project = map(_as_text, (data["pipeline"], data["plan"], data["ir"], data.get("project", "")))
    return Entry(pipeline, plan, ir, project)


def _file(data: Any) -> StoredFile:
    return StoredFile(_as_text(data["file"]), _as_text(data["sha"]))
