"""Values that are checked without pydantic, so that a process that only builds pipelines need not load it.

A class of values says its fields as a pydantic model does. What is given in just the form that a field has is taken as
it is. For all else pydantic decides, through the class's twin (:mod:`aiflow_sdk.ir.twin`), which converts what is given
or says what is wrong with it. So there is one meaning, and the common way to it is short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import get_annotations
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
)

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir.frozen import FrozenMap, Keys, freeze_map, spell, spell_full

REQUIRED: Any = ...
Check: TypeAlias = Callable[[Any], Any]
"""Returns a field's value, or raises ``_OtherFormError`` where pydantic is to decide."""


class Limited(NamedTuple):
    """What a class says of a field beyond its type and plain default."""

    default: Any = REQUIRED
    ge: float | None = None
    gt: float | None = None
    alias: str | None = None


class Field(NamedTuple):
    """One field: its name, its check and its default."""

    name: str
    check: Check
    default: Any


class _OtherFormError(Exception):
    """A value is not in the form that its field has."""


def limited(
    default: Any = REQUIRED, *, ge: float | None = None, gt: float | None = None, alias: str | None = None
) -> Any:
    """Say of a field its default, the least number that it takes, or the key that it has in documents."""
    return Limited(default, ge, gt, alias)


class Value:
    """A value that never changes, refuses unknown fields and hashes by its content.

    It holds what it was given: a field at its default is read from the class.
    """

    LIMITS: ClassVar[Mapping[str, Limited]] = {}
    """What the class says of each field, by name."""
    KEYS: ClassVar[Keys] = ()
    NEEDED: ClassVar[frozenset[str]] = frozenset()
    """The names of the fields without a default."""

    def __init_subclass__(cls) -> None:
        stated = {name: getattr(cls, name, REQUIRED) for name in cls.__annotations__}
        cls.LIMITS = {name: said if isinstance(said, Limited) else Limited(said) for name, said in stated.items()}
        for name, limits in cls.LIMITS.items():
            if limits.default is not REQUIRED:
                setattr(cls, name, limits.default)
            elif name in cls.__dict__:
                delattr(cls, name)
        cls.NEEDED = frozenset(name for name, said in cls.LIMITS.items() if said.default is REQUIRED)
        cls.KEYS = tuple((name, limits.alias or name, limits.default) for name, limits in cls.LIMITS.items())

    def __init__(self, **given: Any) -> None:
        """Take the fields, by name or by key. Raises pydantic's ``ValidationError`` or an ``AiflowError``."""
        try:
            values = _checked(type(self), given)
        except (_OtherFormError, AiflowError):
            from aiflow_sdk.ir.twin import validate

            values = validate(type(self), given)
        self.__dict__.update(values)
        self._settle()

    def _settle(self) -> None:
        """Bring the fields into their one form, and raise ``AiflowError`` where they do not fit together."""

    @classmethod
    def make(cls, **fields: Any) -> Self:
        """Return the value; raises the ``AiflowError`` that a check inside raised, which pydantic would wrap."""
        try:
            return cls(**fields)
        except AiflowError:
            raise
        except ValueError as error:
            from aiflow_sdk.ir.document import unwrap

            raise unwrap(error) or error from error

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON-ready data, fields at their default left out."""
        return spell(self, self.KEYS)

    def to_full_dict(self) -> dict[str, Any]:
        """Return the value as JSON-ready data, every field spelled out."""
        return spell_full(self, self.KEYS)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each field, so that ``dict(value)`` is what :meth:`make` takes."""
        return ((name, getattr(self, name)) for name in self.LIMITS)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash((type(self), _content(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError(f"{type(self).__name__} is frozen: '{name}' cannot be set")

    def __delattr__(self, name: str) -> None:
        raise ValueError(f"{type(self).__name__} is frozen: '{name}' cannot be deleted")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell pydantic, for models that hold such a value."""
        from aiflow_sdk.ir.twin import core_schema

        return core_schema(cls, handler)


def _content(value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, name) for name in value.LIMITS)


def _checked(kind: type[Value], given: Mapping[str, Any]) -> dict[str, Any]:
    fields = _known.get(kind) or _learn(kind)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            raise _OtherFormError
        name, check, default = fields[key]
        # A default need not be looked at, and is what most fields are given.
        if value is not default:
            values[name] = check(value)
    if not values.keys() >= kind.NEEDED:
        raise _OtherFormError
    return values


_known: dict[type[Value], Mapping[str, Field]] = {}
"""Of each class its fields by name and by key, once a value of it was made: a type may name classes further below."""


def _learn(kind: type[Value]) -> Mapping[str, Field]:
    types = get_annotations(kind, eval_str=True)
    fields: dict[str, Field] = {}
    for name, key, default in kind.KEYS:
        fields[name] = fields[key] = Field(name, _check_of(types[name], kind.LIMITS[name]), default)
    _known[kind] = fields
    return fields


def _check_of(wanted: Any, limits: Limited) -> Check:
    """Return the check of a field of this type."""
    origin = get_origin(wanted)
    if origin is Literal:
        return _one_of(get_args(wanted))
    if origin in (Union, UnionType):
        checks = [_check_of(one, limits) for one in get_args(wanted) if one is not NoneType]
        inner = checks[0] if len(checks) == 1 else _any_of(checks)
        return _optional(inner) if NoneType in get_args(wanted) else inner
    if origin is tuple:
        return _each(_check_of(get_args(wanted)[0], limits))
    if wanted in (int, float):
        return _number(wanted, limits)
    if wanted is FrozenMap:
        return _map
    if isinstance(wanted, type) and issubclass(wanted, Value):
        return _value(wanted)
    return _exactly(wanted)


def _map(value: Any) -> FrozenMap:
    if value is None:
        raise _OtherFormError
    return freeze_map(value)


def _number(kind: type, limits: Limited) -> Check:
    taken = (int, float) if kind is float else (int,)

    def check(value: Any) -> Any:
        if type(value) not in taken:
            raise _OtherFormError
        number = kind(value)
        if (limits.ge is not None and not number >= limits.ge) or (limits.gt is not None and not number > limits.gt):
            raise _OtherFormError
        return number

    return check


def _one_of(choices: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise _OtherFormError
        return value

    return check


def _exactly(kind: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _OtherFormError
        return value

    return check


def _each(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not tuple and type(value) is not list:
            raise _OtherFormError
        return tuple(map(inner, value))

    return check


def _value(kind: type[Value]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is kind:
            return value
        if type(value) is not dict:
            raise _OtherFormError
        try:
            return kind(**value)
        except ValueError:
            raise _OtherFormError from None

    return check


def _optional(inner: Check) -> Check:
    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def _any_of(checks: list[Check]) -> Check:
    def check(value: Any) -> Any:
        for one in checks:
            try:
                return one(value)
            except _OtherFormError:
                continue
        raise _OtherFormError

    return check
