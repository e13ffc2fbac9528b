"""Tells the metadata service of what was deployed: every release that it does not know, and the versions in it.

What it has to know lies in the bundle store, so nothing is kept beside it: whatever it missed is told the next time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiflow_sdk.bundles import BundleStore, Entry, Release
from aiflow_sdk.bundles.reader import side_by_side
from aiflow_sdk.errors import AiflowError, ReceiverError
from aiflow_sdk.service import Service

_BATCH_VERSIONS = 200
_BATCH_BYTES = 8 * 1024 * 1024
_PAGE = 500


@dataclass
class Recorded:
    """What the service was told."""

    releases: int = 0
    """How many it did not know."""
    versions: int = 0
    problems: list[AiflowError] = field(default_factory=list)
    """Why a release could not be recorded; the others are."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        problems = [problem.to_dict() for problem in self.problems]
        return {"releases": self.releases, "versions": self.versions, "problems": problems}


def record_releases(service: Service, store: BundleStore, project: str) -> Recorded:
    """Tell the service of every release of the project that is kept and that it does not know; the oldest first.

    May be broken off and repeated. Raises ``ReceiverError`` where the service takes nothing, ``StoreError``.
    """
    recorded = Recorded()
    releases = [one for one in store.releases() if one.project == project]
    if not releases:  # so that whoever only takes events is asked nothing else
        return recorded
    known = _known_keys(service, store.environment, project, releases)
    moments = _moments(releases)
    for release in reversed(releases):
        if release.key in known:
            continue
        try:
            recorded.versions += _record(service, store, release, moments[release.number])
            recorded.releases += 1
        except AiflowError as error:
            if isinstance(error, ReceiverError) and error.retryable:
                raise
            recorded.problems.append(error)
    return recorded


def _record(service: Service, store: BundleStore, release: Release, at: str) -> int:
    """Record one release; returns how many versions were sent for it."""
    shards = store.project(release.project_version).shards
    entries = [entry for shard in side_by_side(store.shard, shards.values()) for entry in shard.values()]
    members = [
        {"project": one.project or release.project, "pipeline": one.pipeline, "ir": one.ir, "plan": one.plan}
        for one in entries
    ]
    note = release.note
    document = {
        "key": release.key,
        "number": release.number,
        "project": release.project,
        "environment": store.environment,
        "project_version": release.project_version,
        "action": release.action,
        "author": release.by,
        "at": at,
        "message": note.message or None,
        "commit": note.commit or None,
        "dirty": note.is_dirty,
        "pipelines": members,
    }
    sent: set[str] = set()
    while missing := set(service.put("releases", document).get("missing", ())) - sent:
        wanted = [entry for entry in entries if entry.plan in missing]
        for batch in _batches(store, wanted):
            service.put("versions", {"versions": batch})
        sent |= missing
    return len(sent)


def _batches(store: BundleStore, entries: Sequence[Entry]) -> Iterator[list[dict[str, str]]]:
    batch: list[dict[str, str]] = []
    size = 0
    for begin in range(0, len(entries), _BATCH_VERSIONS):
        some = entries[begin : begin + _BATCH_VERSIONS]
        irs, plans = (
            side_by_side(store.read, names) for names in ([one.ir for one in some], [one.plan for one in some])
        )
        for ir, plan in zip(irs, plans, strict=True):
            if batch and (len(batch) == _BATCH_VERSIONS or size + len(ir) + len(plan) > _BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append({"ir": ir.decode(), "plan": plan.decode()})
            size += len(ir) + len(plan)
    if batch:
        yield batch


def _known_keys(service: Service, environment: str, project: str, releases: Sequence[Release]) -> set[str]:
    """Return the keys of the releases that the service knows, as far back as the store goes."""
    known: set[str] = set()
    wanted = {release.key for release in releases}
    for told in service.pages("releases", project=project, environment=environment, limit=_PAGE):
        known.add(str(told["key"]))
        if wanted <= known:
            break
    return known


def _moments(releases: Sequence[Release]) -> Mapping[int, str]:
    """Return, by number, when each release was made: never before an earlier one, whatever the clocks said."""
    found: dict[int, str] = {}
    last: datetime | None = None
    for release in reversed(releases):
        moment = datetime.fromisoformat(release.at)
        last = moment if last is None else max(last, moment)
        found[release.number] = last.isoformat()
    return found
