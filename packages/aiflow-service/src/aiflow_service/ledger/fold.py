"""What the events of a pipeline's run and of its tasks say together of the partitions that it made.

A fold as that of runs (:mod:`aiflow_service.runs.fold`): it does not care how late, how often and in which order the
events arrive. Facts are kept by the greatest key; a key begins with the execution, so that of a node that was done
again (a clear, a retry) the last doing counts.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiflow_service.openlineage import DatasetMention, Event

_ENDS = {"COMPLETE": "succeeded", "FAIL": "failed", "ABORT": "cancelled"}
_RANKS = {"START": 1, "RUNNING": 0, "OTHER": 0, "ABORT": 3, "FAIL": 4, "COMPLETE": 5}
_MAX_NODES = 1_000
_MAX_PARTITIONS = 10_000
_MAX_PARTITION = 500
_MAX_CHARACTERS = 4 * 1024 * 1024
"""Of the partitions of all nodes together: with each event of the run they are read and written again."""
_MAX_ABOUT_BYTES = 262_144
_ENCODER = msgspec.json.Encoder(order="deterministic")

Key = list[Any]


class MakingFold(msgspec.Struct, omit_defaults=True):
    """The facts of one run, each with the key that it was said under."""

    run: tuple[Key, dict[str, Any]]
    """Of the greatest execution: its number and generation; with what the run is of and for."""
    about: tuple[Key, dict[str, Any]] | None = None
    """The facet ``aiflow_making``."""
    begun: Key | None = None
    """The last start of the whole run: execution and moment."""
    end: tuple[Key, str] | None = None
    """The last end of the whole run."""
    nodes: dict[str, tuple[Key, dict[str, Any]]] = {}
    """What was read and written: by ``r`` or ``w``, a space, and the node's id."""

    @staticmethod
    def of_event(event: Event) -> MakingFold | None:
        """Return what an event says, None of one that says nothing of a making."""
        facts = event.run_facets.get("aiflow_run")
        if not facts or not isinstance(facts.get("pipeline_id"), str) or not isinstance(facts.get("run_id"), str):
            return None
        execution, generation = _whole(facts.get("execution")), _whole(facts.get("generation"))
        is_task = facts.get("task_id") is not None
        rank, digest = _RANKS.get(event.event_type, 0), event.digest.hex()[:16]
        key = [execution, event.time, rank, digest]
        run = {
            "execution": execution,
            "generation": generation,
            **{name: facts[name] for name in ("partition", "version") if isinstance(facts.get(name), str)},
        }
        about = event.run_facets.get("aiflow_making")
        is_start, is_end = event.event_type == "START" and not is_task, event.event_type in _ENDS and not is_task
        fold = MakingFold(
            run=(key, run),
            about=(key, dict(about)) if about and len(_ENCODER.encode(about)) <= _MAX_ABOUT_BYTES else None,
            begun=[execution, event.time] if is_start else None,
            end=(key, _ENDS[event.event_type]) if is_end else None,
        )
        if event.event_type == "COMPLETE":
            # What a task says of its nodes is of the moment; the whole run says it again at its end.
            node_key = [execution, int(is_task), _whole(facts.get("attempt")), event.time, digest]
            for mention in event.datasets:
                if found := _node(mention, event.time, generation):
                    fold.nodes[found[0]] = (node_key, found[1])
        return fold

    def merge(self, other: MakingFold) -> MakingFold:
        """Return both together."""
        nodes = {
            name: _newest(self.nodes.get(name), other.nodes.get(name)) for name in sorted({*self.nodes, *other.nodes})
        }
        return MakingFold(
            run=_newest(self.run, other.run),
            about=_newest(self.about, other.about),
            begun=max((one for one in (self.begun, other.begun) if one is not None), default=None),
            end=_newest(self.end, other.end),
            nodes=_bounded(nodes),
        )

    @property
    def state(self) -> str:
        """``running``, ``succeeded``, ``failed`` or ``cancelled``; a start after the end means that it runs again."""
        if self.end is None or (self.begun is not None and self.begun > self.end[0][:2]):
            return "running"
        return self.end[1]

    def to_bytes(self) -> bytes:
        """Return the fold as it is stored."""
        return _ENCODER.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> MakingFold:
        """Return the fold that :meth:`to_bytes` wrote."""
        return _DECODER.decode(data)


_DECODER = msgspec.json.Decoder(MakingFold)


def _bounded(nodes: dict[str, tuple[Key, dict[str, Any]]]) -> dict[str, tuple[Key, dict[str, Any]]]:
    """Return the first nodes by their names, as many as are kept of a run."""
    found = dict(list(nodes.items())[:_MAX_NODES])
    left = _MAX_CHARACTERS
    for number, (_, told) in enumerate(found.values()):
        left -= sum(map(len, told.get("partitions", ())))
        if left < 0:
            return dict(list(found.items())[:number])
    return found


def _node(mention: DatasetMention, moment: int, generation: int) -> tuple[str, dict[str, Any]] | None:
    facts = mention.measured.get("aiflow_node")
    if not facts or not isinstance(facts.get("node_id"), str):
        return None
    partitions = facts.get("partitions")
    stated = (
        [one[:_MAX_PARTITION] for one in partitions if isinstance(one, str)] if isinstance(partitions, list) else []
    )
    told: dict[str, Any] = {"dataset": list(mention.name), "moment": moment, "generation": generation}
    if stated:
        told["partitions"] = stated[:_MAX_PARTITIONS]
    version = _version(mention.facets.get("version", {}).get("datasetVersion"))
    if version is not None:
        told["version"] = version
    if facts.get("superseded") is True:
        told["superseded"] = True
    if isinstance(facts.get("environment"), str):
        told["environment"] = facts["environment"][:_MAX_PARTITION]
    return ("w " if mention.is_output else "r ") + facts["node_id"][:500], told


def _version(value: Any) -> int | None:
    """Return the number of a table's version, which OpenLineage has as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19 else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else 0


def _newest(one: tuple[Key, Any] | None, other: tuple[Key, Any] | None) -> Any:
    return other if one is None else one if other is None else max(one, other, key=_key)


def _key(fact: tuple[Key, Any]) -> Key:
    return fact[0]
