"""Tables of the lake: read and written with delta-rs and polars, or read by Spark."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiflow_sdk.eject.functions import LAZY, SPARK, Frame
from aiflow_sdk.eject.layout import Code, Group, call, is_argument, keyword, literal, one_line, quoted
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.eject.values import Values
from aiflow_sdk.eject.windows import wanted_keys
from aiflow_sdk.errors import Where
from aiflow_sdk.partitions import is_window
from aiflow_sdk.plan import PlanNode


def read_table(node: PlanNode, frame: Frame, values: Values, notes: Notes, where: Where) -> list[Code]:
    """Return the lines that read a table, or the partitions that the run wants, into a variable."""
    options = node.options
    found: list[Code] = []
    if options.get("restated") == "rerun":
        found += notes.add(f"{node.id}: nothing starts a run again when this input changes afterwards")
    named: dict[str, Code] = {}
    if options.get("version") is not None:
        named["version"] = values.code(options["version"])
    if options.get("as_of") is not None:
        named["version"] = _moment(options["as_of"], values)
    opened = call("open_table", table_code(options, values), **named)
    filters = _filters(node, values, notes, where)
    if not filters and frame.kind is LAZY:
        return [*found, keyword(frame.name, Group("pl.scan_delta(", (opened,), ")"), " = ")]
    found += [keyword("table", opened, " = ")]
    for name, code, _ in filters:
        if name is not None:
            found += [keyword(name, code, " = ")]
    if frame.kind is SPARK:
        found += [
            'delta = spark.read.format("delta").option("versionAsOf", table.version())',
            f"{frame.name} = delta.load(table.table_uri)",
        ]
        found += [
            f"{frame.name} = {frame.name}.filter({frame.name}[{quoted(column)}].{is_in})"
            for column, is_in in ((column, _spark(name)) for name, _, column in filters)
        ]
        return found
    conditions = tuple(f"pl.col({quoted(column)}).{_polars(name)}" for name, _, column in filters)
    return [*found, Group(f"{frame.name} = pl.scan_delta(table).filter(", conditions, ")")]


def wait_for_table(node: PlanNode, values: Values) -> Code:
    """Return the expression that tells whether a table has the partitions that the run wants."""
    table = table_code(node.options, values)
    asked: list[Code] = [
        call("has_partitions", table, quoted(column), keys, *_needed(node, required))
        for column, raw in _partitions(node).items()
        if (wanted := wanted_keys(raw, values)) is not None
        for keys, required in [wanted]
    ]
    if len(asked) == 1:
        return asked[0]
    return Group("all([", tuple(asked), "])") if asked else "True"


def write_table(node: PlanNode, frame: Frame, values: Values, notes: Notes, where: Where) -> list[Code]:
    """Return the lines that write a frame to a table in the sink's mode."""
    options = node.options
    mode, columns = str(options["mode"]), list(options.get("partition_by") or ())
    table = table_code(options, values)
    found: list[Code] = []
    given: dict[str, Code] = {"partition_by": literal(columns), "fill": fill_code(node, values)}
    if options.get("schema_evolution") != "none":
        given["evolves"] = "True"
    if options.get("schema_evolution") == "widen":
        found += notes.add(f"{node.id}: columns are added, but a type is not widened; a wider one is an error")
    if options.get("renamed_from"):
        found += notes.add(f"{node.id}: rows that it wrote under earlier names are not known as its own, and stay")
    rows = frame.as_kind(LAZY)
    key = values.key() if values.grain else "None"
    match mode:
        case "overwrite" if node.time is not None:
            code = call("replace_partition", rows, table, quoted(node.time), key, **given)
        case "overwrite":
            code = call("replace_table", rows, table, **given)
        case "overwrite_partitions":
            code = call("replace_found_partitions", rows, table, **given)
        case "append":
            found += notes.add(
                f"{node.id}: rows that were appended for a partition are not replaced when it is made again; that is "
                "an error, unless they were deleted and the param append_again is set"
            )
            code = call("append_once", rows, table, quoted(node.id), key if values.grain else '"all"', **given)
        case "upsert":
            order = options.get("order_by")
            found += notes.add(_upsert_note(node, order))
            ordered = {"order_by": quoted(str(order))} if order is not None else {}
            code = call("upsert", rows, table, literal(list(options["keys"])), **ordered, **given)
        case "error_if_exists":
            time = quoted(node.time) if node.time is not None else "None"
            code = call("write_new", rows, table, time, key if node.time else "None", **given)
        case _:
            notes.refuse(f"the mode '{mode}' of '{node.id}' is known where the run is", where, "write the mode itself")
            return []
    return [*found, code]


