"""Pass 2: columns of SQL nodes against the schemas of their inputs, as far as those are known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from aiflow_sdk.compiler.connector import arrow_schema
from aiflow_sdk.compiler.sql import output_columns, parse_query
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.errors import AiflowError, PluginError, UnknownNameError, Where
from aiflow_sdk.ir import NodeIR

_SEARCHED_LINES = 60


def column_problems(subject: Subject) -> Iterator[AiflowError]:
    """Yield each column that a query names and none of its inputs has. A table that is not there yet is no problem."""
    queries = [node for node in subject.ir.nodes.values() if node.sql is not None]
    known: dict[str, Mapping[str, str]] = {}
    for node in _upstream(subject, queries):
        if node.type == "source":
            try:
                columns = _source_columns(subject, node)
            except PluginError as error:
                yield error
                continue
        elif node.sql is None:
            columns = dict(node.output_schema) if node.output_schema else None
        elif all(input_id in known for input_id in node.input_ids):
            dialect = subject.registry.engines.get(node.engine or "").sql_dialect or ""
            try:
                query = parse_query(node, dialect, subject.where(node))
                names = output_columns(query, dialect, {i: known[i] for i in node.input_ids}, subject.where(node))
            except UnknownNameError as error:
                yield _pointed(subject, error)
                continue
            columns = dict.fromkeys(names, "unknown") or None
        else:
            columns = None
        if columns is not None:
            known[node.id] = columns


def _upstream(subject: Subject, queries: list[NodeIR]) -> list[NodeIR]:
    wanted: set[str] = set()
    waiting = [node.id for node in queries]
    while waiting:
        node_id = waiting.pop()
        if node_id not in wanted:
            wanted.add(node_id)
            waiting.extend(subject.ir.nodes[node_id].input_ids)
    return [node for node in subject.ir.nodes.values() if node.id in wanted]


def _source_columns(subject: Subject, node: NodeIR) -> Mapping[str, str] | None:
    schema = arrow_schema(subject, node)
    return {field.name: _sql_type(str(field.type)) for field in schema} if schema is not None else None


def _sql_type(arrow_type: str) -> str:
    # Only names are checked; the optimizer wants some type.
    return (
        "bigint"
        if arrow_type.startswith(("int", "uint"))
        else "double"
        if arrow_type.startswith(("float", "double"))
        else "varchar"
    )


def _pointed(subject: Subject, error: UnknownNameError) -> UnknownNameError:
    """Return the error with the line and column in the user's file where the name stands, if it is found there."""
    where = error.where or Where()
    match = re.search(r"column '([^']+)'", error.message)
    if not (match and where.path and where.line):
        return error
    try:
        lines = (subject.project.root / where.path).read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        return error
    for number, line in enumerate(lines[where.line - 1 : where.line - 1 + _SEARCHED_LINES], where.line):
        if found := re.search(rf"\b{re.escape(match[1])}\b", line):
            error.where = replace(where, line=number, column=found.start() + 1)
            break
    return error
