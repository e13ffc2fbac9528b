"""How much an event may hold. What is beyond is refused with the number that it would have to keep to."""

from __future__ import annotations

from typing import Any

from aiflow_service.openlineage.refusal import Refusal

MAX_EVENT_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of a request, once it is decompressed."""
MAX_BATCH_EVENTS = 10_000
MAX_DEPTH = 60
"""Of objects and lists in each other."""
MAX_MEMBERS = 10_000
"""Of one object: as many as a dataset may have columns."""
MAX_NAME_BYTES = 2_000
"""Of a name of a job, dataset or column; PostgreSQL's index entries end at 2,704."""
MAX_DATASETS = 2_000
"""Inputs and outputs of one event."""
MAX_FIELDS = 10_000
"""Columns of one dataset."""
MAX_COLUMN_SOURCES = 50_000
"""Pairs of columns in one event."""


_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))


def check_shape(document: Any, raw: bytes, most: int = MAX_DEPTH) -> None:
    """Raise ``Refusal`` for a document whose objects and lists are nested deeper than that, or one of whose objects
    has more than :data:`MAX_MEMBERS` members; ``raw`` is its text."""
    if raw.count(b":") > MAX_MEMBERS:
        _check_members(document)
    # Nearly always it is enough to look at the brackets alone; those within texts only make it seem deeper.
    brackets = raw.translate(None, _NO_BRACKETS)
    for _ in range(most):
        if not brackets:
            return
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    level = [document]
    for _ in range(most):
        inner: list[Any] = []
        for node in level:
            for child in node.values() if type(node) is dict else node:
                kind = type(child)
                if kind is dict or kind is list:
                    inner.append(child)
        if not inner:
            return
        level = inner
    raise Refusal("event-nested", f"objects and lists are nested deeper than {most}", status=422)


def _check_members(document: Any) -> None:
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if type(node) is dict and len(node) > MAX_MEMBERS:
            raise Refusal("event-too-many-fields", f"an object has more than {MAX_MEMBERS} members", status=422)
        inner = node.values() if type(node) is dict else node
        waiting += [child for child in inner if type(child) is dict or type(child) is list]


def check_name(text: str, place: str | None = None) -> str:
    """Return a name, or raise ``Refusal`` for one that no database can hold."""
    if len(text) * 4 > MAX_NAME_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise Refusal("name-too-long", f"a name may have {MAX_NAME_BYTES} bytes", place=place)
    if "\0" in text:
        raise Refusal("name-with-nul", "a name holds the character U+0000", place=place)
    if not text:
        raise Refusal("name-empty", "a name is empty", place=place)
    return text
