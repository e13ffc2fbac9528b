"""Which tables an environment's lake has, and what is known of each without reading rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from aiflow_sdk.config import Environment, LakeRoot, resolve_secrets
from aiflow_sdk.connectors.onelake.location import LOG_FOLDER, RESERVED, dataset_name, read_places
from aiflow_sdk.connectors.onelake.schema import arrow_name
from aiflow_sdk.connectors.onelake.table import ActiveFile, load_table
from aiflow_sdk.connectors.onelake.values import shown_text
from aiflow_sdk.plugins import TableFacts
from aiflow_sdk.stores import Store, open_store

_DEEPEST = 5
"""How many folders below the root a table is looked for; one that ``path=`` put deeper is not found."""


def lake_tables(root: LakeRoot, environment: Environment) -> list[str]:
    """Return the names of all tables of a lake, as :func:`dataset_name` gives them, sorted."""
    store = open_store(root.address, storage=resolve_secrets(dict(root.storage), environment))
    return sorted(dataset_name(None, key).name for key in _below(store, ""))


def _below(store: Store, folder: str) -> Iterator[str]:
    names = store.folders(folder)
    if folder and LOG_FOLDER in names:
        yield folder
        return
    if folder.count("/") + 2 > _DEEPEST:
        return
    for name in names:
        # Files below the lake lie in folders column=value; no table does.
        if not (name.startswith((".", "_")) or "=" in name or name in RESERVED):
            yield from _below(store, f"{folder}/{name}" if folder else name)


def facts_of(environment: Environment, name: str) -> TableFacts | None:
    """Return what the log of a table of the environment's own lake tells, or None where there is no such table."""
    (place,) = read_places(replace(environment, reads=()), None, name if "/" in name else name.replace(".", "/"))
    state = load_table(place)
    if state is None:
        return None
    partitions: dict[str, list[ActiveFile]] = {}
    for file in state.files:
        shown = "/".join(f"{column}={shown_text(file.partition[column], 'UTC')}" for column in state.partition_columns)
        partitions.setdefault(shown, []).append(file)
    return TableFacts(
        version=state.version,
        rows=_rows(state.files) if not state.has_deletion_vectors else None,
        bytes=sum(file.bytes for file in state.files),
        columns=tuple((column, arrow_name(kind)) for column, kind in state.types.items()),
        partitions={
            shown: (None if state.has_deletion_vectors else _rows(files), sum(file.bytes for file in files))
            for shown, files in sorted(partitions.items())
        },
    )


def _rows(files: Sequence[ActiveFile]) -> int | None:
    counts = [file.rows for file in files if file.rows is not None]
    return sum(counts) if len(counts) == len(files) else None
