"""What a user's function asks for, read from the function or from its text, and what of it nothing can give."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from aiflow_sdk.errors import AiflowError, DefinitionError, Where, did_you_mean
from aiflow_sdk.frames.kind import FrameKind, kind_of_annotation, kind_of_written
from aiflow_sdk.ir import RESERVED_NODE_IDS
from aiflow_sdk.place import relative_path

Role: TypeAlias = Literal["inputs", "params", "context", "extra", "input", "param", "default", "rest", "nothing"]
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_ALWAYS: Mapping[str, Role] = {"inputs": "inputs", "params": "params", "context": "context"}
_GIVER = {"spark": 'engine="spark"', "env": 'engine="flink"'}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function."""

    name: str
    kind: inspect._ParameterKind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    has_default: bool = False
    default: Any = None
    frame: FrameKind | None = None
    """The kind of frame that its annotation names."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's name, its parameters and its place."""

    name: str
    parameters: tuple[Parameter, ...]
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """What a parameter is given: its role, and the input's, param's or extra's name."""

    parameter: Parameter
    role: Role
    name: str = ""


def signature_of(function: Callable[..., Any], name: str | None = None) -> Signature:
    """Return the signature of a function at hand; of one that hides it, ``(*args, **kwargs)``."""
    called: str = name or getattr(function, "__qualname__", None) or type(function).__qualname__
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        found = inspect.signature(lambda *args, **kwargs: None).parameters.values()
    body = _body_of(function)
    parameters = tuple(
        Parameter(
            parameter.name,
            parameter.kind,
            parameter.default is not parameter.empty,
            parameter.default if parameter.default is not parameter.empty else None,
            kind_of_annotation(parameter.annotation, body) if parameter.annotation is not parameter.empty else None,
        )
        for parameter in found
    )
    return Signature(called, parameters, where_of(function))


def where_of(function: Callable[..., Any]) -> Where | None:
    """Return the file and line where the function is defined, or None of one that was not written in Python."""
    code = getattr(_body_of(function), "__code__", None)
    return Where(relative_path(code.co_filename), code.co_firstlineno) if code else None


