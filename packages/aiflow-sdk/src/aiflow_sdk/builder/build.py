"""Runs a pipeline function once, for what it declares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
)
from types import CodeType, FunctionType
from typing import Any

from aiflow_sdk.builder.draft import Draft
from aiflow_sdk.builder.guard import make
from aiflow_sdk.builder.pipeline import PipelineBuilder
from aiflow_sdk.builder.settings import settle
from aiflow_sdk.builder.wiring import one_spelling, wiring_problems
from aiflow_sdk.errors import AiflowError, DefinitionError, ProblemsError, Where
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.place import failing_line, place_of
from aiflow_sdk.variables import Variables


@dataclass(frozen=True)
class Built:
    """What a pipeline function declared, and what does not belong into the IR."""

    ir: PipelineIR
    locations: Mapping[str, Where]
    """Where each node was declared; under ``""`` the pipeline itself."""
    functions: Mapping[str, Callable[..., Any]]
    """By node id the functions that exist only in this process (entrypoint ``__here__:name``)."""


def build_pipeline(
    function: Callable[[PipelineBuilder], Any], given: Mapping[str, Any], extra: Mapping[str, Any]
) -> Built:
    """Call the pipeline function and return what it declares. Every call builds anew.

    Raises the one ``AiflowError``, or a ``ProblemsError`` with all; what the function itself raises goes through.
    """
    where = place_of(function)
    about = f"pipeline '{given['id']}'"
    fields, problems = settle(given, extra)
    draft = Draft(str(given["id"]), Variables(fields.get("params")), _roots(function))
    for problem in problems:
        with draft.noting(where):
            raise problem
    settled: PipelineIR | None = None
    with draft.noting(where):
        # The settings are looked at without the nodes too, so that a wrong node hides no wrong setting.
        settled = make(PipelineIR, fields) if not problems else None
    try:
        _check_function(function)
        function(PipelineBuilder(draft))
    except AiflowError as error:
        place = failing_line(error.__traceback__)
        for problem in getattr(error, "problems", (error,)):
            draft.problems.append(problem.at(replace(place if place.path else where, about=about)))
    except Exception as error:  # the author's; whatever it is, what was found before belongs beside it
        for problem in draft.problems:
            error.add_note(f"before that: {problem}")
        raise
    else:
        for node_id, problem in wiring_problems(draft):
            with draft.noting(draft.locations[node_id], node_id):
                raise problem
    ir = None
    if settled and not draft.problems:
        with draft.noting(where):
            ir = settled.with_nodes(one_spelling(node, settled.partition) for node in draft.nodes.values())
    if ir is None:
        raise draft.problems[0] if len(draft.problems) == 1 else ProblemsError(draft.problems)
    return Built(ir, {"": where, **draft.locations}, draft.functions)


_DEFERS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


def _check_function(function: Callable[..., Any]) -> None:
    code: CodeType | None = getattr(function, "__code__", None)
    # A plain function's code says it; inspect, which is asked of methods, partials and whatever else, looks long.
    is_plain = type(function) is FunctionType and not function.__dict__ and code and not code.co_flags & _DEFERS
    if not is_plain and (
        iscoroutinefunction(function) or isgeneratorfunction(function) or isasyncgenfunction(function)
    ):
        raise DefinitionError(
            "bad-pipeline-function",
            "a pipeline function with yield or async declares nothing when it is called",
            hint="write a plain def",
        )
    if code is not None and code.co_argcount == 0 and not code.co_flags & 0x04:
        raise DefinitionError(
            "bad-pipeline-function",
            f"{function.__name__}() takes no argument, and a pipeline function gets the builder",
            hint=f"write def {function.__name__}(p):",
        )


def _roots(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the folders of the author's modules: those around the function's own, and those of ``sys.path``."""
    code = getattr(function, "__code__", None)
    filename = code.co_filename if code is not None and not code.co_filename.startswith("<") else None
    return _roots_of(filename, function.__module__.count(".") if filename else 0, tuple(sys.path), os.getcwd())


@lru_cache(maxsize=256)
def _roots_of(filename: str | None, depth: int, path: tuple[str, ...], current: str) -> tuple[str, ...]:
    around = []
    if filename is not None:
        folder = os.path.dirname(os.path.abspath(filename))
        around = [folder]
        for _ in range(depth):
            folder = os.path.dirname(folder)
            around.append(folder)
    return tuple(dict.fromkeys([*reversed(around), *(entry or current for entry in path)]))
