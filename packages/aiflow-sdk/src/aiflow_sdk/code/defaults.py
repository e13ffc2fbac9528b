"""The defaults that ``@transform(…)`` gives a function, read from its file."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.machinery import all_suffixes
from stat import S_ISREG
from typing import Any, NamedTuple

from aiflow_sdk.code.binding import names_bound_in
from aiflow_sdk.code.source import normalise, parse_source
from aiflow_sdk.errors import Where
from aiflow_sdk.place import relative_path

_LONGEST_CHAIN = 16
_ENDS = (f"{os.sep}__init__.py", *all_suffixes())
_OURS = ("aiflow_sdk", "aiflow_sdk.dsl")


class Unreadable(NamedTuple):
    """A default that only running the module could tell."""

    where: Where


class Made(NamedTuple):
    """What ``resources.ENGINE(…)`` gives."""

    engine: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]


class _Module:
    """One file's text, as far as it matters."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self.path = path
        # As the paths of names_bound_in are, for imports that are relative.
        as_path = name.replace(".", "/") + ("/__init__.py" if path.endswith("__init__.py") else ".py")
        self.bound = names_bound_in(tree.body, as_path)

    def values(self, call: ast.Call) -> dict[str, Any]:
        """Return the arguments of ``@transform(…)``."""
        found: dict[str, Any] = {}
        for keyword in call.keywords:
            try:
                value = self._value(keyword.value)
                found.update({keyword.arg: value} if keyword.arg else value)
            except (ValueError, TypeError):
                found[keyword.arg or "**"] = Unreadable(Where(relative_path(self.path), keyword.value.lineno))
        return {name: value for name, value in found.items() if value is not None}

    def _value(self, node: ast.expr) -> Any:
        """Return a literal, also one that a name at the top of the file stands for, or a call of ``resources``."""
        match node:
            case ast.Name(id=name) if len(bound := self.bound.get(name, [])) == 1:
                statement = bound[0]
                if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    if all(isinstance(target, ast.Name) for target in targets):
                        return ast.literal_eval(statement.value)
                raise ValueError(name)
            case ast.Call(func=ast.Attribute(value=owner, attr=engine), args=args, keywords=keywords) if self.origin(
                owner
            ) == "resources" and not engine.startswith("_"):
                if not all(keyword.arg for keyword in keywords):
                    raise ValueError("**")
                named = {str(keyword.arg): self._value(keyword.value) for keyword in keywords}
                return Made(engine, tuple(map(self._value, args)), named)
        return ast.literal_eval(node)

    def origin(self, node: ast.expr) -> str | None:
        """Return the name that aiflow has for what an expression names: ``transform``, ``resources``; else None."""
        match node:
            case ast.Name(id=name):
                bound = self.bound.get(name, [""])[-1]
                module, _, imported = bound.partition(":") if isinstance(bound, str) else ("", "", "")
                return imported if module in (*_OURS, "aiflow_sdk.factories") else None
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                # ``import aiflow_sdk as x``, or ``from aiflow_sdk import dsl``: as what is not told.
                held = self.bound.get(module) or [":"]
                return name if held[-1] in ("", "aiflow_sdk:dsl") else None
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="aiflow_sdk"), attr="dsl"), attr=name):
                return name
        return None


def written_defaults(entrypoint: str, roots: Sequence[str]) -> Mapping[str, Any]:
    """Return what ``@transform(…)`` says above the function ``pkg.mod:function``; of one that is nowhere, nothing.

    A value is a literal (written there, or named there and written in the same file), ``Made`` or ``Unreadable``.
    """
    module, _, function = entrypoint.partition(":")
    return _defaults(module, function, tuple(roots), _LONGEST_CHAIN)


def _defaults(module: str, function: str, roots: tuple[str, ...], chain: int) -> Mapping[str, Any]:
    path = _paths.get((module, roots))
    status = _status(path) if path else None
    if path is None or status is None:
        path = module_file(module, roots)
        status = _status(path) if path else None
        if path is None or status is None or not path.endswith(".py"):
            return {}
        _paths[module, roots] = path
    if not chain:
        return {}
    try:
        read = _read(module, path, status.st_mtime_ns, status.st_size)
    except (OSError, SyntaxError, ValueError):
        return {}  # the compiler says so, with its place
    if read is None:
        return {}
    first, *rest = function.split(".")
    bound = read.bound.get(first, [])
    if not bound:
        for star in read.bound.get("*", ()):
            if isinstance(star, str) and (found := _defaults(star, function, roots, chain - 1)):
                return found
        return {}
    statement = bound[-1]
    for part in rest:
        inner = names_bound_in(statement.body, path) if isinstance(statement, ast.ClassDef) else {}
        statement = inner.get(part, [""])[-1]
    match statement:
        case str() if statement and not rest:
            origin, _, name = statement.partition(":")
            return _defaults(origin, name, roots, chain - 1) if name else {}
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            for decorator in statement.decorator_list:
                if isinstance(decorator, ast.Call) and read.origin(decorator.func) == "transform":
                    return read.values(decorator)
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
            for call in calls:
                if read.origin(call.func) == "transform" and call.keywords:
                    where = Where(relative_path(path), call.lineno)
                    return {keyword.arg or "**": Unreadable(where) for keyword in call.keywords}
    return {}


def _status(path: str) -> os.stat_result | None:
    """Return the status of a file, None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status if S_ISREG(status.st_mode) else None


_paths: dict[tuple[str, tuple[str, ...]], str] = {}
"""The file of each module that was found: one file after the other is asked for the same few."""

_SAYS_ALL = re.compile(rb"\btransform\b|^[ \t]*from\b.*\bimport\b", re.MULTILINE)


@lru_cache(maxsize=4096)
def _read(name: str, path: str, mtime_ns: int, size: int) -> _Module | None:
    """Return the file's names; None of one in which nothing is decorated and nothing handed on."""
    with open(path, "rb") as file:
        content = normalise(file.read())
    return _Module(name, path, parse_source(content)) if _SAYS_ALL.search(content) else None


def module_file(name: str, roots: Sequence[str]) -> str | None:
    """Return the file that answers to the module's name; a mere folder holds no function."""
    *parents, last = name.split(".")
    folders = list(roots)
    for parent in parents:
        below = [folder for root in folders if os.path.isdir(folder := os.path.join(root, parent))]
        # As in Python: a package that has an __init__ hides all others of its name.
        packages = [folder for folder in below if os.path.isfile(os.path.join(folder, "__init__.py"))]
        folders = packages[:1] or below
    paths = (os.path.join(folder, last) + end for folder in folders for end in _ENDS)
    return next(filter(os.path.isfile, paths), None)
