"""Names that columns of a table cannot have."""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_sdk.errors import DataError


def check_names(names: Sequence[str], what: str) -> None:
    """Raise ``DataError`` (``bad-column-names``) for names of columns, or fields, that not every engine tells apart.

    Spark takes ``A`` and ``a`` for one column, and polars takes ``*`` and ``^…$`` for patterns of names.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.get(name.casefold())) is not None:
            raise DataError(
                "bad-column-names",
                f"{what} has both '{other}' and '{name}', which differ in upper and lower case alone"
                if other != name
                else f"{what} has '{name}' twice",
                hint="rename or drop one of them",
            )
        seen[name.casefold()] = name
        is_none = not name or "\0" in name
        if is_none or name == "*" or (name.startswith("^") and name.endswith("$")):
            raise DataError(
                "bad-column-names",
                f"{what} has a column called {name!r}, which "
                + ("is no name" if is_none else "polars takes for a pattern of names"),
                hint="rename it",
            )
