"""The placeholders of a SQL node: ``{orders}`` stands for an input, never for text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from aiflow_sdk.errors import unknown_name

_TOKEN = re.compile(
    r"""
      '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*.*?\*/      # what SQL takes as it stands
    | (?<!\{)\{\s*(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*\}(?!\})
    """,
    re.VERBOSE | re.DOTALL,
)


def input_names(input_ids: Iterable[str]) -> dict[str, str]:
    """Return every name that a query may use → the input's id: the id, and its local part where that is plain."""
    ids = list(input_ids)
    names = {input_id: input_id for input_id in ids}
    local = [input_id.split(".", 1)[0] for input_id in ids]
    for name, input_id in zip(local, ids, strict=True):
        if local.count(name) == 1:
            names.setdefault(name, input_id)
    return names


def names_of(query: str) -> list[str]:
    """Return the names in braces, ``{orders}``, in order, each once; those in quoted text and comments are none."""
    return list(dict.fromkeys(match["name"] for match in _TOKEN.finditer(query) if match["name"]))


def replace_names(query: str, replacement: Callable[[str], str]) -> str:
    """Return the query with each placeholder replaced; quoted text and comments stay as they are."""
    return _TOKEN.sub(lambda match: replacement(match["name"]) if match["name"] else match[0], query)


def name_inputs(query: str, input_ids: Iterable[str], view_of: Callable[[str, str], str]) -> str:
    """Return the query with each placeholder replaced by ``view_of(the name as written, the input's id)``.

    Quoted text and comments stay as they are. Raises ``UnknownNameError`` (``unknown-input``).
    """
    names = input_names(input_ids)

    def replaced(name: str) -> str:
        if name not in names:
            raise unknown_name("unknown-input", "input", name, names)
        return view_of(name, names[name])

    return replace_names(query, replaced)
