"""One difference between two versions of a pipeline, as frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from aiflow_sdk.ir import DatasetCondition, FrozenMap, canonical_json, freeze, thaw

Kind = Literal[
    "pipeline-changed",
    "node-added",
    "node-removed",
    "node-renamed",
    "node-rewired",
    "node-moved",
    "node-changed",
    "schema-changed",
    "code-changed",
    "tasks-changed",
    "packages-changed",
    "environment-changed",
]
"""``node-moved``: another engine, cluster or kind of resources. ``code-changed``: what an entrypoint reaches is other
code. ``tasks-changed``: the same nodes share processes in another way."""

Effect = Literal["data", "operation", "description"]
"""``data``: partitions that were made before are made again, by the rule of :mod:`aiflow_sdk.plan.meaning`.
``operation``: only how, where or when it runs. ``description``: only what is said of it."""

EFFECTS: Final[tuple[Effect, ...]] = ("data", "operation", "description")


class _Absent(Enum):
    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = _Absent.ABSENT
"""Stands for what is not stated at all, where None is a value."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What one version says otherwise than the version before it. All values are frozen, secret references raw."""

    kind: Kind
    effect: Effect
    node: str | None = None
    """Id of the node in the newer version; of one that was removed, in the older."""
    path: Path = ()
    """Where in the node, or in the pipeline: ``("options", "table")``. Empty where the whole is meant."""
    before: Any = ABSENT
    after: Any = ABSENT
    text: str = ""
    """A sentence for people, without an end."""

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON-ready data; ``before`` and ``after`` are left out where nothing is stated."""
        data: dict[str, Any] = {"kind": self.kind, "effect": self.effect}
        if self.node is not None:
            data["node"] = self.node
        data["path"] = list(self.path)
        for name, value in (("before", self.before), ("after", self.after)):
            if value is not ABSENT:
                data[name] = thaw(value)
        return {**data, "text": self.text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Difference:
        """Return the difference that :meth:`to_dict` described."""
        return cls(
            data["kind"],
            data["effect"],
            data.get("node"),
            tuple(data["path"]),
            freeze(data["before"]) if "before" in data else ABSENT,
            freeze(data["after"]) if "after" in data else ABSENT,
            data["text"],
        )


def effect_of(differences: Iterable[Difference]) -> Effect | None:
    """Return the gravest effect, None where nothing differs."""
    found = {difference.effect for difference in differences}
    return next((effect for effect in EFFECTS if effect in found), None)


def plain(value: Any) -> Any:
    """Return the value of a field as frozen plain data."""
    return freeze(value.to_dict()) if isinstance(value, DatasetCondition) else freeze(value)


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two frozen values are one in meaning: ``True`` is not ``1``, and ``1`` is not ``1.0``."""
    if one is other:
        return True
    if one is ABSENT or other is ABSENT:
        return False
    return canonical_json(thaw(one)) == canonical_json(thaw(other))


def differing(before: Any, after: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield path, old and new value of each place where two values differ, maps key by key.

    Within a map, one with a key of ours (``$window``) is one value, and so is one that was empty, or is now.
    """
    if is_same(before, after):
        return
    if not (isinstance(before, FrozenMap) and isinstance(after, FrozenMap)) or (
        len(path) > 1 and (_is_one_value(before) or _is_one_value(after))
    ):
        yield path, before, after
        return
    for key in sorted({*before, *after}):
        yield from differing(before.get(key, ABSENT), after.get(key, ABSENT), (*path, key))


def _is_one_value(value: FrozenMap) -> bool:
    return not value or any(key.startswith("$") for key in value)