def table_code(options: Mapping[str, Any], values: Values) -> str:
    """Return where a table lies below the lake's root, as ``"raw/orders"``."""
    table, path = options.get("table"), options.get("path")
    if table is None:
        plain = str(path)
        return str(values.code(plain if "{{" in plain else posixpath.normpath(plain).strip("/")))
    if "{{" not in str(table) and "://" not in str(table):
        return quoted(str(table).replace(".", "/"))
    return f'{values.code(table)}.replace(".", "/")'


def _filters(node: PlanNode, values: Values, notes: Notes, where: Where) -> list[tuple[str | None, Code, str]]:
    """Return for each partition column that is asked for: the variable, what it holds, the column.

    The variable is None where the rows without a value are wanted.
    """
    columns = {
        column: raw for column, raw in _partitions(node).items() if not (is_window(raw) and raw["$window"] == "all")
    }
    names = {column: "wanted" if len(columns) == 1 else f"wanted_{number}" for number, column in enumerate(columns, 1)}
    found: list[tuple[str | None, Code, str]] = []
    newest: list[str] = []
    for column, raw in columns.items():
        wanted = wanted_keys(raw, values)
        if wanted is not None:
            keys, required = wanted
            code: Code = call("partitions", "table", quoted(column), keys, *_needed(node, required))
            found.append((names[column], code, column))
        elif is_window(raw):
            newest.append(column)
        else:
            # Empty text is null in a table's folders.
            given = raw if isinstance(raw, tuple | list) else [raw]
            items = [None if item == "" else item for item in given]
            if items and set(items) == {None}:
                found.append((None, "", column))
                continue
            if None in items:
                notes.refuse(
                    f"'{node.id}' asks for null among other values of '{column}'", where, "read the two by two sources"
                )
            code = call("partitions", "table", quoted(column), values.code(items), "0")
            found.append((names[column], code, column))
    others = {column: name for name, _, column in found if name is not None}
    for column in newest:
        plain = all(map(is_argument, others))
        named = others if plain else {}
        if not plain:
            notes.refuse(f"'{node.id}' asks for the latest of columns that are no names", where, "rename the columns")
        present = one_line(call("present_values", "table", quoted(column), **named))
        found.append((names[column], f"{present}[-1:]", column))
    return found


def _partitions(node: PlanNode) -> Mapping[str, Any]:
    found = node.options.get("partitions")
    return found if isinstance(found, Mapping) else {}


def _needed(node: PlanNode, required: int | None) -> tuple[str, ...]:
    """Return how many of the partitions must be there, where that is not all of them."""
    match node.options.get("complete"):
        case None:
            return () if required is None else (str(required),)
        case "all":
            return ()
        case number:
            return (str(number),)


def _polars(name: str | None) -> str:
    return "is_null()" if name is None else f"is_in({name})"


def _spark(name: str | None) -> str:
    return "isNull()" if name is None else f"isin({name})"


def fill_code(node: PlanNode, values: Values) -> Code:
    """Return the key of each partition column that a sink's frame may lack."""
    items = []
    for column, raw in node.fill.items():
        wanted = wanted_keys(raw, values)
        key = wanted[0].items[0] if wanted and isinstance(wanted[0], Group) else values.code(str(raw))
        items.append(keyword(quoted(column), key, ": "))
    return Group("{", tuple(items), "}")


def _moment(raw: Any, values: Values) -> Code:
    if "{{" in str(raw):
        return values.code(raw)
    moment = datetime.fromisoformat(str(raw))
    return quoted((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat())


def _upsert_note(node: PlanNode, order: Any) -> str:
    withdrawn = str(node.options["withdrawn"])
    otherwise = "" if withdrawn == "keep" else f' (in aiflow withdrawn="{withdrawn}" decided)'
    late = "" if order is not None else ", and the run that is made last wins, not that of the later partition"
    return f"{node.id}: rows that an earlier run merged and this one no longer has stay{otherwise}{late}"
