"""What is recorded of an action, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from aiflow_sdk.audit import canonical_details
from aiflow_sdk.redaction import HIDDEN, REDACTOR, REFERENCE
from aiflow_service.masking import hide_secrets_in_text, is_name_of_secret

Result: TypeAlias = Literal["done", "denied", "failed"]
"""``denied``: the actor may not; ``failed``: it was tried and did not come to be."""

SERVICE = "service"
"""The actor of what the service does by itself."""
LOCAL = "local"
"""The actor of local mode, where nobody signs in: whoever is on this machine."""

_MAX_DETAILS = 16_384
_MAX_TEXT = 500


class Caller(Struct, frozen=True):
    """Who asks: known once for a request, and recorded with all that it does."""

    actor: str
    """``local``, ``service``, or as access names people and service accounts."""
    origin: str | None = None
    """The address that the request came from."""
    trace_id: str | None = None
    by: Mapping[str, Any] = {}
    """What else tells the actor from all others: the numbers of a principal and of its token."""


class Entry(Struct):
    """One action, as whoever does it tells it to :func:`~aiflow_service.audit.record`."""

    caller: Caller
    action: str
    """A noun and a verb that has happened: ``refusal.replayed``, ``token.made``."""
    object_kind: str
    object_name: str
    team_id: int | None = None
    """None: about the service itself, which only those see who see all teams."""
    team: str | None = None
    environment: str | None = None
    result: Result = "done"
    details: Mapping[str, Any] = {}
    """Facts for people and programs: texts, whole numbers, lists and maps. Secrets never: what is called like one, or
    is a value that this process has looked up, is hidden all the same."""
    moment: int | None = None
    """When it happened, in microseconds since 1970; None: now."""


def stored_details(details: Mapping[str, Any]) -> str:
    """Return details as they are stored: without secrets, and without what would be too much."""
    text = canonical_details(_clean(REDACTOR.hide_in(dict(details))))
    if len(text.encode()) <= _MAX_DETAILS:
        return text
    short = {str(name): _clean(str(value)[:200]) for name, value in list(details.items())[:20]}
    return canonical_details({**_clean(REDACTOR.hide_in(short)), "is_cut": True})


def stored_text(text: str | None) -> str | None:
    """Return a text as both databases can hold it, and not longer than is of use."""
    return None if text is None else _storable(REDACTOR.hide(text)[:_MAX_TEXT])


def _clean(value: Any) -> Any:
    match value:
        case str():
            return _storable(value)
        case Mapping():
            return {
                _storable(str(key)): HIDDEN if _is_secret(str(key), one) else _clean(one) for key, one in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_clean(one) for one in value]
        case float():
            return str(value)
        case None | bool() | int():
            return value
        case _:
            return _storable(str(value))


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and not value.startswith(REFERENCE) and is_name_of_secret(name)


def _storable(text: str) -> str:
    return hide_secrets_in_text(text).replace("\0", "�").encode("utf-8", "replace").decode()
