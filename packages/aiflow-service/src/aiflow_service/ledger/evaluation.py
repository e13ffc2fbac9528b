"""Which partitions are up to date, stale, incomplete or absent, and which follow from making them again; pure.

Whether a partition has to be made again is decided by the rule of the SDK (:func:`aiflow_sdk.plan.why_run`), which a
local backfill skips by. What it compares is told here from events: an input is identified by the newest write of what
was read of it, an output by the run that wrote it last. Writes are ordered by the version of the table where both sides
have one, else by their moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, cast, get_args

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.partitions import Grain, Partition, last_complete, partitions_between
from aiflow_sdk.plan import Making, why_run
from aiflow_service.database.memory import SizedMemory
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.ledger.parts import PartSet, folders_above, moved, parts_of

State = Literal["current", "stale", "incomplete", "absent"]
_MOST_EXPECTED = 200_000
_HOUR = len("2026-11-20T05")
Table = tuple[int, str]
"""A dataset and the environment in whose lake it lies."""


@dataclass(frozen=True)
class Use:
    """That a node read or wrote a table."""

    node_id: str
    table: Table
    partitions: tuple[str, ...]
    """As ``column=value/column=value``; empty: the whole table."""
    version: int | None
    moment: int
    run_uid: str
    superseded: bool = False

    @property
    def place(self) -> str:
        """What identifies the table as it was."""
        return f"version {self.version}" if self.version is not None else f"moment {self.moment}"

    def is_after(self, read: Use) -> bool:
        """Tell whether this write came after a read."""
        if self.version is not None and read.version is not None:
            return self.version > read.version
        return self.moment > read.moment


@dataclass(frozen=True)
class Made:
    """A run of a pipeline, as far as it makes partitions."""

    run_uid: str
    keys: tuple[str, ...]
    """Of the partitions that it is for; ``-`` where there is none."""
    version: str
    execution: int
    generation: int
    state: str
    moment: int
    """Of its last word, in microseconds since 1970."""
    making: Making | None
    """What it was made by; None where no event said so."""
    grain: Grain | None
    timezone: str
    is_scheduled: bool
    """Whether its pipeline starts runs by itself, so that one for every period is to be expected."""
    reads: tuple[Use, ...]
    writes: tuple[Use, ...]

    @property
    def has_written(self) -> bool:
        """Whether anything that it wrote was kept."""
        return any(not write.superseded for write in self.writes)


@dataclass
class Pipeline:
    """A pipeline in one environment, with all its runs."""

    job_id: int
    project: str
    name: str
    environment: str
    made: list[Made]
    current: Making | None = None
    """What its deployed version makes partitions by; None where nothing was deployed: then the newest run's."""
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    """Datasets."""

    @cached_property
    def newest(self) -> Made | None:
        """The run of the greatest generation that says what it makes by."""
        return max((one for one in self.made if one.making), key=lambda one: one.generation, default=None)

    @cached_property
    def by_key(self) -> Mapping[str, list[Made]]:
        """The runs for each partition, the greatest generation first."""
        found: dict[str, list[Made]] = {}
        for one in sorted(self.made, key=lambda one: (-one.generation, one.run_uid)):
            for key in one.keys:
                found.setdefault(key, []).append(one)
        return found

    def expected(self, now: datetime) -> list[str]:
        """Return the keys from the first partition that a run was for to the last complete one, in order.

        Of a pipeline without a schedule those alone that runs were for.
        """
        newest = self.newest
        keys = sorted(key for key in self.by_key if key != "-")
        if newest is None or newest.grain is None or not keys:
            return sorted(self.by_key)
        if not newest.is_scheduled:
            grain, timezone = newest.grain, newest.timezone
            fitting = [key for key in keys if _fits(key, newest)]
            return sorted(fitting, key=lambda key: Partition(key, grain, timezone))
        # Keys sort as their times do, but within an hour that the clocks show twice: of those at the ends all are read.
        near = [key for key in keys if key[:_HOUR] in (keys[0][:_HOUR], keys[-1][:_HOUR]) and _fits(key, newest)]
        ends = [Partition(key, newest.grain, newest.timezone) for key in near]
        if not ends:
            return keys
        first, last = min(ends), max(*ends, last_complete(newest.grain, newest.timezone, now))
        return list(_keys_between(first, last)) if _is_near(first, last) else keys


@dataclass(frozen=True)
class Status:
    """One partition of a pipeline's, and what is to be said of it."""

    pipeline: Pipeline
    key: str
    state: State
    reason: str | None
    """Why it is not current, as a sentence's beginning."""
    made: Made | None
    """What made it, if anything did."""


