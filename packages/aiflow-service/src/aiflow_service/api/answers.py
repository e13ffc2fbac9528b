"""Answers: JSON with an ETag, pages with the address of the next one, and the parameters that many routes share."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request
from starlette.responses import Response

from aiflow_service.api.problem import Problem
from aiflow_service.database.moments import moment_of

_ENCODER = msgspec.json.Encoder()
_GREATEST = 2**62

Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="Where to go on: `next` of the page before.")]
Moment = Annotated[
    str | None,
    Query(max_length=64, description="A time with its zone.", json_schema_extra={"format": "date-time"}),
]
Word = Annotated[str | None, Query(max_length=500)]

SAME: dict[int | str, dict[str, Any]] = {304: {"description": "The same as `If-None-Match` names: without a body."}}
"""For the description of a route with an ETag."""


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(_ENCODER.encode(value), status, media_type="application/json")


def answer_object(request: Request, value: Any) -> Response:
    """Return one object with its ETag, or 304 where the caller has it already."""
    body = _ENCODER.encode(value)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag}, media_type="application/json")


def answer_page(items: list[dict[str, Any]], place: tuple[int | str, ...] | int | None, **more: Any) -> Response:
    """Return a page; ``place`` is where the next one begins: numbers, behind which one text may stand."""
    if place is None:
        return answer({"items": items, "next": None, **more})
    parts = (place,) if isinstance(place, int) else place
    text = urlsafe_b64encode(".".join(map(str, parts)).encode()).decode().rstrip("=")
    return answer({"items": items, "next": text, **more})


def place_of(cursor: str | None, size: int) -> tuple[int, ...] | None:
    """Return the numbers that a cursor was made of. Raises :class:`Problem` for one that was not made here."""
    if cursor is None:
        return None
    try:
        numbers = tuple(int(part) for part in _text_of(cursor).split("."))
    except ValueError:
        numbers = ()
    if len(numbers) != size or not all(-_GREATEST < number < _GREATEST for number in numbers):
        raise _foreign_cursor()
    return numbers


def keyed_place_of(cursor: str | None) -> tuple[int, str] | None:
    """Return the number and the text that a cursor was made of. Raises :class:`Problem`."""
    if cursor is None:
        return None
    try:
        number, dot, text = _text_of(cursor).partition(".")
        if dot and 0 < int(number) < _GREATEST:
            return int(number), text
    except ValueError:
        pass  # it was not made here either
    raise _foreign_cursor()


def _text_of(cursor: str) -> str:
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def _foreign_cursor() -> Problem:
    return Problem(422, "cursor-invalid", "cursor: take `next` of the page before as it is", place="query/cursor")


def moment_in(text: str | None, name: str) -> int | None:
    """Return the moment of a parameter. Raises :class:`Problem` for what is none, or has no zone."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text.replace(" ", "+"))  # in an address a plus is a space
        if value.tzinfo is None:
            raise ValueError
        return moment_of(value)
    except (ValueError, OverflowError) as error:
        detail = f"{name}: write a time with its zone, as 2026-11-20T03:00:00Z"
        raise Problem(422, "parameter-invalid", detail, place=f"query/{name}") from error


def checked_text(text: str | None, name: str) -> str | None:
    """Return the text of a parameter. Raises :class:`Problem` for one that no database knows."""
    if text is not None and "\0" in text:
        raise Problem(422, "parameter-invalid", f"{name}: holds the character U+0000", place=f"query/{name}")
    return text
