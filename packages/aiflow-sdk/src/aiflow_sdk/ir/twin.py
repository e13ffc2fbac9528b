"""The pydantic model that a class of values stands for: it converts what is given in another form, says what is wrong,
and writes the JSON Schema."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pydantic import Field, GetCoreSchemaHandler, create_model
from pydantic_core import core_schema as schemas

from aiflow_sdk.ir.document import Frozen, PlainMap
from aiflow_sdk.ir.value import Value


def validate(kind: type[Value], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields' values, by name. Raises pydantic's ``ValidationError``."""
    return _fields(kind, twin_of(kind)(**{key: _opened(value) for key, value in given.items()}))


def core_schema(kind: type[Value], handler: GetCoreSchemaHandler) -> Any:
    """Return the schema of a field that holds such a value: one that is there already, or what makes one."""

    def check(value: Any, inner: Any) -> Any:
        return value if isinstance(value, kind) else kind(**_fields(kind, inner(_opened(value))))

    return schemas.no_info_wrap_validator_function(
        check,
        handler.generate_schema(twin_of(kind)),
        serialization=schemas.plain_serializer_function_ser_schema(lambda value: value.to_full_dict()),
    )


_twins: dict[type[Value], type[Frozen]] = {}


def twin_of(kind: type[Value]) -> type[Frozen]:
    """Return the model of the same name, fields, defaults and limits."""
    if kind not in _twins:
        _twins[kind] = _make_twin(kind)
    return _twins[kind]


def _make_twin(kind: type[Value]) -> type[Frozen]:
    names = vars(sys.modules[kind.__module__])
    fields: dict[str, Any] = {
        name: (kind.__annotations__[name], Field(said.default, alias=said.alias, ge=said.ge, gt=said.gt))
        for name, said in kind.LIMITS.items()
    }
    # Nothing of this module's names may be meant, so that each annotation waits for those below.
    twin = create_model(kind.__name__, __base__=Frozen, __doc__=kind.__doc__, __module__=__name__, **fields)
    others = {name: twin_of(found) for name, found in names.items() if _is_other(found, kind)}
    twin.model_rebuild(force=True, _types_namespace={**names, **others, "FrozenMap": PlainMap, kind.__name__: twin})
    return twin


def _is_other(found: Any, kind: type[Value]) -> bool:
    """Whether a name of the class's module is another class of values that its fields may hold."""
    return isinstance(found, type) and found is not Value and issubclass(found, Value) and _holds(kind, found.__name__)


def _holds(kind: type[Value], name: str) -> bool:
    return name != kind.__name__ and any(name in str(stated) for stated in kind.__annotations__.values())


def _opened(value: Any) -> Any:
    """Return what is given with every value in it as the fields that it was made of."""
    if isinstance(value, Value):
        return {name: _opened(item) for name, item in value}
    if isinstance(value, tuple | list):
        return type(value)(_opened(item) for item in value) if type(value) in (tuple, list) else value
    return value


def _fields(kind: type[Value], twin: Any) -> dict[str, Any]:
    """Return the fields of a twin by name, twins inside it as the values that they stand for."""
    kinds = {twin_of(one): one for one in (kind, *_others(kind))}
    return {name: _closed(getattr(twin, name), kinds) for name in kind.LIMITS}


def _others(kind: type[Value]) -> list[type[Value]]:
    return [found for found in vars(sys.modules[kind.__module__]).values() if _is_other(found, kind)]


def _closed(value: Any, kinds: Mapping[type, type[Value]]) -> Any:
    if type(value) in kinds:
        kind = kinds[type(value)]
        return kind(**_fields(kind, value))
    if type(value) is tuple:
        return tuple(_closed(item, kinds) for item in value)
    return value
