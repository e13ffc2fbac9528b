"""What was deployed of a pipeline, read from the bundle store: each version, and how it differs from the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from aiflow_sdk.bundles import BundleStore, Entry, Release, dag_id_of, shard_of
from aiflow_sdk.bundles.reader import side_by_side
from aiflow_sdk.difference import Difference, compare_pipelines
from aiflow_sdk.errors import UnknownNameError, Where, unknown_name
from aiflow_sdk.ir import PipelineIR, read_pipeline
from aiflow_sdk.plan import Plan, read_plan


@dataclass(frozen=True)
class Version:
    """One version of a pipeline: what it means and how it runs."""

    ir: PipelineIR
    plan: Plan
    release: Release | None = None
    """The newest release that holds it; None: it is the working tree's."""

    def differences_to(self, newer: Version) -> tuple[Difference, ...]:
        """Return how a newer version differs from this one."""
        return compare_pipelines(self.ir, newer.ir, (self.plan, newer.plan))


@dataclass(frozen=True)
class HistoryEntry:
    """A release in which something became of a pipeline."""

    release: Release
    version: str | None
    """Fingerprint of the pipeline's version; None: the release has it no more."""
    differences: tuple[Difference, ...] | None
    """From the release before; None where there is nothing before it, or it is gone."""
    is_current: bool = field(default=False, kw_only=True)


class DeployedPipeline:
    """One pipeline of a project as the releases of an environment have it; every method may raise ``StoreError``."""

    def __init__(self, store: BundleStore, project: str, pipeline: str) -> None:
        self.store, self.project, self.pipeline = store, project, pipeline
        self._entries: dict[str, Entry | None] = {}

    def current(self) -> Version:
        """Return what is deployed. Raises ``UnknownNameError`` (``never-deployed``)."""
        for release in self._releases():
            return self._version(release)
        raise self._never_deployed()

    def version(self, beginning: str) -> Version:
        """Return what a version of the project, named by its beginning, has of the pipeline.

        Raises ``UnknownNameError`` (``unknown-release``, ``never-deployed``, ``unknown-pipeline``) and
        ``ConfigurationError`` (``ambiguous-release``).
        """
        releases = self._releases()
        if not releases:
            raise self._never_deployed()
        found = self.store.find_version(self.project, beginning)
        return self._version(next(one for one in releases if one.project_version == found))

    def history(self, limit: int | None = None) -> list[HistoryEntry]:
        """Return the releases in which something became of the pipeline, the newest first, at most ``limit``.

        Raises ``UnknownNameError`` (``never-deployed``) where no release that is kept has it.
        """
        releases = self._releases()
        self._look_up(releases)
        if not any(self._entries.values()):
            raise self._never_deployed() if not releases else self._unknown(releases[0])
        found: list[HistoryEntry] = []
        # Of each release the next older one of this project; the oldest that is kept has none.
        for release, before in zip(releases, [*releases[1:], None], strict=True):
            if limit is not None and len(found) == limit:
                break
            entry, old = self._entry(release), self._entry(before) if before else None
            if entry == old:
                continue
            found.append(self._history_entry(release, entry, before, old, is_current=release is releases[0]))
        return found

    def _history_entry(
        self, release: Release, entry: Entry | None, before: Release | None, old: Entry | None, *, is_current: bool
    ) -> HistoryEntry:
        newer = self._read(entry, release) if entry else None
        older = self._read(old, before) if old else None
        return HistoryEntry(
            release,
            newer.plan.version if newer else None,
            older.differences_to(newer) if newer and older else None,
            is_current=is_current and newer is not None,
        )

    def _releases(self) -> list[Release]:
        return [one for one in self.store.releases() if one.project == self.project]

    def _version(self, release: Release) -> Version:
        entry = self._entry(release)
        if entry is None:
            raise self._unknown(release)
        return self._read(entry, release)

    def _read(self, entry: Entry, release: Release | None) -> Version:
        ir, plan = side_by_side(self.store.read, [entry.ir, entry.plan])
        return Version(read_pipeline(ir), read_plan(plan), release)

    def _entry(self, release: Release) -> Entry | None:
        self._look_up([release])
        return self._entries[release.project_version]

    def _look_up(self, releases: Iterable[Release]) -> None:
        versions = [one for one in dict.fromkeys(one.project_version for one in releases) if one not in self._entries]
        self._entries.update(zip(versions, side_by_side(self._find, versions), strict=True))

    def _find(self, version: str) -> Entry | None:
        """Return what a version of the project has of the pipeline."""
        shards = self.store.project(version).shards
        dag_id = dag_id_of(self.project, self.pipeline)
        if (shard := shards.get(shard_of(dag_id))) and (entry := self.store.shard(shard).get(dag_id)):
            return entry
        return next((one for one in self._all_entries(shards) if one.pipeline == self.pipeline), None)

    def _all_entries(self, shards: Mapping[str, str]) -> Iterator[Entry]:
        """Yield the pipelines of a version: one that names another project has another DAG id."""
        for shard in side_by_side(self.store.shard, shards.values()):
            yield from shard.values()

    def _never_deployed(self) -> UnknownNameError:
        return UnknownNameError(
            "never-deployed",
            f"nothing of project '{self.project}' was deployed to {self.store.environment} yet",
            where=Where(about=self.store.address),
            hint=f"deploy it first: aiflow deploy --env {self.store.environment}",
        )

    def _unknown(self, release: Release) -> UnknownNameError:
        shards = self.store.project(release.project_version).shards
        known = sorted(entry.pipeline for entry in self._all_entries(shards))
        error = unknown_name("unknown-pipeline", "pipeline", self.pipeline, known)
        version = f"version {release.project_version[:12]} of project '{self.project}'"
        error.message = f"{version} has no pipeline '{self.pipeline}'"
        error.args = (error.message,)
        return error
