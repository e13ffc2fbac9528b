"""A source or sink as its author wrote it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec

from aiflow_sdk.errors import DefinitionError, Where, plural
from aiflow_sdk.place import caller

P = ParamSpec("P")

TRANSFORM_MARK = "__aiflow_transform__"
"""The attribute in which ``@transform(…)`` leaves a function's defaults."""

FROM_SCHEDULE: Literal["from schedule"] = "from schedule"
"""The default of a pipeline's ``partition``: what the schedule plainly says."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one ``source.KIND(…)`` or ``sink.KIND(…)`` said, raw, and where it stands."""

    type: Literal["source", "sink"]
    kind: str
    id: Any
    options: Mapping[str, Any]
    where: Where

    def __repr__(self) -> str:
        # Options may hold what nobody should print.
        return f"{self.type}.{self.kind}(id={self.id!r}, …)"


def recorded(method: Callable[P, Declaration]) -> Callable[P, Declaration]:
    """Make ``method``, whose signature types one kind, record what it is called with.

    At run time it takes any keyword, so that the compiler can report an unknown one beside all other problems. What
    equals the signature's default is left out: a default spelled out means nothing else.
    """
    kind = method.__name__
    code = method.__code__
    names = code.co_varnames[1 : code.co_argcount]
    defaults = dict(zip(reversed(names), reversed(method.__defaults__ or ()), strict=False))
    defaults |= method.__kwdefaults__ or {}

    @functools.wraps(method)
    def record(face: Any, *positional: Any, **options: Any) -> Declaration:
        given = _named(face.type, kind, names, positional, options)
        said = {k: v for k, v in given.items() if k not in defaults or not _is_default(v, defaults[k])}
        return declare(face.type, kind, said)

    return record  # type: ignore[return-value]  # as typed by the method


def record_kind(type: Literal["source", "sink"], kind: str, names: tuple[str, ...]) -> Callable[..., Declaration]:
    """Return what records a kind that nothing is known of here but the ``names`` of its first arguments."""

    def record(*positional: Any, **options: Any) -> Declaration:
        return declare(type, kind, _named(type, kind, names, positional, options))

    record.__name__ = record.__qualname__ = kind
    return record


def declare(type: Literal["source", "sink"], kind: str, options: dict[str, Any]) -> Declaration:
    """Return the declaration, placed at the author's line."""
    return Declaration(type, kind, options.pop("id", None), options, caller())


def _named(
    type: str, kind: str, names: tuple[str, ...], positional: tuple[Any, ...], options: dict[str, Any]
) -> dict[str, Any]:
    if not positional:
        return options
    twice = [name for name in names[: len(positional)] if name in options]
    if len(positional) > len(names) or twice:
        most = f"takes {plural(len(names), 'argument')} without a name ({', '.join(names)}), not {len(positional)}"
        raise DefinitionError(
            "bad-arguments",
            f"{type}.{kind}(…) " + (f"got '{twice[0]}' twice" if twice else most),
            where=caller(),
            hint="name the arguments",
        )
    return {**dict(zip(names, positional, strict=False)), **options}


def _is_default(value: Any, default: Any) -> bool:
    if value is None:
        return True
    # Most are text, and to ask an abstract class is slow.
    if type(value) is not str and not default and isinstance(value, Mapping | list | tuple) and not value:
        return True
    return type(value) is type(default) and bool(value == default)
