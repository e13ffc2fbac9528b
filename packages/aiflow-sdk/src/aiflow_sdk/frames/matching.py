"""Gives a user's function its arguments by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiflow_sdk.errors import did_you_mean
from aiflow_sdk.frames.kind import FrameKind
from aiflow_sdk.frames.signature import argument_names, bind, check_signature, signature_of


class Inputs(dict[str, Any]):
    """A function's ``inputs``: node id → frame. In a branch the local id (``enrich`` of ``enrich.us``) finds it too."""

    def __missing__(self, key: str) -> Any:
        found = self._id_of(key)
        if found is None:
            known = ", ".join(self) or "none"
            raise KeyError(f"no input '{key}'; {did_you_mean(str(key), self) or f'inputs: {known}'}")
        return self[found]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self._id_of(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the frame of the input, or ``default`` where there is none of that name."""
        return super().get(key if super().__contains__(key) else self._id_of(key) or key, default)

    def _id_of(self, name: object) -> str | None:
        return argument_names(list(self)).get(re.sub(r"\W", "_", name)) if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class WantedFrame:
    """An input that a function wants, and as which kind of frame; None: the engine's default."""

    input_id: str
    frame: Any
    kind: FrameKind | None


@dataclass(frozen=True)
class MatchedCall:
    """A call that is ready but for its frames: a :class:`WantedFrame` stands where each one goes."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def wanted(self) -> tuple[WantedFrame, ...]:
        """Every frame that the function wants, in the order of its arguments."""
        found: list[WantedFrame] = []
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, WantedFrame):
                found.append(value)
            elif isinstance(value, Inputs):
                found.extend(item for item in value.values() if isinstance(item, WantedFrame))
        return tuple(found)

    def arguments(self, frame_of: Callable[[WantedFrame], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments, each wanted frame replaced by what ``frame_of`` makes of it."""

        def filled(value: Any) -> Any:
            if isinstance(value, WantedFrame):
                return frame_of(value)
            if isinstance(value, Inputs):
                return Inputs({name: filled(item) for name, item in value.items()})
            return value

        return tuple(map(filled, self.args)), {name: filled(value) for name, value in self.kwargs.items()}


def match_arguments(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    params: Mapping[str, Any],
    context: Any,
    extras: Mapping[str, object] | None = None,
    *,
    name: str | None = None,
) -> MatchedCall:
    """Return the call of the function with these inputs (node id → frame) and params.

    By name: ``inputs``, ``params``, ``context`` and the engine's ``extras``; then a frame by its node id (in a branch
    by its local id); a single input as first argument whatever its name; then the node's own params. ``**kwargs`` gets
    the params that no other argument took. Raises ``DefinitionError`` (``wrong-signature``) for an argument that
    nothing answers to; ``name`` is what the function is called in it.
    """
    extras = extras or {}
    signature = signature_of(function, name)
    if problems := check_signature(signature, list(inputs), params, extras):
        raise problems[0]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    taken: set[str] = set()
    rest = False
    for binding in bind(signature, list(inputs), params, extras):
        parameter = binding.parameter
        match binding.role:
            case "inputs":
                value: Any = Inputs({key: WantedFrame(key, frame, parameter.frame) for key, frame in inputs.items()})
            case "params":
                value = dict(params)
            case "context":
                value = context
            case "extra":
                value = extras[binding.name]
            case "input":
                value = WantedFrame(binding.name, inputs[binding.name], parameter.frame)
            case "param":
                taken.add(binding.name)
                value = params[binding.name]
            case "rest":
                rest = True
                continue
            case "default" | "nothing":
                if parameter.kind is not parameter.kind.POSITIONAL_ONLY:
                    continue
                # One after it may be given, and there is no other way past it.
                value = parameter.default
        if parameter.kind in (parameter.kind.POSITIONAL_ONLY, parameter.kind.VAR_POSITIONAL):
            args.append(value)
        else:
            kwargs[parameter.name] = value
    if rest:
        kwargs.update((key, value) for key, value in params.items() if key not in taken and key not in kwargs)
    return MatchedCall(tuple(args), kwargs)
