"""A call of the user's function: its arguments by name, its frames as it wants them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.eject.layout import Code, Group, call, is_argument, keyword, literal, mapping, quoted
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.eject.values import Values
from aiflow_sdk.errors import Where
from aiflow_sdk.frames import FrameKind, Signature, bind, kind_of_written, written_signature
from aiflow_sdk.plan import PlanNode

LAZY, EAGER, SPARK = FrameKind.POLARS_LAZY, FrameKind.POLARS, FrameKind.SPARK


@dataclass(frozen=True)
class Frame:
    """A variable of a task, and what it holds: lazy or eager polars, or Spark."""

    name: str
    kind: FrameKind

    def as_kind(self, wanted: FrameKind) -> str:
        """Return the frame as another kind."""
        if self.kind is wanted:
            return self.name
        lazy = {LAZY: self.name, EAGER: f"{self.name}.lazy()", SPARK: f"from_spark({self.name})"}[self.kind]
        eager = self.name if self.kind is EAGER else f"{lazy}.collect()"
        match wanted:
            case FrameKind.POLARS_LAZY:
                return lazy
            case FrameKind.POLARS:
                return eager
            case FrameKind.ARROW:
                return f"{eager}.to_arrow()"
            case FrameKind.PANDAS:
                return f"to_pandas({lazy})"
            case FrameKind.DUCKDB:
                return f"to_duckdb({lazy})"
            case FrameKind.SPARK:
                return f"to_spark(spark, {lazy})"


@dataclass(frozen=True)
class Called:
    """A call, what it gives, and the lines above it."""

    code: Code
    kind: FrameKind | None
    """None: whatever frame the function likes to return."""
    above: tuple[str, ...] = ()


def read_signature(node: PlanNode, code: CodeIndex) -> tuple[Signature, FrameKind | None] | None:
    """Return a function's arguments and the frame that it says it returns; None where its text does not tell."""
    found = code.function_source(node.entrypoint or "")
    if found.path is None or found.definition is None:
        return None
    source = (code.root / found.path).read_text("utf-8")
    returns = found.definition.returns
    return written_signature(found.definition, source), kind_of_written(returns, source) if returns else None


def call_function(
    node: PlanNode,
    inputs: Mapping[str, Frame],
    code: CodeIndex,
    values: Values,
    notes: Notes,
    where: Where,
    module: str,
) -> Called:
    """Return the call of a transform's function with these inputs; ``module`` is what its module is called there."""
    function = (node.entrypoint or "").partition(":")[2]
    read = read_signature(node, code)
    if read is None:
        notes.refuse(
            f"the arguments of '{node.entrypoint}' are not told by the text of its module",
            where,
            "name a function that is defined with 'def' in the project, without a decorator that may change it",
        )
        return Called("None", None)
    signature, returns = read
    is_spark = node.engine == "spark"
    default = SPARK if is_spark else EAGER
    ids, params = list(node.input_ids), dict(node.params)
    positional: list[Code] = []
    named: list[Code] = []
    above: list[str] = []
    taken: set[str] = set()
    has_rest = False
    for one in bind(signature, ids, params, ("spark",) if is_spark else ()):
        parameter = one.parameter
        match one.role:
            case "inputs":
                wanted = parameter.frame or default
                value: Code = mapping({_local_name(key, ids): inputs[key].as_kind(wanted) for key in ids})
            case "params":
                value = values.code(params)
            case "context":
                value = _context(node, values)
                above += notes.add(
                    f"{node.id}: its function takes 'context', which here has no execution, trace_id, "
                    "idempotency_key and touches(), and whose count() writes to the log"
                )
            case "extra":
                value = "spark"
            case "input":
                value = inputs[one.name].as_kind(parameter.frame or default)
            case "param":
                taken.add(one.name)
                value = values.code(params[one.name])
            case "rest":
                has_rest = True
                continue
            case "default" | "nothing":
                continue
        by_place = parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        if by_place:
            positional.append(value)
        else:
            taken.add(parameter.name)
            named.append(keyword(parameter.name, value))
    if has_rest and (rest := {name: value for name, value in params.items() if name not in taken}):
        plain = all(map(is_argument, rest))
        named += (
            [keyword(name, values.code(value)) for name, value in rest.items()]
            if plain
            else [keyword("", values.code(rest), "**")]
        )
    return Called(Group(f"{module}.{function}(", (*positional, *named), ")"), returns, tuple(above))


def _context(node: PlanNode, values: Values) -> Code:
    if values.grain is None:
        return call("call_context", quoted(node.id), ds="None", partition="None")
    ds = "hour.date().isoformat()" if values.grain == "hour" else f"{values.grain}.isoformat()"
    return call(
        "call_context",
        quoted(node.id),
        ds=ds,
        partition=values.key(),
        data_interval_start=values.start(),
        data_interval_end=values.start(1),
    )


def _local_name(node_id: str, ids: list[str]) -> str:
    """Return how the function calls an input: in a branch by its local id, where no other has that."""
    local = node_id.split(".", 1)[0]
    return quoted(local if sum(one.split(".", 1)[0] == local for one in ids) == 1 else node_id)[1:-1]


def default_param(value: object) -> Code:
    """Return what Airflow's form has for a param, of the type that its default has."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    kind = kinds.get(type(value))
    return call("Param", literal(value), **({"type": quoted(kind)} if kind else {}))
