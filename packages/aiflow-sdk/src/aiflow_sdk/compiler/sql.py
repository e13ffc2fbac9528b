"""Reads SQL nodes: their placeholders, whether they parse, and which columns they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError, DefinitionError, MissingExtraError, Where, install_hint, unknown_name
from aiflow_sdk.frames import name_inputs
from aiflow_sdk.ir import NodeIR
from aiflow_sdk.variables import map_query

if TYPE_CHECKING:
    from sqlglot.expressions import Query

_UNKNOWN = "7070070707"
"""Stands for a template while a query is read: a value where one is wanted, and a name that can be told apart."""


def parse_query(node: NodeIR, dialect: str, where: Where) -> Query:
    """Return the parsed query, each placeholder as a table called like the input's id.

    Raises ``DefinitionError`` (``bad-sql``) or ``UnknownNameError`` for a placeholder that names no input.
    """
    try:
        import sqlglot
        from sqlglot.errors import SqlglotError
    except ImportError as error:
        raise MissingExtraError(
            "missing-extra", "SQL nodes need the package sqlglot", where=where, hint=install_hint("sql")
        ) from error

    quote = "`" if dialect == "spark" else '"'
    try:
        query = map_query(node.sql or "", dialect, lambda *_: _UNKNOWN)
        text = name_inputs(query, node.input_ids, lambda _, input_id: f"{quote}{input_id}{quote}")
    except AiflowError as error:
        raise error.at(where) from None
    try:
        statements = sqlglot.parse(text, dialect=dialect)
    except SqlglotError as error:
        first = (getattr(error, "errors", None) or [{}])[0]
        raise DefinitionError(
            "bad-sql",
            f"the query does not parse: {first.get('description') or str(error).splitlines()[0]}",
            where=where,
            hint=f"look at line {first['line']} of the query, near '{first.get('highlight')}'"
            if first.get("line")
            else None,
        ) from error
    queries = [statement for statement in statements if statement is not None]
    if len(queries) != 1 or not isinstance(queries[0], sqlglot.exp.Query):
        raise DefinitionError(
            "bad-sql",
            "a SQL node is one query that gives rows",
            where=where,
            hint="write one SELECT; sinks do the writing",
        )
    return queries[0]


def output_columns(query: Query, dialect: str, schemas: Mapping[str, Mapping[str, str]], where: Where) -> list[str]:
    """Return the query's column names. Raises ``UnknownNameError`` (``unknown-column``) for one that no input has."""
    from sqlglot import exp
    from sqlglot.errors import OptimizeError, SqlglotError
    from sqlglot.optimizer.qualify import qualify

    schema: dict[str, Any] = {name: dict(columns) for name, columns in schemas.items()}
    try:
        qualified = qualify(query.copy(), dialect=dialect, schema=schema, quote_identifiers=False)
    except (OptimizeError, SqlglotError) as error:
        for column in query.find_all(exp.Column):
            known = {name for columns in schemas.values() for name in columns} | _aliases(query)
            if _UNKNOWN in column.name:
                continue
            if column.name and column.name.lower() not in {name.lower() for name in known}:
                owner = f"source '{next(iter(schemas))}'" if len(schemas) == 1 else "no input"
                message = (
                    f"{owner} has no column '{column.name}'"
                    if len(schemas) == 1
                    else f"no input has a column '{column.name}'"
                )
                found = unknown_name("unknown-column", "column", column.name, known, where=where)
                found.message = message
                found.args = (message,)
                found.notes = tuple(f"{name} has: {', '.join(columns)}" for name, columns in schemas.items())
                raise found from error
        return []
    names = list(getattr(qualified, "named_selects", []))
    return [] if any(_UNKNOWN in name for name in names) else names


def _aliases(query: Query) -> set[str]:
    from sqlglot import exp

    return {alias.alias for alias in query.find_all(exp.Alias)} | {
        column.name for alias in query.find_all(exp.TableAlias) for column in alias.columns
    }
