"""Imports a project's modules in this process and builds the pipelines that they define."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from aiflow_sdk.code import enter_project
from aiflow_sdk.discovery import guard
from aiflow_sdk.discovery.finding import Module
from aiflow_sdk.discovery.guard import Finding, Guard
from aiflow_sdk.errors import AiflowError, DiscoveryError, ProblemsError, Where
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plugins import MARK

_FRESH_SECONDS = 2.0
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass
class Imported:
    """What one module gave: plain records, that pass from one process to another as JSON."""

    pipelines: list[dict[str, Any]] = field(default_factory=list)
    problems: list[AiflowError] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    reads: list[tuple[str, str]] = field(default_factory=list)
    """(project file, path): data that was read from the project while the file's code ran."""
    marked: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(project file, type, kind, ``module:object``), of each project file that was executed."""
    executed: list[str] = field(default_factory=list)
    """The project files that were executed for the first time in this process."""
    built: dict[str, tuple[PipelineIR, Mapping[str, Callable[..., Any]]]] = field(default_factory=dict)
    """By pipeline id what does not leave the process."""

    def to_dict(self) -> dict[str, Any]:
        """Return the records, JSON-ready."""
        return {
            "pipelines": self.pipelines,
            "problems": [problem.to_dict() for problem in self.problems],
            "findings": self.findings,
            "reads": self.reads,
            "marked": self.marked,
            "executed": self.executed,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Imported:
        """Return what :meth:`to_dict` described."""
        return Imported(
            pipelines=data["pipelines"],
            problems=[AiflowError.from_dict(problem) for problem in data["problems"]],
            findings=[Finding(*finding) for finding in data["findings"]],
            reads=[(source, path) for source, path in data["reads"]],
            marked=[(path, plugin, kind, reference) for path, plugin, kind, reference in data["marked"]],
            executed=data["executed"],
        )


class Importer:
    """Imports modules of one project, one after the other; what goes wrong in one is told of that one."""

    def __init__(
        self,
        root: Path,
        *,
        clock: bool = True,
        on_ending: Callable[[str, int], None] | None = None,
        interruptible: bool = False,
    ) -> None:
        self._root = root
        self._guard = Guard(root, clock=clock, on_ending=on_ending)
        self._interruptible = interruptible
        """Whether a KeyboardInterrupt is a person's, and not raised by user code."""
        self._last_seen = next(reversed(sys.modules))
        _prepare_imports(root)

    def load(self, module: Module) -> Imported:
        """Import the module and build its pipelines."""
        imported = Imported()
        self._guard.begin(str(self._root / module.path))
        try:
            with self._guard:
                loaded = importlib.import_module(module.name)
        except BaseException as error:  # user code may raise anything, sys.exit included
            if self._interruptible and isinstance(error, KeyboardInterrupt):
                raise
            imported.problems.extend(self._problems(error, module))
        else:
            if not self._is_of(loaded, module):
                imported.problems.append(self._shadowed(loaded, module))
            elif not module.only_plugins:
                self._build_all(loaded, module, imported)
        self._look_around(imported)
        imported.findings = self._guard.take()
        imported.reads = sorted(self._guard.reads)
        self._guard.reads.clear()
        return imported

    def _build_all(self, loaded: ModuleType, module: Module, imported: Imported) -> None:
        definitions = {
            id(value): value
            for value in list(vars(loaded).values())
            if "_pipeline_id" in getattr(value, "__dict__", ()) and callable(getattr(value, "build", None))
        }
        for definition in definitions.values():
            self._guard.during = str(definition._pipeline_id)
            path, line = self._place_of(definition, module)
            try:
                with self._guard:
                    built = definition.build()
                record = self._record(definition, built, path, line, module)
            except BaseException as error:  # user code may raise anything, sys.exit included
                if self._interruptible and isinstance(error, KeyboardInterrupt):
                    raise
                about = f"pipeline '{definition._pipeline_id}'"
                imported.problems.extend(self._problems(error, module, Where(path, line, about=about)))
                continue
            imported.pipelines.append(record)
            imported.built[built.ir.id] = (built.ir, built.functions)

    def _record(self, definition: Any, built: Any, path: str, line: int, module: Module) -> dict[str, Any]:
        ir: PipelineIR = built.ir
        home = getattr(definition, "__module__", None) or module.name
        held = vars(sys.modules[home]).values() if home in sys.modules and home != module.name else ()
        # All but always it is one file.
        paths = {path: self._relative(path) for path in {place.path for place in built.locations.values()}}
        places = {
            node_id: [paths[place.path], place.line, place.column, place.about]
            for node_id, place in built.locations.items()
        }
        text, fingerprint = ir.to_json_and_fingerprint()
        return {
            "id": ir.id,
            "project": ir.project,
            "path": path,
            "line": line,
            "home": home if any(value is definition for value in held) else module.name,
            "fingerprint": fingerprint,
            "entrypoints": "\n".join(sorted({node.entrypoint for node in ir.node_list if node.entrypoint})),
            "ir": text,
            "locations": _encode(places),
        }

    def _look_around(self, imported: Imported) -> None:
        """Note the project files that were executed since the last time, and the plugins that they register."""
        fresh = []
        for name in reversed(sys.modules):
            if name == self._last_seen:
                break
            fresh.append(name)
        if fresh:
            self._last_seen = fresh[0]
        for name in reversed(fresh):
            path = self._guard.project_path(getattr(sys.modules.get(name), "__file__", None) or "")
            if not path:
                continue
            imported.executed.append(path)
            for attribute, value in list(vars(sys.modules[name]).items()):
                mark = getattr(value, "__dict__", {}).get(MARK) if getattr(value, "__module__", None) == name else None
                if mark:
                    imported.marked.append((path, *mark, f"{name}:{attribute}"))

    def _is_of(self, loaded: ModuleType, module: Module) -> bool:
        file = getattr(loaded, "__file__", None)
        expected = f"{self._root}{os.sep}{module.path}"
        return file == expected or (file is not None and os.path.realpath(file) == os.path.realpath(expected))

    def _shadowed(self, loaded: ModuleType, module: Module) -> AiflowError:
        return DiscoveryError(
            "shadowed-module",
            f"'{module.name}' is another module: {getattr(loaded, '__file__', None) or 'a built-in one'}",
            where=Where(module.path),
            hint="rename the file or its folder",
        )

    def _place_of(self, definition: Any, module: Module) -> tuple[str, int]:
        """Return where the pipeline's function begins, decorators included."""
        code = getattr(getattr(definition, "__wrapped__", None), "__code__", None)
        path = self._guard.project_path(os.path.abspath(code.co_filename)) if isinstance(code, CodeType) else None
        return (path, code.co_firstlineno) if path and code else (module.path, 1)

    def _problems(self, error: BaseException, module: Module, where: Where | None = None) -> Iterator[AiflowError]:
        """Yield what an exception tells: ours as they are, others with the user's lines of the traceback."""
        place = self._failing_line(error)
        if isinstance(error, AiflowError):
            for problem in error.problems if isinstance(error, ProblemsError) else (error,):
                if problem.where and problem.where.path:
                    problem.where = Where(
                        self._relative(problem.where.path),
                        problem.where.line,
                        problem.where.column,
                        problem.where.about,
                    )
                yield problem.at(place or Where(module.path)).at(where or Where(module.path))
            return
        what = "could not be imported" if where is None else "could not be built"
        subject = f"module '{module.name}'" if where is None else where.about
        yield DiscoveryError(
            "module-failed" if where is None else "build-failed",
            f"{subject} {what}: {_said(error)}",
            where=place or where or Where(module.path),
            hint=_advice(error),
            notes=self._user_lines(error),
        )

    def _failing_line(self, error: BaseException) -> Where | None:
        if isinstance(error, SyntaxError) and error.filename:
            path = self._guard.project_path(os.path.abspath(error.filename))
            if path:
                return Where(path, error.lineno, error.offset)
        place = None
        for frame, line in traceback.walk_tb(error.__traceback__):
            path = self._guard.project_path(frame.f_code.co_filename)
            if path:
                place = Where(path, line)
        return place

    def _user_lines(self, error: BaseException) -> list[str]:
        """Return the traceback without the frames above the user's first one."""
        trace = error.__traceback__
        while trace and not self._guard.project_path(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace or None)
        ours = ("<frozen importlib", f'File "{guard.__file__}"', f'File "{__file__}"')
        return "".join(line for line in lines if not any(mark in line for mark in ours)).rstrip().splitlines()

    def _relative(self, path: str | None) -> str | None:
        return (self._guard.project_path(path) or path) if path and os.path.isabs(path) else path


