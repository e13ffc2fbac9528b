"""What a transform was given, brought into the form of the IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiflow_sdk.builder.dataset import Dataset
from aiflow_sdk.builder.entrypoint import resolve_entrypoint
from aiflow_sdk.builder.guard import MAPPING, expect, is_airflow, plain_map, refuse_foreign
from aiflow_sdk.code import Made, Unreadable, written_defaults
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.factories import TRANSFORM_MARK, resources
from aiflow_sdk.ir import EMPTY_MAP, FrozenMap

OWN_NAMES = frozenset(
    {
        "id", "engine", "entrypoint", "fn", "resources", "retries", "retry_delay_minutes", "retry_backoff",
        "timeout_minutes", "fuse", "output_table", "output_path", "output_format", "output_schema", "external",
        "params",
    }
)  # fmt: skip
"""The keywords of a transform that are not params of its function."""

_FILE_FORMATS = ("parquet", "csv", "jsonl")


def node_fields(
    own: Mapping[str, Any],
    outputs: Mapping[str, Any],
    params: Mapping[str, Any] | None,
    more_params: Mapping[str, Any],
    roots: Sequence[str],
) -> tuple[dict[str, Any], Callable[..., Any] | None]:
    """Return the fields of the node but its id and inputs, and the function where it exists only in this process."""
    given = {name: value for name, value in own.items() if value is not None}
    fn, entrypoint, sql = given.pop("fn", None), given.pop("entrypoint", None), given.pop("sql", None)
    function = None
    if sql is None:
        named = _one_function(fn, entrypoint)
        entrypoint, function = resolve_entrypoint(named, roots)
        if isinstance(named, str):
            defaults = _read_defaults(entrypoint, roots, given)
        else:
            defaults = getattr(named, TRANSFORM_MARK, {})
        given = {**defaults, **given}
    external = expect("external", given.pop("external", False), bool, "True or False")
    needed = plain_map(expect("resources", given.pop("resources", EMPTY_MAP), MAPPING, "what resources.spark(…) gives"))
    engine = expect(
        "engine", given.pop("engine", None) or needed.get("engine") or "python", str, "text such as 'spark'"
    )
    if schema := given.pop("output_schema", None):
        schema = plain_map(expect("output_schema", schema, MAPPING, "a dict from column to type"))
    all_params = _params(params, more_params)
    if external:
        # It writes there by itself: the names are for it, and no sink of ours stands for them.
        all_params = FrozenMap({**all_params, **plain_map({k: v for k, v in outputs.items() if v is not None})})
    return {
        **_checked(given),
        "engine": engine,
        "entrypoint": entrypoint,
        "sql": sql,
        "params": all_params,
        # An engine that is named alone says nothing that `engine` does not.
        "resources": needed if needed.keys() - {"engine"} or needed.get("engine") not in (None, engine) else EMPTY_MAP,
        "output_schema": schema,
        "external": external,
    }, function


def output_fields(outputs: Mapping[str, Any], *, external: bool) -> dict[str, Any] | None:
    """Return the fields of the sink that ``output_table`` or ``output_path`` stands for, but its id and input."""
    given = {name: value for name, value in outputs.items() if value is not None}
    if not given or external:
        return None
    table, path, format = (given.get(f"output_{name}") for name in ("table", "path", "format"))
    if (table is None) == (path is None):
        raise DefinitionError(
            "bad-output",
            "output_table and output_path are both given"
            if table
            else "output_format is given without output_table or output_path",
            hint="name one place; further ones are written with p.write(dataset, sink.…)",
        )
    if path is not None and format in _FILE_FORMATS:
        options = {"kind": "files", "path": path, "format": format}
    else:
        options = {"kind": "onelake", "table": table, "path": path, "format": format}
    return {
        "type": "sink",
        "implicit": True,
        "params": plain_map({name: value for name, value in options.items() if value is not None}),
    }


def _read_defaults(entrypoint: str, roots: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``@transform(…)`` says of a function that is named by text, but for what the transform is given."""
    defaults: dict[str, Any] = {}
    for name, value in written_defaults(entrypoint, roots).items():
        if name in given:
            continue
        if isinstance(value, Unreadable):
            raise DefinitionError(
                "unreadable-transform-defaults",
                f"@transform({name}=…) of '{entrypoint}' is no literal, and the function is named by text",
                where=value.where,
                hint=f"write a literal, or {name}=… where the transform is declared, or give it the function itself",
            )
        is_made = isinstance(value, Made)
        defaults[name] = getattr(resources, value.engine)(*value.arguments, **value.named) if is_made else value
    return defaults


def _one_function(fn: Any, entrypoint: Any) -> Any:
    if fn is not None and entrypoint is not None:
        raise DefinitionError(
            "two-functions", "fn= and entrypoint= mean the same, and both are given", hint="leave one away"
        )
    if fn is None and entrypoint is None:
        raise DefinitionError(
            "no-function",
            "the transform names no function",
            hint='write fn="package.module:function", or .sql("select …")',
        )
    named = fn if fn is not None else entrypoint
    if is_airflow(named):
        refuse_foreign(named, "fn")
    return named


def _params(params: Mapping[str, Any] | None, more_params: Mapping[str, Any]) -> FrozenMap:
    stated = expect("params", params, MAPPING, "a dict") if params is not None else {}
    if twice := stated and sorted(stated.keys() & more_params.keys()):
        raise DefinitionError(
            "duplicate-param", f"the param '{twice[0]}' is given twice", hint="leave one of them away"
        )
    every = {**stated, **more_params} if stated else more_params
    for name, value in every.items():
        if isinstance(value, Dataset):
            raise DefinitionError(
                "dataset-as-param",
                f"the param '{name}' is a dataset",
                hint=f"several inputs: p.transform(first, {name}, id=…); the function gets them by id",
            )
    return plain_map(every)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    for name, kinds, wanted in (
        ("retries", int, "a whole number"),
        ("retry_delay_minutes", (int, float), "a number of minutes"),
        ("retry_backoff", (int, float), "a number"),
        ("timeout_minutes", (int, float), "a number of minutes"),
        ("fuse", bool, "True or False"),
    ):
        if name in given:
            expect(name, given[name], kinds, wanted)
    return given
