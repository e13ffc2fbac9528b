"""Where each column of a query comes from, by reading the query; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_sdk.frames import name_inputs
from aiflow_sdk.lineage.origins import NOTHING, UNKNOWN, How, Origin, Origins, after, through
from aiflow_sdk.variables import map_query

if TYPE_CHECKING:
    from sqlglot.expressions import Expr
    from sqlglot.optimizer.scope import Scope

_LONGEST_QUERY = 100_000
"""Characters; what is longer was written by a program and would take seconds to read."""
_MOST_PARTS = 10_000
_DEEPEST = 250
"""What is larger, or nested deeper, takes minutes to follow, and no person wrote it."""
_BACKTICKS = frozenset({"spark", "databricks", "hive", "bigquery", "mysql"})


class QueryColumns(NamedTuple):
    """What a query makes of the columns of its inputs."""

    columns: tuple[Origins, ...] = ()
    """Of each column of the result, in order: (input's id, column, how); under ``UNKNOWN`` what cannot be followed."""
    rows: Origins = NOTHING
    """What decides which rows there are, and in what order."""
    note: str | None = None
    """Why not all of it is known; where nothing is, ``columns`` is empty."""


@lru_cache(maxsize=256)
def read_query(query: str, dialect: str, inputs: tuple[tuple[str, tuple[str, ...]], ...]) -> QueryColumns:
    """Return where the columns of a query come from; ``inputs``: id and column names of each. Nothing is raised.

    A template in the query stands for a value, which changes no lineage. The same query of the same inputs is read once
    in a process.
    """
    if len(query) > _LONGEST_QUERY:
        return QueryColumns(note=f"the query has {len(query):,} characters, more than {_LONGEST_QUERY:,}")
    try:
        return _read(query, dialect, dict(inputs))
    except ImportError:
        return QueryColumns(note="the package sqlglot, which reads queries, is not installed here")
    except Exception as error:  # noqa: BLE001 no query may fail a run that has done all its work
        return QueryColumns(note=f"the query cannot be analysed: {type(error).__name__}: {str(error).strip()[:200]}")


def _read(query: str, dialect: str, inputs: Mapping[str, tuple[str, ...]]) -> QueryColumns:
    import sqlglot
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    quote = "`" if dialect in _BACKTICKS else '"'
    tables: dict[str, str] = {}

    def view_of(name: str, input_id: str) -> str:
        tables[name.lower()] = input_id
        return f"{quote}{name}{quote}"

    text = name_inputs(map_query(query, dialect, lambda *_: "0"), inputs, view_of)
    parsed = sqlglot.parse_one(text, dialect=dialect)
    if not isinstance(parsed, sqlglot.exp.Query):
        return QueryColumns(note=f"the query is a {type(parsed).__name__.lower()}, of which the columns are not known")
    if _is_too_large(parsed):
        return QueryColumns(note=f"the query has over {_MOST_PARTS:,} parts, or nests them over {_DEEPEST} deep")
    schema: dict[str, object] = {
        table: dict.fromkeys(map(str.lower, inputs[input_id]), "unknown") for table, input_id in tables.items()
    }
    qualified = qualify(parsed, dialect=dialect, schema=schema, quote_identifiers=False, validate_qualify_columns=False)
    scope = build_scope(qualified)
    if scope is None:
        return QueryColumns(note="the query has no select that can be followed")
    columns_by_input = {name: {one.lower(): one for one in columns} for name, columns in inputs.items()}
    reader = _Reader(scope, tables, columns_by_input)
    columns = tuple(frozenset(one) for one in reader.outputs(scope))
    rows = frozenset(reader.rows(scope))
    note = f"not known is where these come from: {', '.join(sorted(reader.unknown))}" if reader.unknown else None
    return QueryColumns(columns, rows, note)


def _is_too_large(query: Expr) -> bool:
    parts, level = 0, [query]
    for _ in range(_DEEPEST):
        parts += len(level)
        level = [inner for part in level for inner in part.iter_expressions()]
        if not level or parts > _MOST_PARTS:
            break
    return bool(level)


class _Reader:
    """Follows columns through the scopes of one query."""

    def __init__(self, root: Scope, tables: Mapping[str, str], inputs: Mapping[str, Mapping[str, str]]) -> None:
        """``tables``: table in the query, lower case → input's id; ``inputs``: id → column, lower case → its name."""
        self._tables, self._inputs = tables, inputs
        scopes = list(root.traverse())
        self._scopes = {id(scope) for scope in scopes}
        self._by_expression = {id(scope.expression): scope for scope in scopes}
        # What a recursive query reads of itself is, to sqlglot, its first part, which it leaves aside.
        self._recursive = {
            id(scope.set_operation_scopes[0].expression): scope for scope in scopes if scope.set_operation_scopes
        }
        self._outputs: dict[int, list[set[Origin]]] = {}
        self._rows: dict[int, set[Origin]] = {}
        self._open: set[int] = set()
        self._met_itself: set[int] = set()
        self.unknown: set[str] = set()

    def outputs(self, scope: Scope) -> list[set[Origin]]:
        """Return the origins of each column that a scope gives, in order."""
        key = id(scope)
        if key in self._outputs:
            if key in self._open:
                self._met_itself.add(key)
            return self._outputs[key]
        self._open.add(key)
        self._outputs[key] = []
        if scope.set_operation_scopes:
            self._outputs[key] = self._of_set(scope, key)
        else:
            self._outputs[key] = [self._selected(one, scope) for one in getattr(scope.expression, "selects", [])]
        self._open.discard(key)
        return self._outputs[key]

    def _selected(self, column: Any, scope: Scope) -> set[Origin]:
        from sqlglot import exp

        # A star that stays, or DuckDB's columns('…'), stands for columns that nobody here can count.
        if column.is_star or column.find(exp.Columns):
            return self._not_known(column.sql())
        return self._of(column, scope, "IDENTITY")

    def _of_set(self, scope: Scope, key: int) -> list[set[Origin]]:
        from sqlglot import exp

        left, right = scope.set_operation_scopes
        first = self.outputs(left)
        if isinstance(scope.expression, exp.Except | exp.Intersect):
            return first
        made = [set(one) for one in first]
        while True:
            # A recursive query reads what it has made so far.
            self._outputs[key] = made
            before = [set(one) for one in made]
            others = self.outputs(right)
            if scope.expression.args.get("by_name"):
                second = dict(zip(_names(right), others, strict=False))
                made = [one | second.pop(name, set()) for one, name in zip(made, _names(left), strict=True)]
                made += second.values()
                return made
            made = [one | other for one, other in zip_longest(made, others, fillvalue=set[Origin]())]
            if key not in self._met_itself or made == before:
                return made
            self._forget(right)

    def _forget(self, scope: Scope) -> None:
        for one in scope.traverse():
            self._outputs.pop(id(one), None)

    def rows(self, scope: Scope) -> set[Origin]:
        """Return what decides which rows a scope gives."""
        from sqlglot import exp

        key = id(scope)
        if key in self._rows:
            return self._rows[key]
        found: set[Origin] = set()
        self._rows[key] = found
        expression = scope.expression
        if scope.set_operation_scopes:
            for one in scope.set_operation_scopes:
                found |= self.rows(one)
            if isinstance(expression, exp.Except | exp.Intersect):
                found |= self._all_outputs(scope.set_operation_scopes, "FILTER")
            elif expression.args.get("distinct"):
                found |= self._all_outputs(scope.set_operation_scopes, "GROUP_BY")
        elif isinstance(expression, exp.Select):
            parts: list[tuple[str, How]] = [("where", "FILTER"), ("having", "FILTER"), ("qualify", "FILTER")]
            for name, how in [*parts, ("group", "GROUP_BY")]:
                found |= self._of(expression.args.get(name), scope, how)
            if (group := expression.args.get("group")) and group.args.get("all"):
                selects = [one for one in expression.selects if not one.find(exp.AggFunc)]
                found |= self._of(selects, scope, "GROUP_BY")
            for join in expression.args.get("joins") or ():
                found |= self._of(join.args.get("on"), scope, "JOIN")
            if distinct := expression.args.get("distinct"):
                chosen = distinct.args.get("on")
                found |= self._of(chosen, scope, "GROUP_BY") if chosen else self._all_outputs([scope], "GROUP_BY")
            for _, source in scope.selected_sources.values():
                if not isinstance(source, exp.Table):
                    found |= self.rows(self._followed(source))
        found |= self._of(expression.args.get("order"), scope, "SORT")
        return found

    def _all_outputs(self, scopes: Iterable[Scope], how: How) -> set[Origin]:
        return {one for scope in scopes for column in self.outputs(scope) for one in through(how, column)}

    def _of(self, node: Any, scope: Scope, how: How, names: frozenset[str] = frozenset()) -> set[Origin]:
        """Return the origins of an expression; ``how`` is what is done to it, ``names`` are a lambda's own."""
        from sqlglot import exp

        found: set[Origin] = set()
        for part, part_how, part_names in self._parts(node, how, names):
            if isinstance(part, exp.Column):
                if not (not part.table and part.name.lower() in part_names):
                    found |= through(part_how, self._column(part, scope))
            elif isinstance(part, exp.Query) and not isinstance(part, exp.Subquery):
                found |= self._nested(part, scope, part_how)
            else:
                found |= self._of(part, scope, part_how, part_names)
        return found

    def _parts(self, node: Any, how: How, names: frozenset[str]) -> Iterator[tuple[Any, How, frozenset[str]]]:
        """Yield what an expression is made of, with what it does to each."""
        from sqlglot import exp

        def changed(by: How) -> How:
            return next(iter(through(how, [("", "", by)])))[2]

        match node:
            case None:
                return
            case exp.Column() | exp.Query() if not isinstance(node, exp.Subquery):
                yield node, how, names
            case exp.Alias() | exp.Paren() | exp.Subquery():
                yield node.this, how, names
            case exp.Case() | exp.If():
                yield node.this, changed("CONDITIONAL"), names
                for one in node.args.get("ifs") or ():
                    yield one, how, names
                for name in ("true", "false", "default"):
                    yield node.args.get(name), changed("TRANSFORMATION"), names
            case exp.Window():
                yield node.this, how, names
                for name in ("partition_by", "order", "spec"):
                    for one in _listed(node.args.get(name)):
                        yield one, changed("WINDOW"), names
            case exp.Filter():
                yield node.this, how, names
                yield node.expression, changed("CONDITIONAL"), names
            case exp.WithinGroup():
                yield node.this, how, names
                yield node.expression, changed("AGGREGATION"), names
            case exp.Order() if how in ("AGGREGATION", "TRANSFORMATION") and not isinstance(
                node.parent, exp.WithinGroup
            ):
                for one in node.expressions:
                    yield one, changed("SORT"), names
                yield node.this, how, names
            case exp.Lambda():
                own = frozenset(one.name.lower() for one in node.expressions)
                yield node.this, changed("TRANSFORMATION"), names | own
            case exp.Expression():
                kept = isinstance(node, exp.Lag | exp.Lead | exp.FirstValue | exp.LastValue | exp.NthValue)
                by: How = "AGGREGATION" if isinstance(node, exp.AggFunc) and not kept else "TRANSFORMATION"
                for one in node.args.values():
                    for part in _listed(one):
                        if isinstance(part, exp.Expression):
                            yield part, changed(by), names
            case _:
                for part in _listed(node):
                    if isinstance(part, exp.Expression):
                        yield part, how, names

    def _nested(self, query: Any, scope: Scope, how: How) -> set[Origin]:
        """Return the origins of a query within an expression: its columns, and what decides its rows."""
        from sqlglot import exp

        inner = self._by_expression.get(id(query))
        if inner is None:
            return self._not_known("a query within the query")
        found = set(self.rows(inner))
        if not isinstance(query.parent, exp.Exists):
            found |= self._all_outputs([inner], after(how, "TRANSFORMATION"))
        return found

    def _column(self, column: Any, scope: Scope) -> set[Origin]:
        """Return the origins of a column that stands in a scope."""
        name = column.name.lower()
        within: Scope | None = scope
        while within is not None:
            if (source := within.sources.get(column.table)) is not None:
                return self._from(source, name, within)
            within = within.parent
        if not column.table and id(scope) not in self._open:
            # What sorts may name a column of the result.
            for place, one in enumerate(_names(scope)):
                if one.lower() == name:
                    return set(self.outputs(scope)[place])
        return self._not_known(column.sql())

    def _from(self, source: Any, name: str, scope: Scope) -> set[Origin]:
        from sqlglot import exp

        if isinstance(source, exp.Table):
            if isinstance(source.this, exp.Func):
                return self._of(source.this, scope, "TRANSFORMATION")
            input_id = self._tables.get(source.name.lower())
            known = self._inputs.get(input_id or "", {})
            if input_id is not None and name in known:
                return {(input_id, known[name], "IDENTITY")}
            return self._not_known(f"{source.name}.{name}")
        source = self._followed(source)
        if source.is_udtf:
            return self._of(source.expression, scope, "TRANSFORMATION")
        outputs = self.outputs(source)
        for place, one in enumerate(_names(source)):
            if one.lower() == name and place < len(outputs):
                return set(outputs[place])
        return set() if id(source) in self._open else self._not_known(name)

    def _followed(self, source: Scope) -> Scope:
        """Return the scope that gives the rows of a source."""
        from sqlglot import exp

        if id(source) not in self._scopes:
            return self._recursive.get(id(source.expression), source)
        query = source.expression.this.unnest() if isinstance(source.expression, exp.Lateral) else None
        return self._by_expression.get(id(query), source)

    def _not_known(self, what: str) -> set[Origin]:
        self.unknown.add(what)
        return {(UNKNOWN, what, "IDENTITY")}


def _names(scope: Scope) -> list[str]:
    return list(getattr(scope.expression, "named_selects", ()))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value is not None else []
