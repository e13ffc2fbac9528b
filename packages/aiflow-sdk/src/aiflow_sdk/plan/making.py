"""Of what a partition was made, and the rule that says whether it has to be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from aiflow_sdk.ir import thaw
from aiflow_sdk.plan.meaning import meaning_of
from aiflow_sdk.plan.model import Plan


@dataclass(frozen=True)
class Making:
    """What one partition was made by and from. The names in the mappings are node ids, except in ``params``."""

    definition: str
    """Fingerprint of the pipeline's IR."""
    meaning: str = field(default="", kw_only=True)
    """Fingerprint of what its rows depend on: nodes, partition, time zone; not owner or tags. Empty: not known."""
    lock: str
    """Fingerprint of the lock file, else of the installed packages."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Of each transform in Python: fingerprint of the user's code that it reaches."""
    params: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str | None] = field(default_factory=dict)
    """Of each source: identity of the data read; None where the source has none."""
    sinks: Mapping[str, str | None] = field(default_factory=dict)
    """Of each sink: identity of what lies in the partition; None where the sink has none, or nothing lies there."""
    run_id: str = ""
    generation: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the making as JSON-ready data."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Making:
        """Return the making that :meth:`to_dict` described; fields of a later version are ignored."""
        known = {item.name for item in fields(Making)}
        return Making(**{name: value for name, value in data.items() if name in known})


def making_of(plan: Plan) -> Making:
    """Return what a plan makes partitions by, with its params by default; not what is read and written."""
    return Making(
        definition=plan.definition,
        meaning=meaning_of(plan),
        lock=plan.lock,
        code={node.id: node.code for node in plan.node_list if node.code},
        params=thaw(plan.params),
    )


class Verdict(NamedTuple):
    """Whether a partition has to be made."""

    reason: str | None
    """Why it has to be, as a sentence's beginning; None: it is up to date."""
    environment: str | None = None
    """Where it was made, of one that is up to date."""


def why_run(previous: Making | None, current: Making) -> str | None:
    """Return why a partition has to be made again, as a sentence's beginning, or None when it is up to date.

    ``previous`` is what it was made of when it last was, ``current`` what it would be made of now, with the sinks as
    they are now. What cannot be compared counts as changed: a partition is never skipped on a guess.
    """
    if previous is None:
        return "never made"
    if previous.definition != current.definition and (not previous.meaning or previous.meaning != current.meaning):
        return "the definition of the pipeline changed"
    if nodes := _differing(previous.code, current.code):
        return f"the code of {_quoted(nodes)} changed"
    if previous.lock != current.lock:
        return "the installed packages changed"
    if names := _differing(previous.params, current.params):
        first = names[0]
        return f"the param '{first}' was {previous.params.get(first)!r} and is {current.params.get(first)!r}"
    if nodes := [node for node, identity in current.sources.items() if identity is None]:
        return f"nothing tells whether input {_quoted(nodes)} changed"
    if nodes := _differing(previous.sources, current.sources):
        return f"input {_quoted(nodes)} was restated"
    written = {node: identity for node, identity in previous.sinks.items() if identity is not None}
    if nodes := [node for node in sorted(written) if current.sinks.get(node) is None]:
        return f"output {_quoted(nodes)} is gone"
    if nodes := [node for node in sorted(written) if current.sinks[node] != written[node]]:
        return f"output {_quoted(nodes)} was changed by someone else"
    return None


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    missing = object()
    return [name for name in sorted({*one, *other}) if one.get(name, missing) != other.get(name, missing)]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
