"""Python text as people lay it out: a call on one line where it fits, else an argument a line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import Any, NamedTuple, TypeAlias

WIDTH = 88
"""Columns of a line, as ruff and black have it by default."""
_ENDS_IN_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"\Z')
"""Of escaped text: a last quote that no backslash escapes."""


class Group(NamedTuple):
    """Something in brackets: ``before``, the items with commas between, ``after``."""

    before: str
    items: tuple[Code, ...]
    after: str


Code: TypeAlias = str | Group


def call(name: str, *items: Code, **named: Code) -> Code:
    """Return a call, named arguments last."""
    return Group(f"{name}(", (*items, *(keyword(key, value) for key, value in named.items())), ")")


def keyword(name: str, value: Code, sign: str = "=") -> Code:
    """Return ``name=value``."""
    match value:
        case Group(before, items, after):
            return Group(f"{name}{sign}{before}", items, after)
        case _:
            return f"{name}{sign}{value}"


def is_argument(name: str) -> bool:
    """Whether an argument may be called so where a function is called."""
    return name.isidentifier() and not iskeyword(name)


def literal(value: Any) -> Code:
    """Return plain data as Python text."""
    match value:
        case str():
            return quoted(value)
        case Mapping():
            return mapping({str(key): literal(item) for key, item in value.items()})
        case list() | tuple():
            return Group("[", tuple(map(literal, value)), "]")
        case _:
            return repr(value)


def mapping(items: Mapping[str, Code]) -> Code:
    """Return a dict of these values."""
    return Group("{", tuple(keyword(quoted(key), item, ": ") for key, item in items.items()), "}")


def quoted(text: str) -> str:
    """Return text as a literal, in the quotes that need fewer backslashes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + escaped(text, quote) + quote


def escaped(text: str, quote: str) -> str:
    """Return text as it stands within these quotes; within three its lines stay lines."""
    if len(quote) == 3:
        whole = "\n".join(escaped(line, "'").replace("\\'", "'") for line in text.split("\n"))
        whole = whole.replace(quote, "\\" + "\\".join(quote))
        return whole[:-1] + '\\"' if _ENDS_IN_QUOTE.search(whole) else whole
    plain = repr(f'"{text}')[2:-1]  # a quote of the other kind makes repr choose single ones
    return plain.replace("\\'", "'").replace(quote, f"\\{quote}")


def one_line(code: Code) -> str:
    """Return the text on one line."""
    if isinstance(code, str):
        return code
    return f"{code.before}{', '.join(map(one_line, code.items))}{code.after}"


def lines(code: Code, indent: int = 0, after: str = "") -> list[str]:
    """Return the text as lines, indented."""
    space = " " * indent
    whole = one_line(code) + after
    if isinstance(code, str) and not code:
        return [""]
    if isinstance(code, str) or not code.items or ("\n" not in whole and len(space + whole) <= WIDTH):
        return [space + whole]
    inner = [line for item in code.items for line in lines(item, indent + 4, ",")]
    return [space + code.before, *inner, space + code.after + after]


def laid_out(code: Iterable[Code], indent: int = 0) -> list[str]:
    """Return several statements as lines."""
    return [line for one in code for line in lines(one, indent)]


def led(words: str, code: Code) -> Code:
    """Return the code with words before it."""
    return Group(words + code.before, code.items, code.after) if isinstance(code, Group) else words + code


def in_docstring(text: str) -> str:
    """Return text as a line of a docstring, whatever characters it holds."""
    return escaped(" ".join(text.split("\n")), '"""')


def comment(text: str) -> list[str]:
    """Return a comment, filled so that it may stand within a function."""
    plain = "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)
    return textwrap.wrap(plain, WIDTH - 12, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def indented(text: Iterable[str], indent: int) -> list[str]:
    """Return the lines further to the right; empty ones stay empty."""
    return [f"{' ' * indent}{line}" if line else "" for line in text]


def duration(seconds: float) -> Code:
    """Return a duration in the largest unit that it is whole in."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds and seconds % size == 0:
            return call("timedelta", **{unit: f"{seconds // size:g}"})
    return call("timedelta", seconds=f"{seconds:g}")
