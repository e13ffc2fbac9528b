"""Events that say of their datasets and their job what others have said before, as most do.

Of such an event only the run and the event itself are written. That it was said again is written somewhat later, for
many of them at once (:meth:`Repeats.take_later`), so that the newest time of a schema or a fact is exact whatever the
order of arrival.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import TypeAlias

import msgspec

from aiflow_service.database.memory import Memory
from aiflow_service.ingest.sender import Sent
from aiflow_service.lineage.writing import GRAIN
from aiflow_service.openlineage import DatasetMention, Event
from aiflow_service.openlineage.events import Name

LATER_SECONDS = 5.0
"""How long it takes at most until it is written that something was said again."""
_MAX_DATASETS = 100
_ENCODER = msgspec.json.Encoder(order="deterministic")

Key: TypeAlias = tuple[int, bool, Name, Name | None, bytes, tuple[int, ...]]
"""Who says it, of which job and pipeline, with which facts of the job and mentions of datasets."""


class Repeats:
    """What is known to be stored, and what is still to be written of it."""

    def __init__(self) -> None:
        self.known: Memory[Key, tuple[int, int]] = Memory(20_000)
        """The times between which the edges are known to be seen."""
        self._noted: dict[Key, Sent] = {}
        self._later: dict[Key, Sent] = {}
        self._newest = 0
        self._since = 0.0

    def sort(self, sent: Iterable[Sent]) -> list[Sent]:
        """Return those that say something new; of the others it is noted that they said it again."""
        fresh = []
        for one in sent:
            key = _key_of(one)
            known = None if key is None else self.known.get(key)
            grain = one.event.time - one.event.time % GRAIN
            if key is None or known is None or not known[0] <= grain <= known[1]:
                fresh.append(one)
            elif (noted := self._noted.get(key)) is None or noted.event.time < one.event.time:
                self._noted[key] = one
        return fresh

    def learn(self, one: Sent) -> None:
        """Note that all that an event says is stored now, and was its sender's to say."""
        if (key := _key_of(one)) is not None:
            grain = one.event.time - one.event.time % GRAIN
            first, last = self.known.get(key) or (grain, grain)
            self.known.learn(key, (min(first, grain), max(last, grain)))

    def take_later(self, fresh: Sequence[Sent]) -> list[Sent]:
        """Return what was said again and is to be written now.

        It may wait, unless something new is said of an earlier time, which has to lose against it.
        """
        is_late = any(one.event.time <= self._newest for one in fresh)
        if not self._later or not (is_late or time.monotonic() - self._since > LATER_SECONDS):
            return []
        return list(self._later.values())

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to write later."""
        return bool(self._later)

    @property
    def later(self) -> list[Sent]:
        """All that is to be written later."""
        return list(self._later.values())

    def keep(self, written: Sequence[Sent]) -> None:
        """Keep what was noted, and forget what was written of it: both is committed."""
        self.known.keep()
        if written:
            self._later.clear()
            self._newest = 0
        if self._noted and not self._later:
            self._since = time.monotonic()
        for key, one in self._noted.items():
            before = self._later.get(key)
            if before is None or before.event.time < one.event.time:
                one.event = msgspec.structs.replace(one.event, raw=b"")
                self._later[key] = one
                self._newest = max(self._newest, one.event.time)
        self._noted.clear()

    def drop(self) -> None:
        """Forget what was noted: it was rolled back."""
        self.known.drop()
        self._noted.clear()

    def forget(self) -> None:
        """Forget what is stored; what is to be written later stays."""
        self.known.forget()


def newest_mentions(sent: Iterable[Sent]) -> Iterator[tuple[Sent, DatasetMention, int]]:
    """Yield what is said of datasets, with its sender and time: of what a team says again only the newest."""
    newest: dict[tuple[int, int, bool], tuple[Sent, DatasetMention, int]] = {}
    for one in sent:
        time, team_id, speaks_for_all = one.event.time, one.team_id, one.speaks_for_all
        for mention in one.event.datasets:
            key = mention.number, team_id, speaks_for_all
            known = newest.get(key)
            if known is None or known[2] < time:
                newest[key] = (one, mention, time)
    yield from newest.values()


def _key_of(one: Sent) -> Key | None:
    event = one.event
    if event.job is None or len(event.datasets) > _MAX_DATASETS:
        return None
    facts = sha256(_ENCODER.encode(event.job_facets)).digest()[:16] if event.job_facets else b""
    numbers = tuple([mention.number for mention in event.datasets])
    return one.team_id, one.speaks_for_all, event.job, job_of_edges(event), facts, numbers


def job_of_edges(event: Event) -> Name | None:
    """Return the job that reads and writes: of a task of aiflow its pipeline, which is what hands the rows on."""
    if event.parent and "aiflow_run" in event.run_facets:
        return event.parent.job
    return event.job
