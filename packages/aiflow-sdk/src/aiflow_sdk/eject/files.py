"""Files: found by their path, read with polars and Arrow, written beside what they replace."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from aiflow_sdk.eject.functions import LAZY, SPARK, Frame
from aiflow_sdk.eject.layout import Code, Group, call, keyword, literal, quoted
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.eject.onelake import fill_code
from aiflow_sdk.eject.values import Values
from aiflow_sdk.errors import Where
from aiflow_sdk.plan import PlanNode

_SUFFIXES = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".tsv"), "jsonl": (".jsonl", ".ndjson")}
_DECIMAL = re.compile(r"decimal(?:128)?\((\d+), ?(\d+)\)", re.ASCII)
_POLARS = {
    "string": "pl.String()",
    "int8": "pl.Int8()",
    "int16": "pl.Int16()",
    "int32": "pl.Int32()",
    "int64": "pl.Int64()",
    "float": "pl.Float32()",
    "double": "pl.Float64()",
    "float32": "pl.Float32()",
    "float64": "pl.Float64()",
    "bool": "pl.Boolean()",
    "date32": "pl.Date()",
}


def read_files(node: PlanNode, frame: Frame, values: Values, notes: Notes, where: Where) -> list[Code]:
    """Return the lines that read files into a variable."""
    options = node.options
    kind = _format(options, notes, node, where)
    base = "LAKE" if options.get("root") == "lake" else "PROJECT"
    suffixes = literal(_SUFFIXES[kind])
    assert isinstance(suffixes, Group)
    asked = call("find_files", base, values.code(options["path"]), Group("(", suffixes.items, ")"))
    types = _types(options.get("types") or {}, kind, notes, node, where)
    given: dict[str, Code] = {}
    if kind == "csv":
        is_tabs = str(options["path"]).lower().endswith(".tsv") and options["delimiter"] == ","
        delimiter = "\t" if is_tabs else options["delimiter"]
        given = {
            name: literal(value)
            for name, value, usual in (
                ("delimiter", delimiter, ","),
                ("header", options["header"], True),
                ("columns", list(options["columns"]), []),
                ("null_values", list(options["null_values"]), [""]),
            )
            if value != usual
        }
    reader = {"parquet": "read_parquet_files", "csv": "read_csv_files", "jsonl": "read_json_files"}[kind]
    read = call(reader, base, "files", types, **given)
    if frame.kind is SPARK:
        read = Group("to_spark(", ("spark", read), ")")
    return [keyword("files", asked, " = "), keyword(frame.name, read, " = ")]


def write_files(node: PlanNode, frame: Frame, values: Values, notes: Notes, where: Where) -> list[Code]:
    """Return the lines that write a frame as files."""
    options = node.options
    suffix = _SUFFIXES[_format(options, notes, node, where, default="parquet")][0]
    given: dict[str, Code] = {}
    if node.time is not None:
        given["time"] = Group("(", (quoted(node.time), values.key()), ")")
    if options.get("partition_by"):
        given["partition_by"] = literal(list(options["partition_by"]))
    given["fill"] = fill_code(node, values)
    return [call("write_files", frame.as_kind(LAZY), values.code(options["path"]), quoted(suffix), **given)]


def _format(options: Any, notes: Notes, node: PlanNode, where: Where, default: str | None = None) -> str:
    told = PurePosixPath(str(options["path"])).suffix.lower()
    by_name = next((kind for kind, ends in _SUFFIXES.items() if told in ends), None)
    found = options.get("format") or by_name or default
    if found is None:
        notes.refuse(f"the format of '{node.id}' is known where the run is", where, 'add format="parquet" or another')
    return str(found or "parquet")


def _types(types: Any, kind: str, notes: Notes, node: PlanNode, where: Where) -> Code:
    items: list[Code] = []
    for column, name in types.items():
        text = _polars_type(str(name)) if kind == "parquet" else _arrow_type(str(name))
        if text is None:
            notes.refuse(f"the type '{name}' of the column '{column}' in '{node.id}'", where, "cast it in a transform")
        items.append(keyword(quoted(column), text or "None", ": "))
    return Group("{", tuple(items), "}")


def _polars_type(name: str) -> str | None:
    if name.startswith("timestamp["):
        unit, _, zone = name.removeprefix("timestamp[").removesuffix("]").partition(",")
        zone = zone.strip().removeprefix("tz=")
        given = f"{quoted(unit)}, {quoted(zone)}" if zone else quoted(unit)
        return f"pl.Datetime({given})" if unit != "s" else None
    return _POLARS.get(name)


def _arrow_type(name: str) -> str | None:
    if name.startswith("timestamp["):
        unit, _, zone = name.removeprefix("timestamp[").removesuffix("]").partition(",")
        zone = zone.strip().removeprefix("tz=")
        return f"pa.timestamp({quoted(unit)}, {quoted(zone)})" if zone else f"pa.timestamp({quoted(unit)})"
    if name.startswith("decimal"):
        found = _DECIMAL.fullmatch(name)
        return f"pa.decimal128({int(found[1])}, {int(found[2])})" if found else None
    return f"pa.type_for_alias({quoted(name)})"
