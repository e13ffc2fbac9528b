"""The import statements of a file, sorted as isort and ruff do."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable

from aiflow_sdk.eject.layout import WIDTH, Group, lines


class Imports:
    """What a file imports."""

    def __init__(self) -> None:
        self._modules: set[tuple[str, str]] = set()
        self._names: dict[str, set[str]] = {}

    def add(self, statements: Iterable[str]) -> None:
        """Add import statements."""
        for statement in ast.parse("\n".join(statements)).body:
            match statement:
                case ast.Import(names=names):
                    self._modules |= {(one.name, one.asname or "") for one in names}
                case ast.ImportFrom(module=str() as module, names=names):
                    self._names.setdefault(module, set()).update(map(ast.unparse, names))

    def lines(self) -> list[str]:
        """Return the statements: the standard library's first, then the others'."""
        found: list[list[str]] = []
        for is_standard in (True, False):
            plain = [
                f"import {name}" + (f" as {alias}" if alias else "")
                for name, alias in sorted(self._modules)
                if _is_standard(name) is is_standard
            ]
            named = [
                line
                for module, names in sorted(self._names.items())
                if _is_standard(module) is is_standard
                for line in _named(module, names)
            ]
            if plain or named:
                found.append([*plain, *named])
        return [line for number, section in enumerate(found) for line in ([""] if number else []) + section]


def _is_standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def _named(module: str, names: set[str]) -> list[str]:
    # Constants first, then classes, then the rest: so does isort.
    ordered = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    renamed = [f"from {module} import {name}" for name in ordered if " as " in name]
    plain = [name for name in ordered if " as " not in name]
    whole = f"from {module} import {', '.join(plain)}"
    if len(whole) > WIDTH:
        return [*lines(Group(f"from {module} import (", tuple(plain), ")")), *renamed]
    return [*([whole] if plain else []), *renamed]
