"""The functions that an ejected file may need: each a text beside this module, taken in where its name is used."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "parts"
_END = ".py.txt"
_ORDER = (
    *("run_day", "run_week", "run_month", "run_hour", "start_of", "hours_later", "hour_key", "hours", "days"),
    *("weeks", "months", "monday", "month_of", "call_context", "connection_secret", "staged", "store", "read_also"),
    *("open_table", "partitions", "present_values", "has_partitions", "typed"),
    *("find_files", "folder_values", "read_parquet_files", "read_csv_files", "read_json_files", "text_rows"),
    *("query", "sql_literal", "sql_text", "spark_literal", "spark_text", "text_of"),
    *("spark_session", "to_spark", "as_spark", "from_spark", "to_polars", "to_pandas", "to_duckdb"),
    *("replace_partition", "replace_table", "replace_found_partitions", "append_once", "upsert", "write_new"),
    *("lake_rows", "delta_type", "sql_condition", "write_files", "write_parts", "put_in_place"),
    *("write_file", "file_key"),
)
"""In which they stand: what a reader meets first comes first."""
MADE = frozenset({"store", "read_also"})
"""Those that have no text here: an environment makes them of its settings, where it needs them."""


class Part(NamedTuple):
    """One function's text."""

    imports: tuple[str, ...]
    text: str
    names: frozenset[str]
    """What it uses, parts and constants among them."""


@cache
def part(file: str) -> Part:
    """Return the part that a file of the folder holds."""
    return read_part((_FOLDER / f"{file}{_END}").read_text("utf-8"))


def read_part(text: str) -> Part:
    """Return a function's text, told apart from the imports above it."""
    tree = ast.parse(text)
    above = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    begin = above[-1].end_lineno or 0 if above else 0
    body = "\n".join(text.splitlines()[begin:]).strip("\n")
    return Part(tuple(map(ast.unparse, above)), body, names_in(body))


def names_in(text: str) -> frozenset[str]:
    """Return the names that Python text uses."""
    return frozenset(node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))


def known_parts() -> frozenset[str]:
    """Return the names of all parts, which no variable of an ejected file may have."""
    return frozenset(_ORDER)


def parts_for(names: Iterable[str], others: Mapping[str, Part]) -> list[Part]:
    """Return the parts that these names need, and those that they need in turn, in order.

    ``others`` are to be taken in place of the folder's.
    """
    needed: set[str] = set()
    known = set(_ORDER) - (MADE - others.keys())
    waiting = set(names) & known
    while waiting:
        name = waiting.pop()
        needed.add(name)
        found = others[name] if name in others else part(name)
        waiting |= (found.names & known) - needed
    return [others[name] if name in others else part(name) for name in _ORDER if name in needed]
