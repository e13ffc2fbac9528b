"""How the author names a function, and its one form in the IR: ``pkg.mod:function``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from aiflow_sdk.code import module_file
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import HERE

_NAME = r"[^\W\d]\w*"
_FORM = re.compile(rf"{_NAME}(\.{_NAME})*(:{_NAME}(\.{_NAME})*)?")


def resolve_entrypoint(named: object, roots: Sequence[str]) -> tuple[str, Callable[..., Any] | None]:
    """Return ``pkg.mod:function`` for what the author named, and the function where it exists only in this process.

    Of text without a colon the whole is the module where there is one of that name below ``roots`` (its ``main`` is
    meant), else the last part is a function of the module before it; where there is neither, ``main`` of the whole is
    meant. Modules are looked for, never imported. Whether the function exists is the compiler's question.
    """
    if isinstance(named, str):
        return _resolve_text(named.strip(), roots), None
    if callable(named):
        return _resolve_function(named)
    raise DefinitionError(
        "bad-entrypoint", f"{named!r} is no function", hint='write fn="package.module:function", or the function itself'
    )


def _resolve_text(text: str, roots: Sequence[str]) -> str:
    if not _FORM.fullmatch(text):
        raise DefinitionError(
            "bad-entrypoint", f"{text!r} does not name a function", hint="write 'package.module:function'"
        )
    if ":" in text:
        return text
    if module_file(text, roots):
        return f"{text}:main"
    module, _, function = text.rpartition(".")
    return f"{module}:{function}" if module and module_file(module, roots) else f"{text}:main"


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
