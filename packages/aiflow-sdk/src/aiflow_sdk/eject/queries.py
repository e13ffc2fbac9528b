"""A SQL node: its query as text, templates as what they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from uuid import uuid4

from aiflow_sdk.eject.functions import LAZY, SPARK, Frame
from aiflow_sdk.eject.layout import Code, Group, is_argument, keyword
from aiflow_sdk.eject.values import Values, fstring
from aiflow_sdk.frames import name_inputs
from aiflow_sdk.plan import PlanNode
from aiflow_sdk.variables import Reference, map_query

_SHORT = 60


def run_query(node: PlanNode, inputs: Mapping[str, Frame], values: Values) -> tuple[Code, Code]:
    """Return the query's text, and the call that gives its rows from a variable ``sql`` that holds it."""
    quote = '"' if _has_lines(node.sql or "") else "'"
    dialect = "spark" if node.engine == "spark" else "duckdb"
    found: list[str] = []
    mark = f"\0{uuid4().hex}"  # what a query may hold cannot be taken for it, NUL included

    def write(reference: Reference, escape: Callable[[str], str] | None) -> str:
        found.append(_in_query(values.inside(reference, quote), reference, dialect, is_quoted=escape is not None))
        return f"{mark}{len(found) - 1}\0"

    views: dict[str, Frame] = {}

    def view_of(name: str, input_id: str) -> str:
        view = f"input_{list(node.input_ids).index(input_id)}" if dialect == "spark" else name
        views[view] = inputs[input_id]
        if dialect == "duckdb":
            return f'"{view}"'
        found.append(f"'{{{view}}}'")  # PySpark's own placeholder
        return f"{mark}{len(found) - 1}\0"

    text = name_inputs(map_query(node.sql or "", dialect, write), node.input_ids, view_of)
    if dialect == "duckdb":
        given = tuple(keyword(view, frame.as_kind(LAZY)) for view, frame in views.items())
        if not all(map(is_argument, views)):
            items = tuple(keyword(f'"{view}"', frame.as_kind(LAZY), ": ") for view, frame in views.items())
            given = (Group("**{", items, "}"),)
        return _text(text, mark, found, has_lines=quote == '"'), Group("query(", ("sql", *given), ")")
    named = tuple(keyword(view, frame.as_kind(SPARK)) for view, frame in views.items())
    return _text(text, mark, found, has_lines=quote == '"', braces=bool(views)), Group(
        "spark.sql(", ("sql", *named), ")"
    )


def _in_query(inside: str, reference: Reference, dialect: str, *, is_quoted: bool) -> str:
    is_safe = not reference.name.startswith("params.") and reference.name != "run_id"
    names = ("spark_literal", "spark_text") if dialect == "spark" else ("sql_literal", "sql_text")
    if is_safe:
        return inside if is_quoted else f"'{inside}"  # see _text: quotes of the query's go around it
    plain = inside.removeprefix("text_of(").removesuffix(")")
    return f"{names[is_quoted]}({plain})"


def _text(query: str, mark: str, found: list[str], *, has_lines: bool, braces: bool = False) -> str:
    """Return the query as a literal; where ``braces`` its own are doubled once more, for PySpark."""
    pieces: list[str | tuple[str]] = []
    for number, text in enumerate(re.split(rf"{mark}(\d+)\0", query)):
        if number % 2 == 0:
            pieces.append(_own(text, braces))
            continue
        code = found[int(text)]
        if code.startswith("'{"):
            pieces.append(code[1:-1])
        elif code.startswith("'"):
            pieces += ["'", (code[1:],), "'"]
        else:
            pieces.append((code,))
    joined: list[str | tuple[str]] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece:
            joined.append(piece)
    return fstring(joined, '"""' if has_lines else '"')


def _own(text: str, braces: bool) -> str:
    return text.replace("{", "{{").replace("}", "}}") if braces else text


def _has_lines(query: str) -> bool:
    """Whether the query is better written over several lines."""
    return "\n" in query or len(query) >= _SHORT
