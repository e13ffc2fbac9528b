"""The body of a request as a value that has been checked: bounded, unpacked, and described in the OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from aiflow_service.api.invalid import why_invalid
from aiflow_service.api.problem import Problem
from aiflow_service.ingest import unpack
from aiflow_service.openlineage import Refusal

MAX_BYTES = 32 * 1024 * 1024

_T = TypeVar("_T", bound=BaseModel)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that is read by :func:`read_body`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _resolved(schema, inner)}}}}


async def read_body(request: Request, model: type[_T]) -> _T:
    """Return the body of a request, gzip or not. Raises :class:`Problem` and :class:`Refusal`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Refusal("body-too-large", f"the body has more than {MAX_BYTES} bytes", status=413)
    encoding = request.headers.get("content-encoding", "")
    return await asyncio.to_thread(_read, bytes(body), encoding, model)


def _read(body: bytes, encoding: str, model: type[_T]) -> _T:
    try:
        return model.model_validate_json(unpack(body, encoding, MAX_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(("body", *map(str, first["loc"])))
        raise Problem(422, "body-invalid", f"{place}: {why_invalid(first)}", place=place) from error


def _resolved(schema: Any, inner: dict[str, Any]) -> Any:
    """Return a schema without references: it stands in the document by itself."""
    if isinstance(schema, list):
        return [_resolved(one, inner) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if (reference := schema.get("$ref")) is not None:
        return _resolved(inner[reference.rpartition("/")[2]], inner)
    return {name: _resolved(value, inner) for name, value in schema.items()}
