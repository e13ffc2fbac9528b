"""Frozen pydantic models: what the documents of plans, runs and facts are made of."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError, WithJsonSchema

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir.frozen import Keys, freeze, freeze_map, spell, spell_full, thaw

Plain: TypeAlias = Annotated[Any, BeforeValidator(freeze), PlainSerializer(thaw), WithJsonSchema({})]
PlainMap: TypeAlias = Annotated[
    Any, BeforeValidator(freeze_map), PlainSerializer(thaw), WithJsonSchema({"type": "object"})
]
"""A field that holds a :class:`FrozenMap`. Typed ``Any`` because pydantic turns any ``Mapping`` field into a dict."""


class Frozen(BaseModel):
    """A value that never changes, refuses unknown fields and hashes by its content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=(), defer_build=True
    )

    @classmethod
    def make(cls, **fields: Any) -> Self:
        """Return the value; raises the ``AiflowError`` that a check inside raised, which pydantic would wrap."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise unwrap(error) or error from error

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON-ready data, fields at their default left out."""
        return spell(self, _keys(type(self)))

    def to_full_dict(self) -> dict[str, Any]:
        """Return the value as JSON-ready data, every field spelled out."""
        return spell_full(self, _keys(type(self)))


@cache
def _keys(kind: type[Frozen]) -> Keys:
    return tuple(
        (name, field.alias or name, field.get_default(call_default_factory=True))
        for name, field in kind.model_fields.items()
    )


def json_schema(model: type[Frozen], version_field: str, version: int) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the model's documents; ``version_field`` holds their version."""
    from pydantic.json_schema import GenerateJsonSchema

    class Schema(GenerateJsonSchema):
        def encode_default(self, dft: Any) -> Any:
            return thaw(dft)

    schema = model.model_json_schema(by_alias=True, schema_generator=Schema)
    schema["properties"] = {version_field: {"const": version}, **schema["properties"]}
    schema["required"] = sorted({version_field, *schema.get("required", [])})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def unwrap(error: ValueError) -> AiflowError | None:
    """Return the first ``AiflowError`` that pydantic wrapped, because those are also ``ValueError``."""
    if not isinstance(error, ValidationError):
        return None
    for item in error.errors(include_url=False, include_input=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, AiflowError):
            return cause
    return None
