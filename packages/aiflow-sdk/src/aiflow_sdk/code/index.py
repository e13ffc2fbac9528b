"""What a function of the user's reaches: its module's file and every project file imported from there."""

from __future__ import annotations

import ast
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from aiflow_sdk.code.binding import keeps_signature, names_bound_in
from aiflow_sdk.code.lock import lock_fingerprint
from aiflow_sdk.code.source import (
    SourceFile,
    Stamp,
    module_name,
    normalise,
    parse_source,
    read_source,
    scan_sources,
    stamp_of,
)
from aiflow_sdk.config import Project
from aiflow_sdk.errors import DefinitionError, UnknownNameError, Where, did_you_mean, unknown_name
from aiflow_sdk.ir import fingerprint

_PARSED_FILES = 64
_LONGEST_CHAIN = 16


class FunctionSource(NamedTuple):
    """Where a function stands. All None: in an installed package, which the lock's fingerprint covers."""

    path: str | None
    """Relative to the project, with ``/``."""
    line: int | None
    definition: ast.FunctionDef | ast.AsyncFunctionDef | None
    """None where the text does not tell the signature: an assignment, a class, an unknown decorator."""


class _Located(NamedTuple):
    paths: tuple[str, ...]
    whole: bool
    """Whether the last path is the module that was asked for, and not one on the way to it."""


