"""How the author names a function, and its one form in the IR: ``pkg.mod:function``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import all_suffixes
from typing import Any

from aiflow_sdk.errors import DefinitionError

HERE = "__here__:"
"""Begins the entrypoint of a function that exists only in this process (a lambda, a notebook's function)."""

_NAME = r"[^\W\d]\w*"
_FORM = re.compile(rf"{_NAME}(\.{_NAME})*(:{_NAME}(\.{_NAME})*)?")


def resolve_entrypoint(named: object, roots: Iterable[str]) -> tuple[str, Callable[..., Any] | None]:
    """Return ``pkg.mod:function`` for what the author named, and the function where it exists only in this process.

    Of text without a colon the whole is the module where there is one of that name below ``roots`` (its ``main`` is
    meant), else the last part is a function of the module before it; where there is neither, ``main`` of the whole is
    meant. Modules are looked for, never imported. Whether the function exists is the compiler's question.
    """
    if isinstance(named, str):
        return _resolve_text(named.strip(), list(roots)), None
    if callable(named):
        return _resolve_function(named)
    raise DefinitionError(
        "bad-entrypoint", f"{named!r} is no function", hint='write fn="package.module:function", or the function itself'
    )


def _resolve_text(text: str, roots: list[str]) -> str:
    if not _FORM.fullmatch(text):
        raise DefinitionError(
            "bad-entrypoint", f"{text!r} does not name a function", hint="write 'package.module:function'"
        )
    if ":" in text:
        return text
    if _has_module(text, roots):
        return f"{text}:main"
    module, _, function = text.rpartition(".")
    return f"{module}:{function}" if module and _has_module(module, roots) else f"{text}:main"


def _has_module(name: str, roots: list[str]) -> bool:
    """Whether a file answers to the module's name; a mere folder holds no function."""
    *parents, last = name.split(".")
    folders = roots
    for parent in parents:
        below = [folder for root in folders if os.path.isdir(folder := os.path.join(root, parent))]
        # As in Python: a package that has an __init__ hides all others of its name.
        packages = [folder for folder in below if os.path.isfile(os.path.join(folder, "__init__.py"))]
        folders = packages[:1] or below
    ends = [*all_suffixes(), f"{os.sep}__init__.py"]
    return any(os.path.isfile(os.path.join(folder, last) + end) for folder in folders for end in ends)


def _resolve_function(function: Callable[..., Any]) -> tuple[str, Callable[..., Any] | None]:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    if isinstance(module, str) and module not in ("__main__", "builtins") and "<" not in name:
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is function:
            return f"{module}:{name}", None
    return f"{HERE}{name.rpartition('.')[2]}", function
