"""What the names of a module are bound to, as far as its text tells."""

from __future__ import annotations

import ast

from aiflow_sdk.code.source import import_origin, inner_blocks


def names_bound_in(body: list[ast.stmt], path: str) -> dict[str, list[ast.stmt | str]]:
    """Return what each name is bound to, in order: its statement, or ``module:name`` where it is imported."""
    bound: dict[str, list[ast.stmt | str]] = {}
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.setdefault(name, []).append(statement)
            case ast.ImportFrom(names=names):
                origin = import_origin(statement, path)
                for alias in names:
                    if alias.name == "*":
                        bound.setdefault("*", []).append(origin)
                    else:
                        bound.setdefault(alias.asname or alias.name, []).append(f"{origin}:{alias.name}")
            case ast.Import(names=names):
                for alias in names:
                    bound.setdefault(alias.asname or alias.name.split(".")[0], []).append("")
            case ast.Assign(targets=targets):
                for target in targets:
                    for item in ast.walk(target):
                        if isinstance(item, ast.Name):
                            bound.setdefault(item.id, []).append(statement)
            case ast.AnnAssign(target=ast.Name(id=name)):
                bound.setdefault(name, []).append(statement)
            case _:
                for block in inner_blocks(statement):
                    for name, found in names_bound_in(block, path).items():
                        bound.setdefault(name, []).extend(found)
    return bound


def keeps_signature(decorator: ast.expr) -> bool:
    """Tell whether the decorator leaves a function's arguments as they are written: ours, ``@transform(…)``, does."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "attr", getattr(called, "id", None)) in ("transform", "staticmethod")