class CodeIndex:
    """Fingerprints of the project's files, and of what can be reached from each by its import statements.

    Followed are ``import`` and ``from … import`` in every form and place, submodules and ``__init__`` files included.
    Not seen are imports whose name is made at run time (``importlib``), and files that are no Python. What is known of
    a file is kept while its stamp (times, size, inode) stays.

    ``snapshot`` gives all stamps at once (:func:`scan_sources`): then no file is looked at twice, and what was asked
    once is not worked out again, the lock included. ``memory`` may
    answer with what an earlier process knew of a file. ``foreign``: another interpreter runs the code, so modules
    outside the project are taken on trust.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        snapshot: Mapping[str, Stamp] | None = None,
        memory: Callable[[str], SourceFile | None] | None = None,
        foreign: bool = False,
    ) -> None:
        self.root = Path(root).resolve()
        self._snapshot = snapshot
        self._memory = memory
        self._foreign = foreign
        self._files: dict[str, SourceFile] = {}
        self._located: dict[str, _Located] = {}
        self._outside: dict[str, bool] = {}
        self._closures: dict[str, tuple[str, ...]] = {}
        self._fingerprints: dict[str, str] = {}
        self._sources: dict[str, FunctionSource] = {}
        self._lock: tuple[Project, str] | None = None
        self._parsed: OrderedDict[str, tuple[Stamp, ast.Module]] = OrderedDict()
        self._top_names: frozenset[str] | None = None

    def fingerprint(self, entrypoint: str) -> str:
        """Return the fingerprint of all files that ``pkg.mod:function`` reaches, wherever the project lies.

        Raises ``UnknownNameError`` when there is no such module.
        """
        known = self._fingerprints.get(entrypoint)
        if known is None or self._snapshot is None:
            known = fingerprint([[path, self._file(path).digest] for path in self.closure(entrypoint)])
            self._fingerprints[entrypoint] = known
        return known

    def lock(self, project: Project) -> str:
        """Return the fingerprint of what is installed beside the code; see :func:`lock_fingerprint`."""
        if self._lock is None or self._snapshot is None or self._lock[0] is not project:
            self._lock = (project, lock_fingerprint(project))
        return self._lock[1]

    def closure(self, module: str) -> tuple[str, ...]:
        """Return the files reached from a module, an entrypoint or a file (``a/b.py``): relative paths, sorted.

        A module outside the project reaches none. Raises ``UnknownNameError`` when there is no such module.
        """
        if module.endswith(".py"):
            return self._reached((module,))
        name = module.partition(":")[0]
        found = self._locate(name)
        if found.whole:
            return self._reached(found.paths)
        if self._is_outside(name):
            return ()
        raise self._unknown_module(name)

    def known(self, path: str) -> SourceFile | None:
        """Return what is known of a file that was looked at before."""
        return self._files.get(path)

    def source(self, path: str) -> SourceFile:
        """Return what is known of the file ``path`` (relative, with ``/``). Raises ``OSError`` when it is gone."""
        return self._file(path)

    def module_path(self, name: str) -> str | None:
        """Return the file of a module of the project; None when it is no module, or lies elsewhere."""
        found = self._locate(name)
        return found.paths[-1] if found.whole else None

    def function_source(self, entrypoint: str) -> FunctionSource:
        """Return where the function ``pkg.mod:function`` is defined.

        Raises ``UnknownNameError`` (``unknown-function``) with the nearest name, ``DefinitionError``
        (``syntax-error``).
        """
        known = self._sources.get(entrypoint)
        if known is None or self._snapshot is None:
            self._sources[entrypoint] = known = self._function_source(entrypoint)
        return known

    def _function_source(self, entrypoint: str) -> FunctionSource:
        module, _, attribute = entrypoint.partition(":")
        path = self.module_path(module)
        if path is None:
            if self._is_outside(module):
                return FunctionSource(None, None, None)
            raise self._unknown_module(module)
        return self._find(path, attribute or "main", module, _LONGEST_CHAIN)

    def _find(self, path: str, attribute: str, module: str, chain: int) -> FunctionSource:
        tree = self._tree(path)
        first, _, rest = attribute.partition(".")
        bound = names_bound_in(tree.body, path)
        if first not in bound:
            for star in bound.get("*", ()):
                inner = isinstance(star, str) and chain and self.module_path(star)
                if not inner:
                    return FunctionSource(path, None, None)
                try:
                    return self._find(inner, attribute, module, chain - 1)
                except UnknownNameError:
                    continue
            if "__getattr__" in bound:
                return FunctionSource(path, None, None)
            known = [name for name in bound if not name.startswith("_") and name != "*"]
            raise unknown_name(
                "unknown-function",
                f"function in '{module}':",
                first,
                known,
                where=Where(path, about=f"module '{module}'"),
            )
        match bound[first][-1]:
            case ast.ClassDef() as kind if rest:
                method = names_bound_in(kind.body, path).get(rest, (None,))[-1]
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    return _as_written(path, method)
                return FunctionSource(path, getattr(method, "lineno", kind.lineno), None)
            case (ast.FunctionDef() | ast.AsyncFunctionDef()) as function:
                return _as_written(path, function)
            case str() as imported if chain and not rest:
                origin, _, name = imported.partition(":")
                inner = self.module_path(origin) if name else None
                return self._find(inner, name, origin, chain - 1) if inner else FunctionSource(path, None, None)
            case ast.stmt() as statement:
                return FunctionSource(path, statement.lineno, None)
            case _:
                return FunctionSource(path, None, None)

    def _tree(self, path: str) -> ast.Module:
        stamp = self._stamp(path)
        known = self._parsed.get(path)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, parse_source(normalise((self.root / path).read_bytes())))
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None)
                raise DefinitionError(
                    "syntax-error", f"this is not Python: {getattr(error, 'msg', error)}", where=Where(path, line)
                ) from error
            self._parsed[path] = known
            if len(self._parsed) > _PARSED_FILES:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(path)
        return known[1]

    def _stamp(self, path: str) -> Stamp:
        if self._snapshot is not None and path in self._snapshot:
            return self._snapshot[path]
        return stamp_of(os.stat(self.root / path))

    def _file(self, path: str) -> SourceFile:
        known = self._files.get(path)
        if known is not None and self._snapshot is not None:
            return known
        stamp = self._stamp(path)
        if known is None and self._memory:
            known = self._memory(path)
        if known is None or known.stamp != stamp or not known.is_settled:
            known = read_source(self.root, path, stamp)
        self._files[path] = known
        return known

    def _reached(self, start: tuple[str, ...]) -> tuple[str, ...]:
        key = start[-1]
        if self._snapshot is not None and key in self._closures:
            return self._closures[key]
        reached: set[str] = set()
        waiting = list(start)
        while waiting:
            path = waiting.pop()
            if path in reached:
                continue
            try:
                imports = self._file(path).imports
            except OSError:
                self._located.clear()  # it was there when it was located, and is gone
                continue
            reached.add(path)
            for name in imports:
                waiting.extend(found for found in self._locate(name).paths if found not in reached)
        self._closures[key] = closure = tuple(sorted(reached))
        return closure

    def _locate(self, name: str) -> _Located:
        """Return the project's files that importing ``a.b.c`` or ``a.b:c`` runs, as far as they are there, in order."""
        if name not in self._located:
            self._located[name] = self._look(name.replace(":", ".").split("."))
        return self._located[name]

    def _look(self, parts: list[str]) -> _Located:
        paths: list[str] = []
        if self._top_names is None:
            self._top_names = frozenset(entry.name.removesuffix(".py") for entry in os.scandir(self.root))
        if parts[0] not in self._top_names:
            # The project's folder may be a package itself, imported from the folder above.
            if parts[0] != self.root.name:
                return _Located((), False)
            if self._is_file("__init__.py"):
                paths.append("__init__.py")
            parts = parts[1:]
        folder = ""
        for count, part in enumerate(parts, 1):
            if self._is_file(package := f"{folder}{part}/__init__.py"):
                paths.append(package)
            elif self._is_file(module := f"{folder}{part}.py"):
                return _Located((*paths, module), count == len(parts))
            elif count == len(parts) or not (self.root / folder / part).is_dir():
                return _Located(tuple(paths), False)
            folder = f"{folder}{part}/"
        return _Located(tuple(paths), bool(paths))

    def _is_file(self, path: str) -> bool:
        # The snapshot holds importable files only, which are all that is asked for.
        return path in self._snapshot if self._snapshot is not None else os.path.isfile(self.root / path)

    def _is_outside(self, name: str) -> bool:
        top = name.split(".")[0]
        if top not in self._outside:
            in_project = bool(self._locate(top).paths) or (self.root / top).is_dir()
            # Only the outermost package is looked for: to find what is inside, Python would import it.
            self._outside[top] = not in_project and (
                self._foreign or top in sys.stdlib_module_names or PathFinder.find_spec(top) is not None
            )
        return self._outside[top]

    def _unknown_module(self, name: str) -> UnknownNameError:
        modules = [module_name(path) for path in (self._snapshot or scan_sources(self.root))]
        return UnknownNameError(
            "unknown-function",
            f"there is no module '{name}'",
            hint=did_you_mean(name, modules) or "name it 'package.module:function', from the project's folder on",
            notes=[f"looked in {self.root} and among the installed packages"],
        )


def _as_written(path: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> FunctionSource:
    tells = all(map(keeps_signature, function.decorator_list))
    return FunctionSource(path, function.lineno, function if tells else None)
