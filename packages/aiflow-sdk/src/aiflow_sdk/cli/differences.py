"""How differences between versions of a pipeline look: a line each, what hangs on them, and queries line by line."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aiflow_sdk.cli.console import Console, pad, printable
from aiflow_sdk.difference import Difference, effect_of
from aiflow_sdk.errors import plural

_SHOWN_LINES = 40
_SIGNS = {"node-added": ("+", "green"), "node-removed": ("-", "red")}
_OTHER_SIGN = ("~", "yellow")
_HANGS = {"data": "rows", "operation": "how it runs", "description": "description"}
_COLOURS = {"data": ("bold",), "operation": (), "description": ("dim",)}
_COUNTED = {"data": "can change rows", "operation": "how it runs", "description": "what is said of it"}


def format_differences(console: Console, differences: Sequence[Difference]) -> Iterator[str]:
    """Yield the lines that show differences."""
    width = max((len(_HANGS[one.effect]) for one in differences), default=0)
    for one in differences:
        sign, colour = _SIGNS.get(one.kind, _OTHER_SIGN)
        hangs = console.style(pad(_HANGS[one.effect], width), *_COLOURS[one.effect])
        yield f"  {console.style(sign, colour)} {hangs}  {printable(one.text)}"
        if one.path == ("sql",) and isinstance(one.before, str) and isinstance(one.after, str):
            yield from _query_lines(console, one.before, one.after)


def count_differences(differences: Sequence[Difference]) -> str:
    """Return ``3 differences: 1 can change rows, 2 how it runs``."""
    counts = Counter[str](one.effect for one in differences)
    parts = [f"{counts[effect]:,} {said}" for effect, said in _COUNTED.items() if counts[effect]]
    return f"{plural(len(differences), 'difference')}: {', '.join(parts)}"


def differences_data(differences: Sequence[Difference]) -> dict[str, Any]:
    """Return differences and the gravest of what hangs on them as JSON-ready data."""
    return {"effect": effect_of(differences), "differences": [one.to_dict() for one in differences]}


def _query_lines(console: Console, before: str, after: str) -> Iterator[str]:
    old, new = before.strip().splitlines(), after.strip().splitlines()
    lines = list(difflib.unified_diff(old, new, n=1, lineterm=""))[2:]
    shown = [line for line in lines if not line.startswith("@@")]
    for line in shown[:_SHOWN_LINES]:
        colour = {"+": ("green",), "-": ("red",)}.get(line[:1], ("dim",))
        yield f"      {console.style(printable(line), *colour)}"
    if len(shown) > _SHOWN_LINES:
        yield f"      and {plural(len(shown) - _SHOWN_LINES, 'more line')}"
