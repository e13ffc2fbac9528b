"""Plain data that cannot change: what the IR and the Plan are made of."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, TypeAlias

from aiflow_sdk.errors import DefinitionError

# What most values are. Looked up by exact type, because ``isinstance`` is slow where an abstract class is asked.
_SCALARS = frozenset({str, int, bool, float, NoneType})


class FrozenMap(Mapping[str, Any]):
    """A mapping from text to frozen plain data: hashable, picklable, ordered by key."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._hash: int | None = None
        self._items: dict[str, Any]
        if not items:
            self._items = {}
        elif type(items) is FrozenMap:
            self._items = items._items
        else:
            source = items if type(items) is dict else dict(items)
            for key in source:
                if type(key) is not str or not key.isascii():
                    _check_key(key)
            self._items = frozen = {}
            for key in sorted(source):
                value = source[key]
                kind = type(value)
                is_frozen = kind in _FROZEN or (kind is str and value.isascii())
                frozen[key] = value if is_frozen else freeze(value)

    def without(self, *keys: str) -> FrozenMap:
        """Return the map without these keys, itself where it has none of them."""
        if self._items.keys().isdisjoint(keys):
            return self
        rest = FrozenMap()
        rest._items = {key: value for key, value in self._items.items() if key not in keys}
        return rest

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    # Mapping has these too, made of the three that it wants, and slower by far.
    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the key, ``default`` where there is none."""
        return self._items.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys, sorted."""
        return self._items.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values, in the order of their keys."""
        return self._items.values()

    def items(self) -> ItemsView[str, Any]:
        """Return every key with its value, sorted by key."""
        return self._items.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self._items.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMap):
            return self._items == other._items
        return isinstance(other, Mapping) and self._items == freeze(other)._items

    def __repr__(self) -> str:
        return f"FrozenMap({thaw(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenMap, (thaw(self),))

    def __deepcopy__(self, memo: object) -> FrozenMap:
        return self


_FROZEN = frozenset({FrozenMap, int, bool, NoneType})


def freeze(value: Any) -> Any:
    """Return ``value`` as frozen plain data: text, numbers, booleans, None, tuples and :class:`FrozenMap`.

    Dates, times, enumerations and paths become text. Raises ``DefinitionError`` for what has no order (sets), what is
    not finite, and whatever is not plain data.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _check_text(value)
    if kind in _FROZEN:
        return value
    if kind is dict:
        return FrozenMap(value)
    if kind is tuple or kind is list:
        return tuple([freeze(item) for item in value])
    match value:
        case Enum():
            return freeze(value.value)
        case str():
            return _check_text(value)
        case None | bool() | int() | FrozenMap():
            return value
        case float():
            if not math.isfinite(value):
                raise DefinitionError("not-plain-data", f"{value} is not a finite number")
            return value
        case Mapping():
            return FrozenMap(value)
        case list() | tuple():
            return tuple(freeze(item) for item in value)
        case set() | frozenset():
            raise DefinitionError(
                "unordered-value",
                f"a set has no order, so {value!r} would differ from build to build",
                hint="write a list",
            )
        case date() | datetime() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return _check_text(value.as_posix())
        case _:
            raise DefinitionError(
                "not-plain-data",
                f"{value!r} ({type(value).__module__}.{type(value).__qualname__}) is not plain data",
                hint="write text, numbers, booleans, None, lists or dicts of them",
            )


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise DefinitionError("not-plain-data", f"a key must be text, not {key!r}", hint=f"write {str(key)!r}")
    _check_text(key)


def _check_text(text: str) -> str:
    """Return the text. Raises ``DefinitionError`` for half a character (a lone surrogate), which no document holds."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DefinitionError(
                "not-plain-data",
                f"{text!r} is no text: {text[error.start]!r} is half a character",
                hint="a file's name that is not UTF-8, or bytes decoded with 'surrogateescape', look so",
            ) from None
    return text


def thaw(value: Any) -> Any:
    """Return frozen data as ordinary dicts and lists, ready for JSON."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is FrozenMap:
        return {key: item if type(item) in _SCALARS else thaw(item) for key, item in value._items.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


EMPTY_MAP = FrozenMap()
"""The map with nothing in it: the default of fields, which is known again without being compared."""


def freeze_map(value: Any) -> FrozenMap:
    """Return a mapping, or what makes one, as a :class:`FrozenMap`; None as an empty one."""
    if type(value) is FrozenMap:
        return value
    if not value:
        return EMPTY_MAP
    return FrozenMap(value if isinstance(value, Mapping) else dict(value))


Keys: TypeAlias = tuple[tuple[str, str, Any], ...]
"""Of each field of a class its name, its key in documents and its default. Defaults are frozen, so nobody need copy."""


def spell(value: object, keys: Keys) -> dict[str, Any]:
    """Return the fields of a value as JSON-ready data, those at their default left out."""
    held = vars(value)
    said: dict[str, Any] = {}
    for name, key, default in keys:
        if name not in held or (item := held[name]) is default:
            continue
        # True == 1 == 1.0 in Python, but not in meaning.
        if type(item) is not type(default) or item != default:
            said[key] = item if type(item) in _SCALARS else _plain(item)
    return said


def spell_full(value: object, keys: Keys) -> dict[str, Any]:
    """Return the fields of a value as JSON-ready data, every one."""
    return {
        key: item if type(item := getattr(value, name)) in _SCALARS else _plain(item, full=True)
        for name, key, _ in keys
    }


def _plain(value: Any, *, full: bool = False) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple:
        return [_plain(item, full=full) for item in value]
    if kind is FrozenMap:
        return thaw(value)
    return value.to_full_dict() if full else value.to_dict()
