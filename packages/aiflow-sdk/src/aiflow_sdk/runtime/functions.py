"""Finds the object that an entrypoint names. Besides discovery the only place that imports a user's module."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from aiflow_sdk.errors import UserCodeError, unknown_name
from aiflow_sdk.ir import HERE


def load_function(
    entrypoint: str, *, node_id: str, functions: Mapping[str, Callable[..., Any]] | None = None
) -> Callable[..., Any]:
    """Return the function ``pkg.mod:function``, importing its module.

    Raises ``UserCodeError`` with the user's traceback when the import fails, ``UnknownNameError`` for no such function.
    """
    if functions and node_id in functions:
        return functions[node_id]
    if entrypoint.startswith(HERE):
        raise UserCodeError(
            "function-not-importable",
            f"'{entrypoint.removeprefix(HERE)}' exists only where it was typed",
            hint="put it into a module of the project",
        )
    module_name, _, attribute = entrypoint.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises while it is imported
        raise UserCodeError(
            "user-module-failed",
            f"importing '{module_name}' failed: {type(error).__name__}: {error}",
            notes=_user_lines(error),
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
            raise unknown_name("unknown-function", f"function in '{module_name}':", part, known)
        found = getattr(found, part)
    return getattr(found, "function", found) if not callable(found) else found  # type: ignore[no-any-return]  # a user's object


def _user_lines(error: BaseException) -> list[str]:
    lines = traceback.format_exception(error)
    kept = [line for line in lines if "importlib" not in line and __file__ not in line]
    return "".join(kept).rstrip().splitlines()
