"""Finds plugins by kind: those that packages install and those that a project marks."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, cached_property
from types import new_class
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from aiflow_sdk.errors import AiflowError, PluginError, UnknownNameError, Where, unknown_name
from aiflow_sdk.plugins.mark import MARK, PluginType

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from aiflow_sdk.plugins.connector import Sink, Source
    from aiflow_sdk.plugins.execution import Cluster, Engine, Listener
    from aiflow_sdk.plugins.options import Plugin

P = TypeVar("P", bound="Plugin")
References: TypeAlias = dict[str, list[tuple[str, str]]]
"""kind → [(``module:object``, who provides it)]; more than one is a conflict, said when the kind is used."""

_BASES: Mapping[PluginType, tuple[str, str]] = {
    "source": ("aiflow_sdk.plugins.connector", "Source"),
    "sink": ("aiflow_sdk.plugins.connector", "Sink"),
    "engine": ("aiflow_sdk.plugins.execution", "Engine"),
    "cluster": ("aiflow_sdk.plugins.execution", "Cluster"),
    "listener": ("aiflow_sdk.plugins.execution", "Listener"),
}

_TO_COME: Mapping[str, frozenset[str]] = {
    "source": frozenset({"jdbc", "onestream", "rest", "snowflake"}),
    "sink": frozenset({"feature_store", "jdbc", "onestream"}),
    "engine": frozenset({"flink"}),
    "cluster": frozenset({"emr", "emr-serverless", "flink", "kubernetes", "spark"}),
}
"""Kinds that the language names already and a later version brings; an installed plugin may be first."""


class Family(Generic[P]):
    """The plugins of one type, by kind. A class is imported when it is first asked for, and so is the base of all."""

    def __init__(self, plugin_type: PluginType, find: Callable[[PluginType], References] = lambda _: {}) -> None:
        self.plugin_type = plugin_type
        self.added: list[tuple[str, str, str]] = []
        """(kind, ``module:object``, provider) of those that were not found but added."""
        self._find = find
        self._loaded: dict[str, type[P]] = {}

    @cached_property
    def references(self) -> References:
        """What each kind is, and who provides it."""
        return self._find(self.plugin_type)

    @property
    def base(self) -> type[P]:
        """What every plugin of the type is derived from."""
        module, name = _BASES[self.plugin_type]
        return cast("type[P]", getattr(importlib.import_module(module), name))

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
            self.added.append((kind, reference, provider))


class Registry:
    """All plugins that can be used. Passed as an argument; there is no global one."""

    def __init__(self, find: Callable[[PluginType], References] = lambda _: {}, found_in: str = "") -> None:
        self.sources: Family[Source] = Family("source", find)
        self.sinks: Family[Sink] = Family("sink", find)
        self.engines: Family[Engine] = Family("engine", find)
        self.clusters: Family[Cluster] = Family("cluster", find)
        self.listeners: Family[Listener] = Family("listener", find)
        self._found_in = found_in

    def state(self) -> str:
        """Return what changes with the plugins that there are, told without looking for them."""
        return repr((self._found_in, [family.added for family in self.families.values()]))

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
    """Return a registry of what is installed: entry points ``aiflow.sources``, ``.sinks``, ``.engines`` and so on.

    They are looked for when the first plugin is asked for.
    """

    @cache
    def find_all() -> Any:  # its type is another one in each version of Python
        from importlib.metadata import entry_points

        return entry_points()

    def find(plugin_type: PluginType) -> References:
        references: References = {}
        for point in find_all().select(group=f"aiflow.{plugin_type}s"):
            claim = (point.value, _provider(point))
            if claim not in (claims := references.setdefault(point.name, [])):
                claims.append(claim)
        return references

    return Registry(find, _installed_state())


def _installed_state() -> str:
    """Return the files on the import path that entry points are read from, each with its time and size."""
    state = []
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.endswith((".dist-info", ".egg-info")):
                    path = f"{entry.path}/entry_points.txt" if entry.is_dir() else entry.path
                    with suppress(OSError):
                        status = os.stat(path)
                        state.append((path, status.st_mtime_ns, status.st_size))
    return repr(sorted(state))


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