class _FreshSourceLoader(SourceFileLoader):
    """Compiles a file that was written just now from its source.

    Python's bytecode files know their source by whole seconds and size: an edit within the second would go unseen.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if time.time() - os.stat(path).st_mtime > _FRESH_SECONDS:
            return super().get_code(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        guard.about_to_execute(self.path)
        super().exec_module(module)


class _ProjectHook:
    """Finds modules in the folders of one project as Python does, and loads them in our way."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._find = FileFinder.path_hook(
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (_FreshSourceLoader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    def __call__(self, path: str) -> Any:
        inside = path.removeprefix(self.root)
        if inside == path or (inside and not inside.startswith(os.sep)) or "site-packages" in inside:
            raise ImportError("not a folder of the project")
        return self._find(path)


def _prepare_imports(root: Path) -> None:
    """Put the project first on the import path, its modules loaded in our way."""
    enter_project(root)
    if not any(isinstance(hook, _ProjectHook) and hook.root == str(root) for hook in sys.path_hooks):
        sys.path_hooks.insert(0, _ProjectHook(str(root)))
        for path in [path for path in sys.path_importer_cache if path.startswith(str(root))]:
            del sys.path_importer_cache[path]
    importlib.invalidate_caches()


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _advice(error: BaseException) -> str | None:
    if isinstance(error, SystemExit):
        return 'put what is meant for the command line under if __name__ == "__main__":'
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install the package that has '{error.name}', or correct the name"
    return None
