"""Finds plugins by kind: those that packages install and those that a project marks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

from aiflow_sdk.errors import PluginError, Where, unknown_name
from aiflow_sdk.plugins.connector import Sink, Source
from aiflow_sdk.plugins.execution import Cluster, Engine, Listener
from aiflow_sdk.plugins.options import Plugin

PluginType = Literal["source", "sink", "engine", "cluster", "listener"]
P = TypeVar("P", bound=Plugin)

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
    """Import ``module:object`` and return the plugin class; a function is called for it.

    Raises ``PluginError`` when it cannot be imported or is no plugin of type ``base``.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            "broken-plugin",
            f"the plugin {reference} cannot be loaded: {error}",
            hint="reinstall the package that provides it",
        ) from error
    if not isinstance(found, type) and callable(found):
        found = found()
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PluginError(
            "broken-plugin",
            f"{reference} is no {base.__name__}: {found!r}",
            hint=f"derive it from aiflow_sdk.plugins.{base.__name__}",
        )
    if kind and not found.kind:
        found.kind = kind
    return found


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