@dataclass
class Ledger:
    """Pipelines that share tables, evaluated at one moment."""

    pipelines: Sequence[Pipeline]
    now: datetime
    _writes: dict[Table, list[Use]] = field(default_factory=dict, init=False)
    _by_partition: dict[tuple[Table, str], list[Use]] = field(default_factory=dict, init=False)
    _whole: dict[Table, list[Use]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for pipeline in self.pipelines:
            for made in pipeline.made:
                for write in made.writes:
                    if not write.superseded:
                        self._add(write)

    def _add(self, write: Use) -> None:
        self._writes.setdefault(write.table, []).append(write)
        if not write.partitions:
            self._whole.setdefault(write.table, []).append(write)
        for part in {part for one in write.partitions for part in parts_of(one)}:
            self._by_partition.setdefault((write.table, part), []).append(write)

    def statuses(self, pipeline: Pipeline) -> list[Status]:
        """Return every partition of a pipeline that is there or should be, in their order."""
        return [self.status(pipeline, key) for key in pipeline.expected(self.now)]

    def status(self, pipeline: Pipeline, key: str) -> Status:
        """Return what is to be said of one partition."""
        runs = pipeline.by_key.get(key, [])
        complete = next((one for one in runs if one.state == "succeeded" and one.has_written), None)
        newer = [one for one in runs if complete is None or one.generation > complete.generation]
        begun = next((one for one in newer if one.state != "succeeded" and (complete is None or one.has_written)), None)
        if begun is not None:
            words = {"running": "is under way", "failed": "failed", "cancelled": "was cancelled"}
            return Status(pipeline, key, "incomplete", f"a run for it {words[begun.state]}", complete or begun)
        if complete is None:
            return Status(pipeline, key, "absent", "never made", None)
        reason = self._why_run(pipeline, complete)
        return Status(pipeline, key, "current" if reason is None else "stale", reason, complete)

    def _why_run(self, pipeline: Pipeline, made: Made) -> str | None:
        current = pipeline.current or (pipeline.newest.making if pipeline.newest else None)
        if made.making is None or current is None:
            return None if current is None else "nothing tells what it was made by"
        read = {use.node_id: use.place for use in made.reads}
        found = {use.node_id: self._newest(use) for use in made.reads}
        written = {use.node_id: made.run_uid for use in made.writes if not use.superseded}
        there = {use.node_id: self._writer(use) for use in made.writes if not use.superseded}
        # What was not deployed has no params but those of its runs, which may be of one run alone: docs/registry.md.
        params = current.params if pipeline.current else made.making.params
        previous = replace(made.making, sources=read, sinks=written)
        return why_run(previous, replace(current, params=params, sources=found, sinks=there))

    def _newest(self, read: Use) -> str:
        """Return the identity of what was read, as it is now."""
        later = [write for write in self._touching(read) if write.is_after(read)]
        return max(later, key=_order).place if later else read.place

    def _writer(self, write: Use) -> str:
        """Return the run that wrote last what this one wrote."""
        same = [one for part in write.partitions for one in self._by_partition.get((write.table, part), ())]
        same += self._whole.get(write.table, ()) if write.partitions else self._writes.get(write.table, ())
        later = [one for one in same if one.is_after(write)]
        if not write.partitions and all(not one.partitions for one in later):
            return write.run_uid  # each run replaces or adds to the whole: that is what it is for
        return max(later, key=_order).run_uid if later else write.run_uid

    def _touching(self, use: Use) -> Iterator[Use]:
        """Yield the writes of what was read."""
        if not use.partitions:
            yield from self._writes.get(use.table, ())
            return
        for part in use.partitions:
            yield from self._by_partition.get((use.table, part), ())
            for above in folders_above(part):  # what was written as a folder around it
                yield from (one for one in self._by_partition.get((use.table, above), ()) if above in one.partitions)
        yield from self._whole.get(use.table, ())

    def repairs(self, tables: Iterable[int], environment: str, *, down: bool) -> list[Status]:
        """Return what has to be made again so that these datasets are current, in the order in which to make it.

        Of the pipelines of one environment; with ``down`` also what was, or then will be, made of the datasets.
        """
        found: list[Status] = []
        wanted = set(tables)
        remade: dict[int, PartSet | None] = {}
        """By dataset: the partitions that will be written anew; None: the whole."""
        own = ordered([one for one in self.pipelines if one.environment == environment])
        for pipeline in own:
            if not pipeline.writes & wanted:
                continue
            mine = []
            for status in self.statuses(pipeline):
                if status.state == "current" and (node := _reads_any(status, remade)):
                    status = replace(status, state="stale", reason=f"input '{node}' will be made again")
                if status.state != "current":
                    mine.append(status)
            found += mine
            if not down:
                continue
            wanted |= _followed_by(pipeline, own)
            for status in mine:
                _note(pipeline, status, remade)
        return found


def ordered(pipelines: Sequence[Pipeline]) -> list[Pipeline]:
    """Return pipelines so that each comes after those that write what it reads; of a circle by their names."""
    left = sorted(pipelines, key=lambda one: (one.environment, one.project, one.name))
    found: list[Pipeline] = []
    while left:
        free = [
            one
            for one in left
            if not any(other is not one and one.reads & (other.writes - one.writes) for other in left)
        ] or left[:1]
        found += free
        left = [one for one in left if one not in free]
    return found


def _followed_by(pipeline: Pipeline, among: Sequence[Pipeline]) -> set[int]:
    """Return the datasets of the pipelines that read what this one writes."""
    return {
        dataset
        for other in among
        if other is not pipeline and other.reads & pipeline.writes
        for dataset in other.writes
    }


def _note(pipeline: Pipeline, status: Status, remade: dict[int, PartSet | None]) -> None:
    """Note what making a partition writes: what its last run wrote, else what one of its key would write."""
    writes = status.made.writes if status.made and status.made.writes else ()
    if not writes:
        pattern = next((one for one in pipeline.made if one.writes), None)
        writes = tuple(_moved(use, pattern.keys[0], status.key) for use in pattern.writes) if pattern else ()
    for write in writes:
        dataset = write.table[0]
        known = remade.setdefault(dataset, PartSet())
        if known is None or not write.partitions:
            remade[dataset] = None
        else:
            known.update(write.partitions)


def _moved(use: Use, key: str, to: str) -> Use:
    """Return a write for another partition than the one that it was for."""
    return replace(use, partitions=tuple(moved(one, key, to) for one in use.partitions))


def _reads_any(status: Status, remade: Mapping[int, PartSet | None]) -> str | None:
    """Return the node by which a partition was made of something that will be made again."""
    for use in status.made.reads if status.made else ():
        if use.table[0] not in remade:
            continue
        parts = remade[use.table[0]]
        if parts is None or not use.partitions or any(map(parts.touches, use.partitions)):
            return use.node_id
    return None


def _order(use: Use) -> tuple[int, int, str]:
    return (-1 if use.version is None else use.version, use.moment, use.run_uid)


_RANGES: SizedMemory[tuple[Partition, Partition], tuple[str, ...]] = SizedMemory(64 * 1024 * 1024)
"""By their ends; events decide how far apart these are."""
_KEY_BYTES = 72


def _keys_between(first: Partition, last: Partition) -> tuple[str, ...]:
    found = _RANGES.get((first, last))
    if found is None:
        found = tuple(one.key for one in partitions_between(first, last))
        _RANGES.put((first, last), found, len(found) * _KEY_BYTES)
    return found


def _fits(key: str, made: Made) -> bool:
    try:
        Partition(key, cast("Grain", made.grain), made.timezone)
    except AiflowError:
        return False  # of a time when the pipeline had another grain
    return True


def _is_near(first: Partition, last: Partition) -> bool:
    """Tell whether a range is one that can be counted through."""
    hours = {"hour": 1, "day": 23, "week": 7 * 23, "month": 28 * 23}[first.grain]
    return (last.start - first.start).total_seconds() / 3600 / hours < _MOST_EXPECTED


def made_of(uid: str, fold: MakingFold, datasets: Mapping[tuple[str, str], int], environment: str) -> Made:
    """Return a run as its events tell it; ``datasets`` says which ones names stand for."""
    run = fold.run[1]
    about: Mapping[str, Any] = fold.about[1] if fold.about else {}
    grain = about.get("grain")
    timezone = about.get("timezone") if isinstance(about.get("timezone"), str) else "UTC"
    known_grain = cast("Grain", grain) if grain in get_args(Grain) else None
    uses: dict[str, list[Use]] = {"r": [], "w": []}
    for name, (_, told) in sorted(fold.nodes.items()):
        dataset = datasets.get((told["dataset"][0], told["dataset"][1]))
        if dataset is not None:
            table = dataset, told.get("environment") or environment
            parts = tuple(told.get("partitions", ()))
            superseded = bool(told.get("superseded"))
            use = Use(name[2:], table, parts, told.get("version"), told["moment"], uid, superseded)
            uses[name[0]].append(use)
    return Made(
        run_uid=uid,
        keys=_keys(run.get("partition"), known_grain, str(timezone)),
        version=run.get("version") or "",
        execution=run["execution"],
        generation=run["generation"],
        state=fold.state,
        moment=fold.run[0][1],
        making=_making_of(about) if about else None,
        grain=known_grain,
        timezone=str(timezone),
        is_scheduled=about.get("scheduled") is True,
        reads=tuple(uses["r"]),
        writes=tuple(uses["w"]),
    )


def _keys(text: Any, grain: Grain | None, timezone: str) -> tuple[str, ...]:
    if not isinstance(text, str) or not text:
        return ("-",)
    first, dots, last = text.partition("..")
    if not dots or grain is None:
        return (first,)
    try:
        ends = Partition(first, grain, timezone), Partition(last, grain, timezone)
        return tuple(one.key for one in partitions_between(*ends)) if _is_near(*ends) else (first, last)
    except AiflowError:
        return (first,)


def _making_of(about: Mapping[str, Any]) -> Making | None:
    texts = {name: about.get(name) for name in ("definition", "meaning", "lock")}
    code, params = about.get("code"), about.get("params")
    if not all(isinstance(value, str) for value in texts.values()) or not isinstance(code, dict):
        return None
    return Making(
        str(texts["definition"]),
        meaning=str(texts["meaning"]),
        lock=str(texts["lock"]),
        code=code,
        params=params if isinstance(params, dict) else {},
    )
