"""Run variables as an author holds them: ``p.vars["run_date"]``, whose value is known only at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

from aiflow_sdk.errors import DefinitionError, UnknownNameError, VariableUseError, unknown_name
from aiflow_sdk.place import caller
from aiflow_sdk.variables.template import NAMES, Reference, find_name


class Variable:
    """A value that a run will have: it can be put into text and options, but not looked at.

    ``str()``, f-strings, ``+`` and ``Path("x") / variable`` give text with its template, ``{{ ds }}``, which is
    rendered where the run's task runs. Whatever asks for the value (``if``, ``==``, ``len``, ``int``, slices, methods
    of ``str`` and ``datetime``) raises ``VariableUseError`` with the line that asked. It is no ``str``, because nothing
    could then stop that.
    """

    __slots__ = ("_reference",)
    _reference: Reference

    def __init__(self, reference: Reference) -> None:
        object.__setattr__(self, "_reference", reference)

    @property
    def reference(self) -> Reference:
        """What the variable refers to."""
        return self._reference

    def offset(self, periods: int) -> Variable:
        """Return the variable of the partition that many periods of the run's grain later (negative: earlier)."""
        return Variable(_placed(lambda: self._reference.shifted(periods)))

    def format(self, pattern: str) -> Variable:
        """Return the variable written with these codes of ``strftime``: ``.format("%Y%m%d")``."""
        return Variable(_placed(lambda: self._reference.formatted(pattern)))

    def __str__(self) -> str:
        return str(self._reference)

    def __repr__(self) -> str:
        return f"<run variable {self._reference}>"

    def __format__(self, spec: str) -> str:
        """Return the text; a spec with ``%``, as in ``f"{run_date:%Y%m%d}"``, is a format."""
        if spec and "%" not in spec:
            self._refuse(f"padded or aligned ({spec!r})")
        return str(self.format(spec) if spec else self)

    def __fspath__(self) -> str:
        return str(self)

    def __add__(self, other: object) -> str:
        return str(self) + self._text(other)

    def __radd__(self, other: object) -> str:
        return self._text(other) + str(self)

    def __hash__(self) -> int:
        return hash((Variable, self._reference))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Variable, (self._reference,))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._refuse(f"given an attribute ({name})")

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and (hasattr(str, name) or hasattr(datetime, name)):
            self._refuse(f"asked for .{name}")
        raise AttributeError(f"{self!r} has no attribute '{name}'")

    def _text(self, other: object) -> str:
        if isinstance(other, (str, Variable)):
            return str(other)
        self._refuse(f"added to {type(other).__name__}")

    def _refuse(self, use: str) -> NoReturn:
        name = self._reference.name
        hint = f"use it as a value, or take params/context in the transform's function, where '{name}' is known"
        if use in _INSTEAD:
            hint = f"write {_INSTEAD[use]}; otherwise {hint}"
        raise VariableUseError(
            "variable-at-build-time",
            f"{self} is known only at run time, and was {use} while the pipeline is built",
            where=caller(),
            hint=hint,
        )


_INSTEAD = {
    "subtracted": ".offset(-1)",
    "sliced": ".format('%Y%m')",
    "asked for .strftime": ".format('%Y%m%d')",
    "asked for .replace": ".format('%Y%m%d')",
    "asked for .split": ".format('%Y%m%d')",
    "asked for .isoformat": 'p.vars["data_interval_start"]',
}

_REFUSED = {
    "asked whether it is true": ("bool",),
    "compared": ("eq", "ne", "lt", "le", "gt", "ge"),
    "measured": ("len", "length_hint"),
    "looped over": ("iter", "next", "reversed"),
    "searched": ("contains",),
    "sliced": ("getitem",),
    "changed": ("setitem", "delitem"),
    "subtracted": ("sub", "rsub"),
    "calculated with": (
        *("mul", "rmul", "mod", "rmod", "floordiv", "rfloordiv", "divmod", "rdivmod", "pow", "rpow"),
        *("and", "rand", "or", "ror", "xor", "rxor", "lshift", "rlshift", "rshift", "rrshift", "matmul", "rmatmul"),
        *("truediv", "rtruediv", "neg", "pos", "invert", "abs", "round", "trunc", "floor", "ceil"),
    ),
    "turned into a number": ("int", "float", "complex", "index"),
    "turned into bytes": ("bytes",),
    "called": ("call",),
    "awaited": ("await",),
    "entered": ("enter",),
}


def _refusal(use: str) -> Callable[..., NoReturn]:
    def refuse(self: Variable, *_: object) -> NoReturn:
        self._refuse(use)

    return refuse


for _use, _operators in _REFUSED.items():
    for _operator in _operators:
        setattr(Variable, f"__{_operator}__", _refusal(_use))


class Variables(Mapping[str, Variable]):
    """What ``p.vars`` is: the run variables by name, ``p.vars["run_date"]``, ``p.vars["params.region"]``.

    ``params`` are the pipeline's own, where they are known: a name that is not among them is then refused.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self._params = params

    def __getitem__(self, name: str) -> Variable:
        try:
            reference = find_name(name if isinstance(name, str) else repr(name))
        except UnknownNameError as error:
            raise error.at(caller()) from None
        if self._params is not None and name.startswith("params."):
            first = name.split(".")[1]
            if first not in self._params:
                raise unknown_name("unknown-param", "param", first, self._params, where=caller())
        return Variable(reference)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self[name] is not None
        except UnknownNameError:
            return False

    def __iter__(self) -> Iterator[str]:
        yield from NAMES
        yield from (f"params.{name}" for name in self._params or ())

    def __len__(self) -> int:
        return len(NAMES) + len(self._params or ())

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"p.vars has no attribute '{name}'; write p.vars[\"{name}\"]")


def _placed(make: Callable[[], Reference]) -> Reference:
    try:
        return make()
    except DefinitionError as error:
        raise error.at(caller()) from None
