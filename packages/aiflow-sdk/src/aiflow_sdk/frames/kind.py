"""Which kind of frame an object is, or an annotation asks for, told by names alone."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from types import ModuleType
from typing import Any, ForwardRef, get_args


class FrameKind(Enum):
    """The frames that a user's function may ask for and return; the value is what it writes as an annotation."""

    POLARS_LAZY = "polars.LazyFrame"
    POLARS = "polars.DataFrame"
    ARROW = "pyarrow.Table"
    PANDAS = "pandas.DataFrame"
    DUCKDB = "duckdb.DuckDBPyRelation"
    SPARK = "pyspark.sql.DataFrame"


_BY_NAME = {(kind.value.split(".")[0], kind.value.rsplit(".", 1)[1]): kind for kind in FrameKind}
_NOT_FRAMES = ("pyspark.pandas",)


def kind_of(frame: object) -> FrameKind | None:
    """Return the kind of a frame, or None when the object is none."""
    return _kind_of_class(type(frame))


def is_frame(value: object) -> bool:
    """Return whether the value is a frame of a known kind."""
    return kind_of(value) is not None


def kind_of_annotation(annotation: object, function: Callable[..., Any]) -> FrameKind | None:
    """Return the kind that an annotation of the function names, or the first that it names inside.

    ``polars.LazyFrame``, ``LazyFrame | None``, ``dict[str, LazyFrame]``, a string, and names imported under
    ``TYPE_CHECKING`` alone are all understood. Nothing is imported for it.
    """
    if isinstance(annotation, str):
        return _kind_of_text(annotation, function)
    if isinstance(annotation, ForwardRef):
        return _kind_of_text(annotation.__forward_arg__, function)
    if isinstance(annotation, type) and (kind := _kind_of_class(annotation)):
        return kind
    # ``type Frame = …`` of Python 3.12 hides what it stands for.
    inside = (annotation.__value__,) if type(annotation).__name__ == "TypeAliasType" else get_args(annotation)  # type: ignore[attr-defined]  # mypy checks for 3.11
    return next(filter(None, (kind_of_annotation(part, function) for part in inside)), None)


def kind_of_written(annotation: ast.expr, source: str) -> FrameKind | None:
    """Return the kind that an annotation in a module's text names, as far as that tells what its names stand for."""
    aliases = _aliases(source)
    for part in _parts(annotation):
        if isinstance(part, ast.Constant):
            inner = _expression(part.value) if isinstance(part.value, str) else None
            kind = kind_of_written(inner, source) if inner is not None else None
        else:
            root, _, rest = ast.unparse(part).partition(".")
            kind = _kind_of_name(".".join(filter(None, (aliases.get(root), rest))))
        if kind:
            return kind
    return None


def _expression(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None


def _kind_of_class(found: type) -> FrameKind | None:
    return next(filter(None, (_kind_of_name(f"{part.__module__}.{part.__name__}") for part in found.__mro__)), None)


def _kind_of_name(name: str) -> FrameKind | None:
    if name.startswith(_NOT_FRAMES):
        return None
    root, _, rest = name.partition(".")
    return _BY_NAME.get((root.lstrip("_"), rest.rsplit(".", 1)[-1]))


def _kind_of_text(text: str, function: Callable[..., Any]) -> FrameKind | None:
    expression = _expression(text)
    if expression is None:
        return None
    code = inspect.unwrap(function)
    names: Mapping[str, object] = getattr(code, "__globals__", {})
    for part in _parts(expression):
        if isinstance(part, ast.Constant):
            if isinstance(part.value, str) and (kind := _kind_of_text(part.value, function)):
                return kind
            continue
        root, _, rest = ast.unparse(part).partition(".")
        found = names.get(root)
        if found is None:
            kind = _kind_of_name(".".join(filter(None, (_aliases_around(code).get(root), rest))))
        elif rest:
            kind = _kind_of_name(f"{found.__name__}.{rest}") if isinstance(found, ModuleType) else None
        else:
            kind = kind_of_annotation(found, function) if not isinstance(found, str) else None
        if kind:
            return kind
    return None


def _parts(expression: ast.expr) -> Iterator[ast.expr]:
    """Yield the dotted names and constants of an annotation, from left to right."""
    if isinstance(expression, ast.Name | ast.Attribute | ast.Constant):
        yield expression
    else:
        for child in ast.iter_child_nodes(expression):
            if isinstance(child, ast.expr):
                yield from _parts(child)


def _aliases_around(function: Callable[..., Any]) -> Mapping[str, str]:
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    lines = linecache.getlines(code.co_filename, getattr(function, "__globals__", None))
    return _aliases("".join(lines))


@lru_cache(maxsize=64)
def _aliases(source: str) -> Mapping[str, str]:
    """Return what each imported or assigned name of a module stands for, as a dotted name."""
    try:
        tree = ast.parse(source.removeprefix("\ufeff"))
    except SyntaxError:
        return {}
    found: dict[str, str] = {}
    # Level by level, so that the module's own imports come before those inside its functions.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                root = name.name.split(".")[0]
                found.setdefault(name.asname or root, name.name if name.asname else root)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for name in node.names:
                found.setdefault(name.asname or name.name, f"{node.module}.{name.name}")
    for node in ast.walk(tree):
        # ``F = …``, ``F: TypeAlias = …`` and ``type F = …`` keep the name in three places.
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        target = target or getattr(node, "name", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Name | ast.Attribute):
            root, _, rest = ast.unparse(value).partition(".")
            found.setdefault(target.id, ".".join(filter(None, (found.get(root, root), rest))))
    return found
