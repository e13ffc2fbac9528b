"""What is checked alike of the options of source and sink, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_sdk.connectors.onelake.location import is_deferred
from aiflow_sdk.errors import ConfigurationError, did_you_mean


def check_one_place(kind: str, table: str | None, path: str | None) -> None:
    """Raise ``ConfigurationError`` unless just one of ``table`` and ``path`` is given."""
    if (table is None) == (path is None):
        said = "both 'table' and 'path'" if table is not None else "neither 'table' nor 'path'"
        raise ConfigurationError(
            "missing-option",
            f"'{kind}' has {said}",
            hint='write table="schema.table", or path="…" below the lake\'s root',
        )


def check_format(format: str) -> None:
    """Raise ``ConfigurationError`` (``unsupported-format``) for a table format that is not built."""
    if format != "delta" and not is_deferred(format):
        raise ConfigurationError(
            "unsupported-format", f"tables of format '{format}' are not supported yet", hint='write format="delta"'
        )


def check_choice(code: str, name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` unless the value is one of ``choices``, or known only where the task runs."""
    if value in choices or is_deferred(value):
        return
    raise ConfigurationError(
        code, f"there is no {name} '{value}'", hint=did_you_mean(value, choices) or f"write {', '.join(choices)}"
    )
