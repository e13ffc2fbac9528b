"""Templates in SQL: what a run says becomes a literal by the dialect's rule, never a piece of the query."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.variables.rendering import render
from aiflow_sdk.variables.template import Reference, parse_reference

_BACKSLASH_DIALECTS = frozenset({"spark", "spark2", "databricks", "hive"})
"""Where ``\\`` escapes within quotes, ``"`` quotes text too, and ``''`` is no quote within quotes."""

_TEMPLATE = r"(?P<template>\{\{.*?\}\})"
_OUTSIDE = re.compile(
    rf"""{_TEMPLATE} | --[^\n]* | (?P<comment>/\*) | (?P<dollar>\$\w*\$)
    | (?P<prefix>(?<!\w)[eErR])?(?P<quote>['"`])""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_ESCAPED = re.compile(r"""['"`\\{}]""")

Write = Callable[[Reference, Callable[[str], str] | None], str]
"""Gives the text for a template: of one within quotes the second argument escapes it, of one outside it is None."""


def render_query(query: str, facts: Mapping[str, Any], dialect: str | None) -> str:
    """Return the query with every template replaced; ``dialect`` as sqlglot calls it.

    Within quotes it is the value's text, its own quotes escaped; anywhere else a whole literal: text quoted, numbers
    plain. In comments it stays. Raises ``DefinitionError`` (``bad-sql``) where no literal can stand, and whatever
    :func:`render` raises.
    """

    def write(reference: Reference, escape: Callable[[str], str] | None) -> str:
        value = render(str(reference), facts)
        if escape is None:
            return _literal(reference, value, dialect)
        return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))

    return map_query(query, dialect, write)


def map_query(query: str, dialect: str | None, write: Write) -> str:
    """Return the query with each template replaced by what ``write`` gives; those in comments stay."""
    return "".join(_pieces(query, dialect, write))


def _pieces(query: str, dialect: str | None, write: Write) -> Iterator[str]:
    place = 0
    while found := _OUTSIDE.search(query, place):
        yield query[place : found.start()]
        place = found.end()
        if found["template"]:
            reference = parse_reference(found["template"][2:-2])
            if re.search(r"[\w.]$", query[: found.start()]) or re.match(r"[\w.]", query[place:]):
                raise DefinitionError(
                    "bad-sql",
                    f"{reference} is part of a name in the query, and stands for a value",
                    hint="compare a column with it, or quote the whole name",
                )
            yield write(reference, None)
        elif found["comment"]:
            end = _comment_end(query, place)
            yield query[found.start() : end]
            place = end
        elif found["dollar"] and dialect not in _BACKSLASH_DIALECTS:
            end = query.find(found["dollar"], place)
            end = len(query) if end < 0 else end + len(found["dollar"])
            if "{{" in query[place:end]:
                raise DefinitionError(
                    "bad-sql",
                    f"a template stands within {found['dollar']}, where nothing can be escaped",
                    hint="write it within ordinary quotes",
                )
            yield query[found.start() : end]
            place = end
        elif found["quote"]:
            yield found[0]
            quoted = _quoted(query, place, found["quote"], (found["prefix"] or "").lower(), dialect, write)
            place = yield from quoted
        else:
            yield found[0]
    yield query[place:]


def _quoted(
    query: str, place: int, quote: str, prefix: str, dialect: str | None, write: Write
) -> Generator[str, None, int]:
    """Yield the pieces of what stands within quotes, closing one included; return the place after it."""
    like_spark = dialect in _BACKSLASH_DIALECTS
    is_text = quote == "'" or (quote == '"' and like_spark)
    has_backslash = is_text and ((like_spark and prefix != "r") or prefix == "e")
    # In Spark two quotes end one text and begin the next.
    whole = [_TEMPLATE, *([r"\\."] if has_backslash else []), *([] if like_spark and is_text else [quote + quote])]
    step = re.compile("|".join([*whole, f"(?P<end>{quote})"]), re.DOTALL)

    def escape(text: str) -> str:
        if "\0" in text:
            raise DefinitionError("bad-sql", "the value of a param holds a zero byte, which no query can hold")
        if not is_text or not (has_backslash or like_spark):
            return text.replace(quote, quote + quote)
        if has_backslash:
            return _escaped(text) if like_spark else re.sub(r"['\\]", r"\\\g<0>", text)
        if quote in text:
            raise DefinitionError(
                "bad-sql", f"a value with {quote} cannot stand in raw text", hint=f"leave the '{prefix}' before it out"
            )
        return text

    while found := step.search(query, place):
        yield query[place : found.start()]
        yield write(parse_reference(found["template"][2:-2]), escape) if found["template"] else found[0]
        place = found.end()
        if found["end"]:
            return place
    yield query[place:]
    return len(query)


def _comment_end(query: str, place: int) -> int:
    depth = 1
    for found in _COMMENT.finditer(query, place):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return len(query)


def _escaped(text: str) -> str:
    """Return the text for a dialect with backslashes; braces and quotes written so confuse no later reader either."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _literal(reference: Reference, value: Any, dialect: str | None) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"({value!r})" if value < 0 else repr(value)  # "-" and "-5" would begin a comment
        case str():
            if "\0" in value:
                raise DefinitionError("bad-sql", f"the value of {reference} holds a zero byte")
            inside = _escaped(value) if dialect in _BACKSLASH_DIALECTS else value.replace("'", "''")
            return f"'{inside}'"
        case list() | tuple():
            items = ", ".join(_literal(reference, item, dialect) for item in value)
            return f"array({items})" if dialect in _BACKSLASH_DIALECTS else f"[{items}]"
        case _:
            raise DefinitionError(
                "bad-sql",
                f"the value of {reference} is a {type(value).__name__}, of which SQL has no literal",
                hint="name one of its entries, as in {{ params.name.entry }}",
            )
