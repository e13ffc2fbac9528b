"""What the events of one run say together.

Events arrive late, twice and in any order, so a run is a fold that does not care: each fact keeps the greatest (or
least) of what was said, by a key that is part of the event. :meth:`RunFold.add` and :meth:`RunFold.merge` are
commutative, associative and idempotent; what is shown is computed from the fold alone.

A key is ``[execution, time, rank, digest]``: a later execution (a clear makes the next) outdoes an earlier one whatever
the clocks say; within one the later event; of one moment an end before a start; at last the digest, so that there
is never a tie.

What was reconciled, that is read off an orchestrator later and not told by the run itself, has half an execution less:
it outdoes all that was told of earlier executions, and whatever the run tells of this one outdoes it. What somebody
said by hand has three quarters less: an orchestrator knows better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aiflow_service.database.memory import SizedMemory
from aiflow_service.openlineage import DatasetMention, Event, RunMention
from aiflow_service.openlineage.events import Name

_RANKS = {"START": 1, "RUNNING": 2, "OTHER": 0, "ABORT": 3, "FAIL": 4, "COMPLETE": 5}
_ENDS = {"COMPLETE": "succeeded", "FAIL": "failed", "ABORT": "cancelled"}
_FACETS = (
    "aiflow_run",
    "aiflow_nodes",
    "aiflow_error",
    "aiflow_usage",
    "aiflow_airflow",
    "aiflow_reconciled",
    "errorMessage",
    "nominalTime",
    "processing_engine",
    "externalQuery",
    "parent",
)
"""The run facets that are kept with the run; all others lie in the events."""
_MAX_FACET_BYTES = 16_384
_MAX_DATASETS = 200
_MAX_WORD = 500
_ENCODER = msgspec.json.Encoder(order="deterministic")

Key = list[Any]


class RunFold(msgspec.Struct, omit_defaults=True):
    """The facts of a run, each with the key that it was said under. Times in microseconds since 1970."""

    first: int | None = None
    """The least time of any event, of the run or of a part of it."""
    start: int | None = None
    """The least time of a ``START``."""
    begin: list[int | float] | None = None
    """Execution, and the least time of a ``START`` in it."""
    begun: list[int | float] | None = None
    """Execution, and the greatest time of a ``START`` in it."""
    end: tuple[Key, str] | None = None
    """The last end, and its type."""
    job: tuple[Key, list[str]] | None = None
    """Namespace and name; what the run's own events say outdoes what others say of their parent."""
    parent: tuple[Key, str] | None = None
    root: tuple[Key, str] | None = None
    facets: dict[str, tuple[Key, Any]] = {}
    datasets: dict[str, tuple[Key, Any]] = {}
    """What was read and written: by ``r`` or ``w``, a space, and the dataset as JSON."""

    @staticmethod
    def of_event(event: Event) -> RunFold:
        """Return what one event says of its run."""
        facts = event.run_facets.get("aiflow_run", {})
        execution: int | float = _whole(facts.get("execution"))
        is_reconciled = "aiflow_reconciled" in event.run_facets
        if is_reconciled:
            execution -= 0.75 if event.run_facets["aiflow_reconciled"].get("from") == "operator" else 0.5
        digest = event.digest.hex()[:16]
        key: Key = [execution, event.time, _RANKS.get(event.event_type, 0), digest]
        is_start, is_end = event.event_type == "START", event.event_type in _ENDS
        assert event.job is not None
        return RunFold(
            first=event.time,
            start=event.time if is_start and not is_reconciled else None,
            begin=[execution, event.time] if is_start else None,
            begun=[execution, event.time] if is_start else None,
            end=(key, event.event_type) if is_end else None,
            job=([1, *key], list(event.job)),
            parent=(key, event.parent.run_id) if event.parent and event.parent.run_id != event.run_id else None,
            root=(key, event.root.run_id) if event.root else None,
            facets={name: (key, _cut(event.run_facets[name])) for name in _FACETS if name in event.run_facets},
            datasets=_datasets(event.datasets[:_MAX_DATASETS], key),
        )

    @staticmethod
    def of_part(event: Event, parent: RunMention, root: str | None = None) -> RunFold:
        """Return what an event of a part says of the run that it is part of: that it is, and since when."""
        facts = event.run_facets.get("aiflow_run", {})
        key = [_whole(facts.get("execution")), event.time, 0, event.digest.hex()[:16]]
        shared = {name: value for name, value in facts.items() if name not in ("task_id", "attempt")}
        return RunFold(
            first=event.time,
            job=([0, *key], list(parent.job)),
            # Until the run itself says of what it is a part.
            parent=([-1, *key[1:]], root) if root and root != parent.run_id else None,
            facets={"aiflow_run": ([-1, *key[1:]], shared)} if shared else {},
        )

    def merge(self, other: RunFold) -> RunFold:
        """Return both together."""
        return RunFold(
            first=_least(self.first, other.first),
            start=_least(self.start, other.start),
            begin=_earliest(self.begin, other.begin),
            begun=_greatest(self.begun, other.begun),
            end=_newest(self.end, other.end),
            job=_newest(self.job, other.job),
            parent=_newest(self.parent, other.parent),
            root=_newest(self.root, other.root),
            facets=_newest_of_each(self.facets, other.facets),
            datasets=_newest_of_each(self.datasets, other.datasets, most=_MAX_DATASETS),
        )

    @property
    def is_own(self) -> bool:
        """Whether the run's own events have said anything, and not others alone that they are part of it."""
        return self.job is not None and self.job[0][0] > 0

    @property
    def environment(self) -> str | None:
        """The environment of aiflow that it is in; None where nobody has said."""
        told = self.facet("aiflow_run").get("environment")
        return told if isinstance(told, str) else None

    @property
    def started_at(self) -> int:
        """When it began, or was first heard of."""
        return self.start if self.start is not None else self.first or 0

    @property
    def state(self) -> str:
        """``running``, ``succeeded``, ``failed`` or ``cancelled``; a start after the end means that it runs again."""
        if self.end is None:
            return "running"
        execution, moment = self.end[0][:2]
        # An orchestrator knows of an end when it decides it, perhaps before the run has said that it began.
        since = [math.ceil(execution), math.inf if execution % 1 else moment]
        runs_again = self.begun is not None and self.begun > since
        return "running" if runs_again else _ENDS[self.end[1]]

    @property
    def is_reconciled(self) -> bool:
        """Whether the end was not told by the run, but read off its orchestrator."""
        return self.end is not None and self.state != "running" and self.end[0][0] % 1 != 0

    @property
    def ended_at(self) -> int | None:
        """When it ended; None while it runs."""
        return None if self.end is None or self.state == "running" else int(self.end[0][1])

    @property
    def seconds(self) -> float | None:
        """How long the last execution took."""
        ended = self.ended_at
        if ended is None or self.end is None:
            return None
        is_its_own = self.begin is not None and math.ceil(self.begin[0]) == math.ceil(self.end[0][0])
        begin = self.begin[1] if self.begin and is_its_own else self.started_at
        return max(0, ended - begin) / 1e6

    def facet(self, name: str) -> Mapping[str, Any]:
        """Return a facet, empty where nobody said it."""
        found = self.facets.get(name)
        return found[1] if found and isinstance(found[1], dict) else {}

    def facet_at_end(self, name: str) -> Mapping[str, Any]:
        """Return a facet that belongs to an end: of an earlier end than the last it says nothing."""
        found = self.facets.get(name)
        ends = found is not None and self.end is not None and self.state != "running" and found[0] == self.end[0]
        return self.facet(name) if ends else {}

    def to_bytes(self) -> bytes:
        """Return the fold as it is stored."""
        return _ENCODER.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> RunFold:
        """Return the fold that :meth:`to_bytes` wrote."""
        return _DECODER.decode(data)


