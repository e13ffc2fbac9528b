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


def name_inputs(query: str, input_ids: Iterable[str], view_of: Callable[[str, str], str]) -> str:
    """Return the query with each placeholder replaced by ``view_of(the name as written, the input's id)``.

    Quoted text and comments stay as they are. Raises ``UnknownNameError`` (``unknown-input``).
    """
    names = input_names(input_ids)

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in names:
            raise unknown_name("unknown-input", "input", name, names)
        return view_of(name, names[name])

    return _TOKEN.sub(replaced, query)
