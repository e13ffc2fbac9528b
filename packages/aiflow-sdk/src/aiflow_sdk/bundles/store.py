"""Changes what is deployed to one environment: publishes, rolls back, removes what is old."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from aiflow_sdk.bundles.model import Action, BundleDocument, Entry, Note, Release, digest
from aiflow_sdk.bundles.publication import Change, Content, Documents, Publication, changes_between
from aiflow_sdk.bundles.reader import BundleReader, if_there, object_key, release_key, side_by_side
from aiflow_sdk.bundles.work import Collection, again, collecting, publishing
from aiflow_sdk.errors import ConfigurationError, DefinitionError, StoreError, UnknownNameError, Where, did_you_mean

_DAY_SECONDS = 86_400.0
_YOUNG_SECONDS = _DAY_SECONDS
"""An object that nobody needs may belong to a publication that is still under way."""
_DELETED_AT_ONCE = 500
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed."""

    releases: tuple[Release, ...] = ()
    objects: int = 0


class BundleStore(BundleReader):
    """What is deployed to one environment, to be read and to be changed."""

    def publish(
        self,
        content: Content,
        *,
        by: str = "",
        note: Note = Note(),  # noqa: B008 it is frozen
        repair: bool = False,
        dry: bool = False,
        progress: Callable[[int, int], None] | None = None,
        waits: Callable[[], None] | None = None,
    ) -> Publication:
        """Make a version of a project the current one; the other projects stay what they are.

        All objects are written first, then the release: nobody sees a part. Of several publishers each goes on from
        what the others left. Where nothing changed, there is no new release. With ``repair`` objects are written that
        should be there already; with ``dry`` nothing is. ``progress`` is told, by several threads, how many of how many
        objects are written; ``waits`` is called where it waits for somebody who removes what is old.

        Raises ``DefinitionError`` (``duplicate-dag-id``) where another project has a DAG of the same id.
        """
        documents = Documents(content)
        with ExitStack() as stack:
            base, known, written, is_held = self.newest(), _Known(), 0, False
            while True:
                bundle = self._bundle_after(base, repair)
                previous = bundle.projects.get(content.project)
                if known.version != previous:
                    known = self._what_is_there(previous, documents)
                self._refuse_taken(content.project, known.added, bundle, content.entries)
                is_new = previous != documents.version
                projects = {**bundle.projects, content.project: documents.version}
                text = BundleDocument(self.environment, projects).to_bytes()
                wanted = {**dict.fromkeys(_objects_of(content)), **documents.texts, digest(text): text}
                absent = {}
                if is_new or repair:
                    absent = {name: one for name, one in wanted.items() if repair or name not in known.objects}
                release = base
                if not dry and absent and not is_held:
                    # From here on nothing is removed; what a base held that is not current any more may have been.
                    stack.enter_context(publishing(self.store, waits))
                    is_held = True
                    if (newest := self.newest()) != base:
                        base, known = newest, _Known()
                        continue
                written += len(absent)
                if not dry:
                    self._put(absent, content.read, progress)
                    if is_new:
                        release = self._announce(
                            base, digest(text), content.project, documents.version, "deploy", by, note
                        )
                    if is_new and release is None:
                        # Somebody else was first: what they left is where we go on from.
                        known.objects.update(absent)
                        base, repair = self.newest(), False
                        continue
                unchanged = len(content.entries) - sum(change.action != "removed" for change in known.changes)
                return Publication(
                    digest(text), documents.version, release, is_new, tuple(known.changes), unchanged, written
                )

    def roll_back(
        self, project: str, version: str, *, by: str = "", message: str = "", waits: Callable[[], None] | None = None
    ) -> Release:
        """Make an earlier version of a project (a prefix that tells it from the others is enough) the current one.

        Returns the new release; the current one where it is that version already. Raises ``UnknownNameError``
        (``unknown-release``) where no release that is kept holds it, ``ConfigurationError`` (``ambiguous-release``),
        ``DefinitionError`` (``duplicate-dag-id``), and what :meth:`read` raises where a part of it is gone.
        """
        with publishing(self.store, waits):
            return self._roll_back(project, version, by, message)

    def _roll_back(self, project: str, version: str, by: str, message: str) -> Release:
        found = self.find_version(project, version)
        document = self.project(found)
        shards = dict(zip(document.shards, side_by_side(self.shard, document.shards.values()), strict=True))
        entries = {dag_id: entry for shard in shards.values() for dag_id, entry in shard.items()}
        for sha in (document.code.sha, document.lock, *(wheel.sha for wheel in document.wheels)):
            self.read(sha)
        while True:
            base = self.newest()
            if base is None:
                raise StoreError("missing-object", f"the releases in {self.address} are gone", hint="deploy again")
            bundle = self._bundle_after(base)
            if bundle.projects.get(project) == found:
                return base
            self._refuse_taken(project, {shard: set(ids) for shard, ids in shards.items()}, bundle, entries)
            text = BundleDocument(self.environment, {**bundle.projects, project: found}).to_bytes()
            self._put({digest(text): text}, self.read, None)
            made = next(
                one for one in reversed(self.releases()) if (one.project, one.project_version) == (project, found)
            )
            note = replace(made.note, message=message)
            if release := self._announce(base, digest(text), project, found, "rollback", by, note):
                return release

    def find_version(self, project: str, version: str) -> str:
        """Return the whole version of a project by its beginning; raises as :meth:`roll_back`."""
        known = list(dict.fromkeys(one.project_version for one in self.releases() if one.project == project))
        found = [one for one in known if version and one.startswith(version.lower())]
        if len(found) == 1:
            return found[0]
        short = [one[:12] for one in known]
        if found:
            raise ConfigurationError(
                "ambiguous-release",
                f"{len(found)} versions of project '{project}' begin with '{version}'",
                hint="write more of it",
                notes=found,
            )
        raise UnknownNameError(
            "unknown-release",
            f"no release of project '{project}' in {self.address} holds a version '{version}'",
            hint=did_you_mean(version, short) or (f"known: {', '.join(short[:10])}" if short else "deploy it first"),
        )

    def collect(self, project: str, *, keep: int = 20, keep_days: float = 30, now: float | None = None) -> Collected:
        """Remove a project's old releases, and the objects that no release needs any more.

        Kept are its newest ``keep`` releases and all that were current within ``keep_days``. No object is removed that
        was written within a day, nor the newest release, nor a release of another project. Where no release is to go,
        nothing is looked at; where somebody publishes, what is old goes the next time. Raises ``DocumentError`` where a
        document cannot be understood (of a newer aiflow): then no object is removed.
        """
        now = time.time() if now is None else now
        since = now - keep_days * _DAY_SECONDS
        releases = self.releases()
        if not self.dispensable(releases, project, keep, since):
            return Collected()
        with collecting(self.store) as collection:
            return self._collect(collection, project, keep, since, now)

    def _collect(self, collection: Collection, project: str, keep: int, since: float, now: float) -> Collected:
        if not collection.may_go_on():
            return Collected()
        releases = self.releases()
        old = self.dispensable(releases, project, keep, since)
        needed: set[str] = set()
        looked: set[str] = set()
        kept = [(release, ended) for release, ended in _with_ends(releases) if release not in old]
        self._need([release for release, ended in kept if ended >= since], needed, looked)
        # Of one that no run can have begun with lately, what it can be rolled back to is enough.
        self._need_projects([release.project_version for release, _ in kept], needed, looked)
        if not collection.may_go_on():
            return Collected()
        self.store.delete([release_key(release.number) for release in old])
        newest = releases[0].number
        found = [
            key
            for key, moment in self.store.moments("objects")
            if key.rpartition("/")[2] not in needed and moment < now - _YOUNG_SECONDS
        ]
        removed = 0
        for first in range(0, len(found), _DELETED_AT_ONCE):
            if not collection.may_go_on():
                break
            if (newer := [number for number in self._numbers() if number > newest]) and (release := self.newest()):
                # Somebody published, or rolled back to what we were about to remove.
                self._need([release, *filter(None, map(self._release, newer))], needed, looked)
                newest = newer[-1]
            batch = [one for one in found[first : first + _DELETED_AT_ONCE] if one.rpartition("/")[2] not in needed]
            if collection.is_late:
                break
            self.store.delete(batch)
            removed += len(batch)
        return Collected(tuple(old), removed)

    @staticmethod
    def dispensable(releases: tuple[Release, ...], project: str, keep: int, since: float) -> list[Release]:
        """Return, of all releases (the newest first), those of a project that are neither among its newest nor recent.

        What counts is when a release was last the current one (seconds since 1970), not when it was made.
        """
        found: list[Release] = []
        rank = 0
        for release, ended in _with_ends(releases):
            if release.project == project:
                rank += 1
                if rank > keep and ended < since:
                    found.append(release)
        return found

    def _need(self, releases: Iterable[Release], needed: set[str], looked: set[str]) -> None:
        """Add all objects that the bundles of these releases need; what is gone already needs nothing."""
        versions = _new((release.version for release in releases), needed, looked)
        bundles = side_by_side(if_there(self.bundle), versions)
        found = [version for bundle in bundles if bundle for version in bundle.projects.values()]
        self._need_projects(found, needed, looked)

    def _need_projects(self, versions: Iterable[str], needed: set[str], looked: set[str]) -> None:
        """Add all objects that these versions of projects need."""
        found = side_by_side(if_there(self.project), _new(versions, needed, looked))
        projects = [one for one in found if one]
        for one in projects:
            needed.update({one.code.sha, one.lock, *(wheel.sha for wheel in one.wheels), *one.places.values()})
        shards = _new((sha for one in projects for sha in one.shards.values()), needed, looked)
        for shard in side_by_side(if_there(self.shard), shards):
            needed.update(sha for entry in (shard or {}).values() for sha in (entry.plan, entry.ir))

    def _bundle_after(self, release: Release | None, repair: bool = False) -> BundleDocument:
        """Return the bundle of a release. One that is lost can be told from the releases, of which one is kept of each
        project; that is only done to repair."""
        if release is None:
            return BundleDocument(self.environment)
        if not repair:
            return self.bundle(release.version)
        found = if_there(self.bundle, "damaged-object")(release.version)
        if found is None:
            projects = {one.project: one.project_version for one in reversed(self.releases())}
            found = BundleDocument(self.environment, projects)
        return found

    def _what_is_there(self, version: str | None, documents: Documents) -> _Known:
        """Return what the version before holds: what became of its pipelines, and which objects need not be written."""
        known = _Known(version)
        before = None if version is None else if_there(self.project, "damaged-object", "newer-document")(version)
        old = dict(before.shards) if before else {}
        new = documents.document.shards
        differing = [shard for shard in sorted({*old, *new}) if old.get(shard) != new.get(shard)]
        for shard in new:
            if shard not in differing:
                known.objects.add(new[shard])
                known.objects.update(
                    sha for entry in documents.shards[shard].values() for sha in (entry.plan, entry.ir)
                )
        read = if_there(self.shard, "damaged-object")
        there: list[Mapping[str, Entry] | None] = side_by_side(
            lambda shard: read(old[shard]) if shard in old else None, differing
        )
        for shard, found in zip(differing, there, strict=True):
            entries = found or {}
            known.objects.update(sha for entry in entries.values() for sha in (entry.plan, entry.ir))
            changes = changes_between(entries, documents.shards.get(shard, {}))
            if added := {change.dag_id for change in changes if change.action == "added"}:
                known.added[shard] = added
            known.changes += changes
        if before:
            known.objects.update({before.code.sha, before.lock, *before.places.values()})
            known.objects.update(wheel.sha for wheel in before.wheels)
        known.changes.sort(key=lambda change: change.dag_id)
        return known

    def _refuse_taken(
        self, project: str, added: Mapping[str, set[str]], bundle: BundleDocument, entries: Mapping[str, Entry]
    ) -> None:
        """Raise ``DefinitionError`` (``duplicate-dag-id``) where another project has one of these DAG ids.

        One that cannot be read, because it is damaged or a newer aiflow deployed it, keeps nobody from publishing.
        """
        others = [(name, version) for name, version in bundle.projects.items() if name != project]
        if not added or not others:
            return
        read_project = if_there(self.project, "damaged-object", "newer-document")
        read_shard = if_there(self.shard, "damaged-object")
        documents = side_by_side(read_project, [version for _, version in others])
        asked = [
            (name, shard, document.shards[shard])
            for (name, _), document in zip(others, documents, strict=True)
            for shard in added
            if document and shard in document.shards
        ]
        shards = side_by_side(read_shard, [sha for *_, sha in asked])
        for (name, shard, _), found in zip(asked, shards, strict=True):
            theirs_by_id = found or {}
            for dag_id in sorted(added[shard] & theirs_by_id.keys()):
                mine, theirs = entries[dag_id], theirs_by_id[dag_id]
                raise duplicate_dag_id(
                    dag_id, (mine.project or project, mine.pipeline), (theirs.project or name, theirs.pipeline)
                )

    def _put(
        self,
        objects: Mapping[str, bytes | None],
        read: Callable[[str], bytes],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Write objects side by side; those that are None are asked for.

        What lies there is written over: it is equal, and young again to whoever collects.
        """
        done = iter(range(1, len(objects) + 1))

        def put(item: tuple[str, bytes | None]) -> None:
            name, content = item
            self._try_put(object_key(name), read(name) if content is None else content)
            if progress:
                progress(next(done), len(objects))

        side_by_side(put, objects.items())

    def _announce(
        self,
        base: Release | None,
        version: str,
        project: str,
        project_version: str,
        action: Action,
        by: str,
        note: Note,
    ) -> Release | None:
        """Write the release after ``base``; None where somebody else was first."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        number = base.number + 1 if base else 1
        release = Release(number, version, project, project_version, action, by, moment, uuid.uuid4().hex, note)
        key = release_key(number)
        return release if again(lambda: self.store.put_if_absent(key, release.to_bytes())) else None

    def _try_put(self, key: str, content: bytes) -> None:
        again(lambda: self.store.put(key, content))


class _Known:
    """What a publisher knows of the version that it goes on from."""

    def __init__(self, version: str | None = "") -> None:
        self.version = version
        self.changes: list[Change] = []
        self.added: dict[str, set[str]] = {}
        """Shard → DAG ids that it had not."""
        self.objects: set[str] = set()
        """Digests of objects that the store has for sure: what is current is never collected."""


def _with_ends(releases: Iterable[Release]) -> Iterator[tuple[Release, float]]:
    """Yield each release, the newest first, and when it was the current one last (seconds since 1970)."""
    ended = float("inf")
    for release in releases:
        yield release, ended
        ended = _moment(release.at)


def _new(names: Iterable[str], needed: set[str], looked: set[str]) -> list[str]:
    """Return the names that were not looked at yet, and note that they are needed and looked at."""
    found = sorted(set(names) - looked)
    looked.update(found)
    needed.update(found)
    return found


def duplicate_dag_id(dag_id: str, mine: tuple[str, str], theirs: tuple[str, str]) -> DefinitionError:
    """Return the error for two pipelines (project, id) that Airflow could not tell apart."""
    return DefinitionError(
        "duplicate-dag-id",
        f"{'/'.join(mine)} and {'/'.join(theirs)} would both be the DAG '{dag_id}'",
        where=Where(about=f"pipeline '{mine[1]}'"),
        hint="give one of the pipelines another id, or one of the projects another name",
    )


def _objects_of(content: Content) -> Iterator[str]:
    yield content.code.sha
    yield content.lock
    yield from (wheel.sha for wheel in content.wheels)
    for entry in content.entries.values():
        yield entry.plan
        yield entry.ir


def _moment(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return float("inf")  # nobody knows how old it is, so it is kept