_DECODER = msgspec.json.Decoder(RunFold)


def _datasets(mentions: Sequence[DatasetMention], key: Key) -> dict[str, tuple[Key, Any]]:
    """Return what an event says of its datasets; those that it only names share one value, which nobody changes."""
    named: tuple[Key, Any] = ([key[0], 0, *key[1:]], {})
    found = {}
    for one in mentions:
        is_told_more = one.measured or "version" in one.facets
        found[_dataset_key(one.is_output, one.name)] = _measured(one, key) if is_told_more else named
    return found


def _measured(mention: DatasetMention, key: Key) -> tuple[Key, Any]:
    measured, about = mention.measured, mention.facets
    statistics = measured.get("outputStatistics") or measured.get("inputStatistics") or {}
    node = measured.get("aiflow_node", {})
    partitions, is_cut = _words(node.get("partitions"))
    told = {
        "rows": _count(statistics.get("rowCount")),
        "bytes": _count(statistics.get("size")),
        "version": _word(about.get("version", {}).get("datasetVersion")),
        "node_id": _word(node.get("node_id")),
        "partitions": partitions,
        "superseded": superseded if isinstance(superseded := node.get("superseded"), bool) else None,
        "is_cut": True if is_cut else None,
    }
    # An event that measured outdoes one that only names: the end tells what the start could not know.
    value = {name: value for name, value in told.items() if value is not None}
    return [key[0], len(value), *key[1:]], value


