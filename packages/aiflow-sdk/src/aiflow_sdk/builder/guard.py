"""What may not stand in a pipeline: Airflow's objects, secrets in plain text, things that only Python knows."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from aiflow_sdk.config import secret_problems
from aiflow_sdk.errors import AiflowError, DefinitionError
from aiflow_sdk.factories import Declaration
from aiflow_sdk.ir import EMPTY_MAP, FrozenMap, Value
from aiflow_sdk.variables import canonicalise

if TYPE_CHECKING:
    from pydantic import ValidationError


_HARMLESS = frozenset({str, int, float, bool, NoneType})
MAPPING = (dict, Mapping)
"""What is asked of a dict first, because to ask an abstract class is slow."""


def plain_map(values: Mapping[str, Any], **ours: str) -> FrozenMap:
    """Return the author's values as frozen plain data, templates in their one spelling, or raise what is wrong.

    ``ours`` is added to them, and is not looked at.
    """
    if not values:
        return FrozenMap(ours) if ours else EMPTY_MAP
    for name, value in values.items():
        if type(value) not in _HARMLESS:
            refuse_foreign(value, str(name))
    plain = canonicalise(values)
    for problem in secret_problems(plain):
        raise problem
    return FrozenMap(plain | ours if ours else plain)


def refuse_foreign(value: Any, name: str) -> None:
    """Raise ``DefinitionError`` where the value, or one inside it, belongs to Airflow or is a pipeline's own part."""
    if isinstance(value, MAPPING):
        for key, item in value.items():
            if type(item) not in _HARMLESS:
                refuse_foreign(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            if type(item) not in _HARMLESS:
                refuse_foreign(item, name)
    elif isinstance(value, Declaration):
        raise DefinitionError(
            "misplaced-declaration",
            f"'{name}' is given {value!r}",
            hint="write p.read(source.…) and p.write(dataset, sink.…)",
        )
    elif is_airflow(value):
        raise DefinitionError(
            "airflow-object",
            f"'{name}' is given an object of Airflow ({type(value).__name__})",
            hint="declare the work with source.…, .transform(…) and sink.…; aiflow makes the DAG and its tasks",
        )


def is_airflow(value: Any) -> bool:
    """Whether the value is an object of Airflow or a class or function of it."""
    if type(value) in _HARMLESS:
        return False
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    modules = [getattr(value, "__module__", None), *(kind.__module__ for kind in kinds)]
    return any(isinstance(module, str) and module.split(".")[0] == "airflow" for module in modules)


def make(kind: type[Value], fields: Mapping[str, Any]) -> Any:
    """Return ``kind(**fields)``; what pydantic says becomes a ``DefinitionError`` in the author's words."""
    try:
        return kind(**fields)
    except AiflowError:
        raise
    except ValueError as error:
        from pydantic import ValidationError

        from aiflow_sdk.ir import unwrap

        if not isinstance(error, ValidationError):
            raise
        raise unwrap(error) or _wrong_value(error) from None


def _wrong_value(error: ValidationError) -> DefinitionError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    return wrong_value(name, first.get("input"), first["msg"].removeprefix("Input should be ").replace("valid ", ""))


def wrong_value(name: str, value: object, wanted: str) -> DefinitionError:
    """Return the error for a value of the wrong type or range."""
    return DefinitionError("bad-value", f"{name}={value!r} is not {wanted}", hint=f"give {name} {wanted}")


def expect(name: str, value: Any, kinds: type | tuple[type, ...], wanted: str) -> Any:
    """Return ``value`` if it is one of ``kinds`` (True and False are no numbers), else raise."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        if is_airflow(value):
            refuse_foreign(value, name)
        raise wrong_value(name, value, wanted)
    return value
