"""The parameters of a request: one that its route does not have is refused, since nobody heeds it.

What narrows a list and is misspelt would otherwise give the whole list.
"""

from __future__ import annotations

from fastapi import Request

from aiflow_sdk.errors import did_you_mean
from aiflow_service.masking import hide_secrets_in_text
from aiflow_service.openlineage import Refusal

_SHOWN_CHARACTERS = 100
_TAKES_OTHERS = frozenset({"/api/v1/sign-in/return"})
"""Providers of sign-in add what they like, which is to be ignored (RFC 6749 4.1.2, RFC 9207)."""


async def refuse_unknown(request: Request) -> None:
    """Return if a request has no other parameters than the OpenAPI document says of its route.

    Raises :class:`Refusal` (``parameter-unknown``), so that an event that was sent so is kept.
    """
    if not request.scope["query_string"]:
        return
    path = request.scope["route"].path
    operation = request.app.openapi()["paths"].get(path, {}).get(request.method.lower(), {})
    known = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None and path not in _TAKES_OTHERS:
        shown = hide_secrets_in_text(unknown)[:_SHOWN_CHARACTERS]
        may = f"it has {', '.join(known)}" if known else "it has none"
        reason = f"{request.method} {path} has no parameter '{shown}': {did_you_mean(unknown, known) or may}"
        raise Refusal("parameter-unknown", reason, place=f"query/{shown}")