def _dataset_key(is_output: bool, name: Name) -> str:
    found = _DATASET_KEYS.get((is_output, name))
    if found is None:
        found = ("w " if is_output else "r ") + _ENCODER.encode(name).decode()
        _DATASET_KEYS.put((is_output, name), found, 3 * len(found) + 300)
    return found


_DATASET_KEYS: SizedMemory[tuple[bool, Name], str] = SizedMemory(12 * 1024 * 1024)


def _cut(value: Any) -> Any:
    """Return a facet, or what of it is short where it is very long."""
    if len(_ENCODER.encode(value)) <= _MAX_FACET_BYTES or not isinstance(value, dict):
        return value
    texts = {name: one[:4_000] for name, one in value.items() if isinstance(one, str)}
    return dict(list(texts.items())[:4]) | {"is_cut": True}


def _word(value: Any) -> str | None:
    return value[:_MAX_WORD] if isinstance(value, str) else None


def _words(value: Any) -> tuple[list[str] | None, bool]:
    """Return the texts of a list, and whether there are so many that the last ones are left out."""
    if not isinstance(value, list):
        return None, False
    found: list[str] = []
    left = _MAX_FACET_BYTES
    for one in value:
        if isinstance(one, str):
            left -= len(one) + 3
            if left < 0:
                return found, True
            found.append(one)
    return found, False


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _greatest(one: list[int | float] | None, other: list[int | float] | None) -> list[int | float] | None:
    return other if one is None else one if other is None else max(one, other)


def _earliest(one: list[int | float] | None, other: list[int | float] | None) -> list[int | float] | None:
    if one is None or other is None:
        return other if one is None else one
    if one[0] != other[0]:
        return max(one, other)
    return min(one, other)


def _newest(one: tuple[Key, Any] | None, other: tuple[Key, Any] | None) -> Any:
    return other if one is None else one if other is None else max(one, other, key=_key)


def _newest_of_each(
    one: dict[str, tuple[Key, Any]], other: dict[str, tuple[Key, Any]], *, most: int | None = None
) -> dict[str, tuple[Key, Any]]:
    if not other:
        return one
    together = {name: _newest(one.get(name), other.get(name)) for name in sorted({*one, *other})}
    # Those that come first by name, whatever came first: a bound that the order of arrival does not move.
    return together if most is None or len(together) <= most else dict(list(together.items())[:most])


def _key(fact: tuple[Key, Any]) -> Key:
    return fact[0]
