"""Values that hold templates or secrets: their one form, and what they refer to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import NoneType
from typing import Any

from aiflow_sdk.config import SCHEME
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.partitions import Window
from aiflow_sdk.variables.template import has_template, references, replace_templates
from aiflow_sdk.variables.variable import Variable

_SECRET = re.compile(rf"{SCHEME}([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)")


_PLAIN = frozenset({int, float, bool, NoneType})


def canonicalise(value: Any) -> Any:
    """Return ``value`` as plain data in which every template has its one spelling; doing it again changes nothing.

    Text, lists, tuples and mappings are gone through; variables become text, paths too, windows their JSON form; other
    values stay as they are. Raises ``DefinitionError``: ``bad-template``, ``bad-secret``; ``UnknownNameError``:
    ``unknown-variable``.
    """
    return map_texts(value, _canonical_text)


def names_in(value: Any) -> set[str]:
    """Return the canonical names of the variables that ``value`` refers to: ``ds``, ``params.region``, …"""
    return {name for text in texts_in(value) if has_template(text) for name in _names_of(text)}


def secrets_in(value: Any) -> set[str]:
    """Return the names of the secrets that ``value`` refers to."""
    return {name for text in texts_in(value) if (name := secret_name(text)) is not None}


def has_secret(text: str) -> bool:
    """Tell whether the text is a reference to a secret, ``secret://name``."""
    return text.startswith(SCHEME) and _SECRET.fullmatch(text) is not None


def secret_name(text: str) -> str | None:
    """Return the name that ``secret://name`` refers to, None of any other text.

    Raises ``DefinitionError`` (``bad-secret``) where the reference is only a part of the text, or its name is none:
    letters, digits, ``_ . -``, and ``/`` between them.
    """
    if SCHEME not in text:
        return None
    found = _SECRET.fullmatch(text)
    if not found:
        raise DefinitionError(
            "bad-secret",
            f"{text.split(SCHEME)[0]!r}… holds a secret reference among other text"
            if not text.startswith(SCHEME)
            else f"{text!r} is not a secret reference",
            hint="the whole value is the reference, 'secret://name', of letters, digits, '_', '.', '-' and '/'",
        )
    return found[1]


@lru_cache(maxsize=4096)
def _names_of(text: str) -> tuple[str, ...]:
    return tuple(reference.name for reference in references(text))


@lru_cache(maxsize=4096)
def _canonical_text(text: str) -> str:
    secret_name(text)
    return replace_templates(text, str)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return ``value`` as plain data, with ``change`` done to each text in it that may hold a template or a secret."""
    kind = type(value)
    if kind is str:
        return change(value) if "{" in value or "}" in value or SCHEME in value else value
    if kind in _PLAIN:
        return value
    match value:
        case str():
            return change(value) if "{" in value or "}" in value or SCHEME in value else value
        case list() | tuple():
            return [map_texts(item, change) for item in value]
        case dict() | Mapping():  # before what only an abstract class tells, which is slow to ask
            return {_checked_key(key): map_texts(item, change) for key, item in value.items()}
        case Window():
            return value.to_json()
        case os.PathLike():  # a variable is one too
            return change(os.fspath(value))
        case _:
            return value


def _checked_key(key: Any) -> Any:
    if isinstance(key, Variable) or (isinstance(key, str) and has_template(key)):
        raise DefinitionError(
            "bad-template", f"the key '{key}' holds a template", hint="templates stand in values only"
        )
    return key


def texts_in(value: Any) -> list[str]:
    """Return each text in plain data, in no order, keys left out."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif type(item) in _PLAIN:
            continue
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, os.PathLike):
            found.append(os.fspath(item))
    return found
