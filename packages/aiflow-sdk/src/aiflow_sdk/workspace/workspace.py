"""One project, its plugins and the plans that are compiled with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from typing import cast

from aiflow_sdk.code import CodeIndex, enter_project, interpreter, is_foreign, scan_sources
from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.compiler.connector import sink_to_ask
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.discovery.finding import find_plugin_modules
from aiflow_sdk.errors import ConfigurationError, PluginError, Where
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plan import Plan, PlanNode
from aiflow_sdk.plugins import MARK, PluginType, Registry, installed_registry
from aiflow_sdk.workspace.child import PluginProcess

_ENGINE: PluginType = "engine"


class Workspace:
    """One project to compile in. What it registers itself is imported when a pipeline first needs it, in a child."""

    def __init__(
        self,
        project: Project,
        registry: Registry | None = None,
        marked: Iterable[tuple[PluginType, str, str]] = (),
        *,
        is_child: bool = False,
    ) -> None:
        self.project = project
        self.registry = registry or installed_registry()
        self._is_child = is_child
        """Whether this process is the one that imports the project's own plugins."""
        self._process: PluginProcess | None = None
        self._marked: list[tuple[PluginType, str, str]] = []
        self._own: dict[tuple[PluginType, str], str] = {}
        self.add(marked)

    def add(self, marked: Iterable[tuple[PluginType, str, str]]) -> None:
        """Add the project's own plugins: (type, kind, ``module:object``), as discovery reports them."""
        marked = list(marked)
        self.registry.add_marked(marked)
        self._marked += marked
        self._own.update({(plugin_type, kind): reference for plugin_type, kind, reference in marked})
        self._process = None

    def compile(
        self,
        ir: PipelineIR,
        environment: Environment,
        *,
        locations: Mapping[str, Where] | None = None,
        code: CodeIndex | None = None,
        here: bool = False,
    ) -> Plan:
        """Return the pipeline's plan; see :func:`aiflow_sdk.compiler.compile_pipeline`.

        ``here``: the pipeline was built in this process, and its project's plugins are imported here too; they are
        looked for where it needs more than is installed. Raises ``PluginError``, and then ``ConfigurationError``
        (``plugin-of-other-interpreter``).
        """
        own = self._own_of(ir, here)
        modules = [self._own[plugin].partition(":")[0] for plugin in own]
        if own and not (here or self._is_child):
            if self._process is None or not self._process.is_alive:
                self._process = PluginProcess(self.project, self._marked)
            return self._process.compile(ir, environment, locations or {}, modules)
        if own and here and is_foreign(self.project):
            name, kind = own[0]
            raise ConfigurationError(
                "plugin-of-other-interpreter",
                f"the {name} '{kind}' is the project's own, and another interpreter imports the project's code",
                where=Where("aiflow.toml", about="python"),
                hint=f"run aiflow with {interpreter(self.project)}, or install the plugin as a package",
            )
        for module in modules:
            self._import(module)
        return compile_pipeline(
            ir,
            project=self.project,
            environment=environment,
            registry=self.registry,
            locations=locations,
            code=code,
            here=here,
        )

    def _own_of(self, ir: PipelineIR, here: bool) -> list[tuple[PluginType, str]]:
        """Return what the pipeline needs of the project's own plugins, sorted."""
        if not (here or self._own):
            return []
        needed = {
            (cast(PluginType, node.type), node.kind) if node.kind else (_ENGINE, str(node.engine))
            for node in ir.node_list
        }
        kinds = {(name, kind) for name, family in self.registry.families.items() for kind in family.references}
        if here and not needed <= kinds:
            self._look_for_own()
        return [plugin for plugin in sorted(needed) if plugin in self._own]

    def replaces_run(self, sink: PlanNode, environment: Environment) -> bool:
        """Tell whether a sink of a plan replaces what is of the run's partition; of the project's own it is assumed."""
        if ("sink", sink.kind) in self._own:
            return True
        plugin = self.registry.sinks.get(sink.kind or "")
        return sink_to_ask(plugin, sink.options, environment).replaces() == "run"

    def part_of(self, sink: PlanNode) -> str:
        """Return which part of its dataset a sink of a plan writes, as templates of the run's time; empty: the whole.

        Of the project's own it is not known.
        """
        if ("sink", sink.kind) in self._own:
            return ""
        dated = self.registry.sinks.get(sink.kind or "").dated(sink.options)
        return dated.part if dated else ""

    def _look_for_own(self) -> None:
        root = self.project.root
        for module in find_plugin_modules(root, scan_sources(root)):
            self._import(module.name)
            self.add(
                (*getattr(value, MARK), f"{module.name}:{name}")
                for name, value in vars(sys.modules[module.name]).items()
                if getattr(value, MARK, None) and value.__module__ == module.name
            )

    def _import(self, module: str) -> None:
        enter_project(self.project.root)
        if module in sys.modules:
            return
        try:
            with _silence():
                import_module(module)
        except (Exception, SystemExit) as error:  # the author's module may raise anything
            raise PluginError(
                "broken-plugin",
                f"the module '{module}', which registers a plugin, cannot be imported: {error}",
                where=Where(f"{module.replace('.', '/')}.py"),
                hint="correct the module; a plugin's module is imported wherever a pipeline that names it is compiled",
            ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Send what is printed inside nowhere, by processes and libraries too: the command's output is for its reader."""
    _flush()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        kept = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            _flush()
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