def _body_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what holds the code: of a wrapper, a partial or an object that can be called what is behind it."""
    found = inspect.unwrap(function)
    while isinstance(found, functools.partial):
        found = inspect.unwrap(found.func)
    return found if hasattr(found, "__code__") else type(found).__call__


def check_signature(
    function: Callable[..., Any] | Definition | Signature,
    input_ids: Sequence[str],
    param_names: Collection[str],
    extras: Collection[str] = (),
) -> list[AiflowError]:
    """Return a ``wrong-signature`` for each argument of the function that nothing can be given for.

    ``function`` may be its syntax tree, so that nothing is imported; no decorator may hide its arguments then.
    ``extras`` are what the engine gives by name.
    """
    if isinstance(function, Definition):
        function = written_signature(function)
    elif not isinstance(function, Signature):
        function = signature_of(function)
    bindings = bind(function, input_ids, param_names, extras)
    return [
        _unmatched(function, binding.parameter, input_ids, param_names, extras)
        for binding in bindings
        if binding.role == "nothing"
    ]


def bind(
    signature: Signature, input_ids: Sequence[str], param_names: Collection[str], extras: Collection[str]
) -> list[Binding]:
    """Return what each parameter is given; ``nothing`` for one that no name answers to."""
    inputs = argument_names(input_ids)
    first, is_leading = _first_argument(signature, inputs, input_ids)
    return list(_bind(signature, inputs, input_ids, param_names, extras, first, is_leading))


def _bind(
    signature: Signature,
    inputs: Mapping[str, str],
    input_ids: Sequence[str],
    param_names: Collection[str],
    extras: Collection[str],
    first: Parameter | None,
    is_leading: bool,
) -> Iterator[Binding]:
    for parameter in signature.parameters:
        name = parameter.name
        is_single = parameter is first and (
            is_leading or parameter.frame or not (parameter.has_default or name in param_names)
        )
        if is_single and parameter.kind is not parameter.kind.VAR_KEYWORD:
            yield Binding(parameter, "input", input_ids[0])
        elif parameter.kind is parameter.kind.VAR_KEYWORD:
            yield Binding(parameter, "rest")
        elif parameter.kind is parameter.kind.VAR_POSITIONAL:
            yield Binding(parameter, "default")
        elif name in _ALWAYS:
            yield Binding(parameter, _ALWAYS[name])
        elif name in extras:
            yield Binding(parameter, "extra", name)
        elif name in inputs:
            yield Binding(parameter, "input", inputs[name])
        elif name in param_names:
            yield Binding(parameter, "param", name)
        else:
            yield Binding(parameter, "default" if parameter.has_default else "nothing")


def _first_argument(
    signature: Signature, inputs: Mapping[str, str], input_ids: Sequence[str]
) -> tuple[Parameter | None, bool]:
    """Return the parameter that a single input may go to whatever it is called, and whether it is the very first."""
    names = [parameter.name for parameter in signature.parameters]
    if len(input_ids) != 1 or "inputs" in names or any(name in inputs for name in names):
        return None, False
    for position, parameter in enumerate(signature.parameters):
        if parameter.name not in RESERVED_NODE_IDS:
            return parameter, position == 0
    return None, False


def argument_names(input_ids: Sequence[str]) -> dict[str, str]:
    """Return the names that arguments for the inputs may have → the input's id.

    The id, with ``_`` for what no Python name may hold, and its part before the first dot where no other has it.
    """
    names = {_as_name(input_id): input_id for input_id in input_ids}
    local = [_as_name(input_id.split(".", 1)[0]) for input_id in input_ids]
    for name, input_id in zip(local, input_ids, strict=True):
        if local.count(name) == 1:
            names.setdefault(name, input_id)
    return names


@lru_cache(maxsize=4096)
def _as_name(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _unmatched(
    signature: Signature,
    parameter: Parameter,
    input_ids: Sequence[str],
    param_names: Collection[str],
    extras: Collection[str],
) -> AiflowError:
    inputs = argument_names(input_ids)
    always = [*_ALWAYS, *extras]
    if parameter.name in _GIVER:
        hint: str | None = f"only {_GIVER[parameter.name]} gives '{parameter.name}'"
    else:
        hint = did_you_mean(parameter.name, [*inputs, *param_names, *always])
    return DefinitionError(
        "wrong-signature",
        f"the function '{signature.name}' asks for '{parameter.name}', and nothing is called so",
        where=Where(signature.where.path, signature.where.line) if signature.where else None,
        hint=hint or f"rename it, give it a default, or pass {parameter.name}=… to the transform",
        notes=[
            f"inputs: {', '.join(input_ids) or 'none'}",
            f"params: {', '.join(sorted(param_names)) or 'none'}",
            f"always there: {', '.join(always)}",
        ],
    )


@lru_cache(maxsize=256)
def written_signature(node: Definition, source: str | None = None) -> Signature:
    """Return the signature of a function that was only read; with its module's ``source`` the kinds of frames too."""
    kinds, written = inspect.Parameter, node.args

    def frame(annotation: ast.expr | None) -> FrameKind | None:
        return kind_of_written(annotation, source) if annotation is not None and source is not None else None

    positional = [*written.posonlyargs, *written.args]
    without_default = len(positional) - len(written.defaults)
    parameters = [
        Parameter(
            one.arg,
            kinds.POSITIONAL_ONLY if position < len(written.posonlyargs) else kinds.POSITIONAL_OR_KEYWORD,
            position >= without_default,
            frame=frame(one.annotation),
        )
        for position, one in enumerate(positional)
    ]
    if written.vararg:
        parameters.append(Parameter(written.vararg.arg, kinds.VAR_POSITIONAL))
    for one, default in zip(written.kwonlyargs, written.kw_defaults, strict=True):
        parameters.append(Parameter(one.arg, kinds.KEYWORD_ONLY, default is not None, frame=frame(one.annotation)))
    if written.kwarg:
        parameters.append(Parameter(written.kwarg.arg, kinds.VAR_KEYWORD))
    return Signature(node.name, tuple(parameters), Where(None, node.lineno))
