"""Tables as people name them, looked up at the metadata service."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.errors import UnknownNameError

if TYPE_CHECKING:
    from aiflow_sdk.service import Service

namespace_option = click.option(
    "--namespace", metavar="NAME", help="Whose TABLE it is, where several have one of that name."
)
LAKE = "onelake"
"""The namespace of the lake's tables, which is meant where none is given."""
_NEAR = 5


def find_dataset(service: Service, name: str, namespace: str | None = None) -> dict[str, Any] | None:
    """Return the dataset of a name: of the namespace that is given, else of the lake, else of the only one.

    Raises ``UnknownNameError`` (``ambiguous-table``), ``ReceiverError``.
    """
    spaces = [namespace] if namespace is not None else [LAKE, None]
    for space in spaces:
        found = (service.get("datasets", namespace=space, name=name, limit=_NEAR) or {}).get("items", [])
        if len(found) > 1:
            raise UnknownNameError(
                "ambiguous-table",
                f"several tables are called '{name}'",
                hint="say which with --namespace",
                notes=[f"it is in: {', '.join(one['namespace'] for one in found)}"],
            )
        if found:
            only: dict[str, Any] = found[0]
            return only
    return None


def require_dataset(service: Service, name: str, namespace: str | None = None) -> dict[str, Any]:
    """Return what :func:`find_dataset` does. Raises ``UnknownNameError`` (``unknown-table``) where there is none."""
    found = find_dataset(service, name, namespace)
    if found is None:
        raise unknown_table(service, name)
    return found


def unknown_table(service: Service, name: str) -> UnknownNameError:
    """Return the error for a table that is not told of, which does not say whether another team has one.

    Raises ``ReceiverError``.
    """
    near = _near(service, name)
    return UnknownNameError(
        "unknown-table",
        f"the metadata service has heard of no table '{name}' that you may see",
        hint=f"did you mean {' or '.join(repr(one) for one in near)}?"
        if near
        else "runs tell it, and deployments: aiflow run, aiflow deploy, aiflow sync",
    )


def _near(service: Service, name: str) -> list[str]:
    """Return names of tables that look like one, the likest first."""
    parts = [part for part in name.split(".") if part]
    known: set[str] = set()
    for part in {*parts, *(part[:4] for part in parts)}:
        known |= {one["name"] for one in (service.get("datasets", q=part[:200], limit=500) or {}).get("items", [])}
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
