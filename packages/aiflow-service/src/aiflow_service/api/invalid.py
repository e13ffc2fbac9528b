"""What is told of a parameter or a field that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def why_invalid(error: Mapping[str, Any]) -> str:
    """Return what one of pydantic's errors says, for people: of a name what names are, and not a pattern."""
    if error.get("ctx", {}).get("pattern") == NAME_PATTERN:
        return "no name: it has small letters, digits, '.', '_' and '-', 63 at most, the first a letter or a digit"
    return str(error["msg"])
