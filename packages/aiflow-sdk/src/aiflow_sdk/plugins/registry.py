"""Finds plugins by kind: those that packages install and those that a project marks."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import new_class
from typing import Any, Generic, Literal, TypeVar, cast

from aiflow_sdk.errors import AiflowError, PluginError, UnknownNameError, Where, unknown_name
from aiflow_sdk.plugins.connector import Sink, Source
from aiflow_sdk.plugins.execution import Cluster, Engine, Listener
from aiflow_sdk.plugins.options import Plugin

PluginType = Literal["source", "sink", "engine", "cluster", "listener"]
P = TypeVar("P", bound=Plugin)

_TO_COME: Mapping[str, frozenset[str]] = {
    "source": frozenset({"jdbc", "onestream", "rest", "snowflake"}),
    "sink": frozenset({"feature_store", "jdbc", "onestream"}),
    "engine": frozenset({"flink"}),
    "cluster": frozenset({"emr", "emr-serverless", "flink", "kubernetes", "spark"}),
}
"""Kinds that the language names already and a later version brings; an installed plugin may be first."""

MARK = "__aiflow_plugin__"
"""The attribute that a decorator leaves on a class or function: its (type, kind)."""


@dataclass
class Family(Generic[P]):
    """The plugins of one type, by kind. A class is imported when it is first asked for."""

    plugin_type: PluginType
    base: type[P]
    references: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """kind → [(``module:object``, who provides it)]; more than one is a conflict, said when the kind is used."""
    _loaded: dict[str, type[P]] = field(default_factory=dict, repr=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """All known kinds, sorted."""
        return tuple(sorted(self.references))

    def reference(self, kind: str, *, where: Where | None = None) -> str:
        """Return the kind's ``module:object``. Raises ``UnknownNameError`` or, where two claim it, ``PluginError``."""
        if kind not in self.references:
            if kind in _TO_COME.get(self.plugin_type, ()):
                raise UnknownNameError(
                    f"unknown-{self.plugin_type}",
                    f"the {self.plugin_type} '{kind}' is not in this version yet",
                    where=where,
                    hint=f"until then: {', '.join(self.kinds)}, or a plugin of that name",
                )
            raise unknown_name(f"unknown-{self.plugin_type}", self.plugin_type, kind, self.kinds, where=where)
        claims = self.references[kind]
        if len(claims) > 1:
            claimants = " and ".join(f"{provider} ({reference})" for reference, provider in claims)
            raise PluginError(
                "duplicate-plugin",
                f"the {self.plugin_type} '{kind}' is claimed by {claimants}",
                where=where,
                hint="uninstall one of them or rename its entry point",
            )
        return claims[0][0]

    def get(self, kind: str, *, where: Where | None = None) -> type[P]:
        """Return the class of the kind, imported now if it was not yet."""
        if kind not in self._loaded:
            self._loaded[kind] = load_plugin(self.reference(kind, where=where), self.base, kind=kind)
        return self._loaded[kind]

    def add(self, kind: str, reference: str, provider: str) -> None:
        """Add a plugin. A kind that is taken is remembered as a conflict."""
        claims = self.references.setdefault(kind, [])
        if (reference, provider) not in claims:
            claims.append((reference, provider))


class Registry:
    """All plugins that can be used. Passed as an argument; there is no global one."""

    def __init__(self) -> None:
        self.sources = Family("source", Source)
        self.sinks = Family("sink", Sink)
        self.engines = Family("engine", Engine)
        self.clusters = Family("cluster", Cluster)
        self.listeners = Family("listener", Listener)

    @property
    def families(self) -> Mapping[PluginType, Family[Any]]:
        """The families by plugin type."""
        return {
            family.plugin_type: family
            for family in (self.sources, self.sinks, self.engines, self.clusters, self.listeners)
        }

    def add_marked(self, marked: Iterable[tuple[PluginType, str, str]]) -> None:
        """Add project-local plugins: (type, kind, ``module:object``), as discovery reports them."""
        for plugin_type, kind, reference in marked:
            self.families[plugin_type].add(kind, reference, "this project")


def installed_registry() -> Registry:
    """Return a registry of what is installed: entry points ``aiflow.sources``, ``.sinks``, ``.engines`` and so on."""
    registry = Registry()
    found = entry_points()
    for plugin_type, family in registry.families.items():
        for point in found.select(group=f"aiflow.{plugin_type}s"):
            family.add(point.name, point.value, _provider(point))
    return registry


def _provider(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def load_plugin(reference: str, base: type[P], *, kind: str = "") -> type[P]:
    """Import ``module:object`` and return the plugin class, of this kind where one is given.

    A function is called for the class only if ``@register_source`` or its like marks it: a reference comes from a plan,
    and whoever wrote that may not choose what is called. Raises ``PluginError`` (``broken-plugin``) when it cannot be
    imported or is no plugin of type ``base``; an ``AiflowError`` of the module (``MissingExtraError``) as it is.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        if not isinstance(found, type) and callable(found) and _is_marked(found):
            found = found()
    except AiflowError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        raise PluginError(
            "broken-plugin",
            f"the plugin {reference} cannot be loaded: {type(error).__name__}: {error}",
            where=_where_in(error),
            hint="reinstall the package that provides it, or mend the file",
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PluginError(
            "broken-plugin",
            f"{reference} is no {base.__name__}: {found!r}",
            hint=f"derive it from aiflow_sdk.plugins.{base.__name__}, or mark the function that returns the class",
        )
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise PluginError(
            "broken-plugin",
            f"{reference} lacks what a {base.__name__} must have: {', '.join(lacking)}",
            hint=f"see aiflow_sdk.plugins.{base.__name__}",
        )
    return _bound(found, kind) if kind and found.kind != kind else found


def _is_marked(found: Any) -> bool:
    mark = getattr(found, MARK, None)
    return isinstance(mark, tuple) and len(mark) == 2


def _where_in(error: BaseException) -> Where | None:
    """Return the line that could not be read, else the last one that was run."""
    if isinstance(error, SyntaxError) and error.filename:
        return Where(error.filename, error.lineno)
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(("<", importlib.__file__, __file__))
    ]
    return Where(*lines[-1]) if lines else None


@cache
def _bound(plugin: type[P], kind: str) -> type[P]:
    """Return a subclass that is of this kind: the class itself may be registered under other names too."""
    body = {name: getattr(plugin, name) for name in ("__module__", "__qualname__", "__doc__")}
    body["__reduce__"] = _reduce_bound
    return cast("type[P]", new_class(plugin.__name__, (plugin,), {"kind": kind}, lambda names: names.update(body)))


def _reduce_bound(plugin: Plugin) -> tuple[Any, ...]:
    # The subclass has no name that another process could import; the class that it was made of has.
    return _restore_bound, (type(plugin).__bases__[0], plugin.kind), plugin.__getstate__()


def _restore_bound(plugin: type[Plugin], kind: str) -> Plugin:
    return cast("Plugin", object.__new__(_bound(plugin, kind)))


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
