"""The marks by which a project's own plugins are found. Nothing is imported for them but what the author imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

PluginType = Literal["source", "sink", "engine", "cluster", "listener"]

MARK = "__aiflow_plugin__"
"""The attribute that a decorator leaves on a class or function: its (type, kind)."""


def _register(plugin_type: PluginType, kind: str) -> Callable[[Any], Any]:
    def mark(marked: Any) -> Any:
        setattr(marked, MARK, (plugin_type, kind))
        return marked

    return mark


def register_source(kind: str) -> Callable[[Any], Any]:
    """Mark a project's own :class:`Source` class, or a function that returns one, as the source ``kind``."""
    return _register("source", kind)


def register_sink(kind: str) -> Callable[[Any], Any]:
    """Mark a project's own :class:`Sink` class, or a function that returns one, as the sink ``kind``."""
    return _register("sink", kind)


def register_engine(kind: str) -> Callable[[Any], Any]:
    """Mark a project's own :class:`Engine` class, or a function that returns one, as the engine ``kind``."""
    return _register("engine", kind)
