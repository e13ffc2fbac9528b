"""Changes of a table's columns: which are refused, and making those that the sink allows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiflow_sdk.connectors.onelake.change import EVOLUTIONS, Change, Evolution
from aiflow_sdk.connectors.onelake.features import check_removable
from aiflow_sdk.connectors.onelake.identity import Owner, rewritten_folder
from aiflow_sdk.connectors.onelake.rewriting import forget_files, rewrite_files
from aiflow_sdk.connectors.onelake.schema import arrow_name, check_columns
from aiflow_sdk.connectors.onelake.table import TableState, load_table
from aiflow_sdk.connectors.onelake.values import stored_text
from aiflow_sdk.errors import DataError
from aiflow_sdk.frames import is_wider

if TYPE_CHECKING:
    from deltalake import Schema


def allowed_changes(
    table: Mapping[str, str], frame: Mapping[str, str], evolution: Evolution
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns to add and those to widen, each with its new type, that the sink allows."""
    known = {column.casefold() for column in table}  # by which Delta tells columns apart
    added = {column: kind for column, kind in frame.items() if column.casefold() not in known and evolution != "none"}
    widened = {
        column: frame[column]
        for column, kind in table.items()
        if evolution == "widen" and column in frame and is_wider(arrow_name(frame[column]), arrow_name(kind))
    }
    return added, widened


def refuse_changes(change: Change, state: TableState) -> None:
    """Raise ``DataError`` (``schema-mismatch``) where the frame fits neither the table nor what it may become."""
    added, widened = allowed_changes(state.types, change.types, change.evolution)
    if column := next((column for column in widened if column in state.partition_columns), None):
        raise DataError(
            "schema-mismatch",
            f"'{column}' is {change.types[column]} in the frame and {state.types[column]} in the table "
            f"'{change.name}', which is partitioned by it",
            hint=f"cast '{column}' to {state.types[column]}",
        )
    check_columns(change.name, {**state.types, **widened, **added}, change.types, addable=_addable(state, change))


def _addable(state: TableState, change: Change) -> str | None:
    """Return what to write so that the change is allowed, where anything is."""
    for evolution in EVOLUTIONS:
        added, widened = allowed_changes(state.types, change.types, evolution)
        if {**state.types, **widened, **added} == change.types:
            return f'schema_evolution="{evolution}"'
    return None  # no setting lets a frame lack a column, or change one's kind


def evolve(change: Change, state: TableState) -> bool:
    """Give the table the columns that the frame has and it lacks, and wider types; return whether anything was to do.

    Each is a commit of its own before the write's: to rows that are there it adds nulls, or nothing.
    """
    from deltalake import CommitProperties, PostCommitHookProperties
    from deltalake.transaction import AddAction

    added, widened = allowed_changes(state.types, change.types, change.evolution)
    properties = CommitProperties(max_commit_retries=0)
    fields = {field.name: field for field in change.schema.fields}
    if added:
        state.table.alter.add_columns([fields[name] for name in added], commit_properties=properties)
        return True
    if not widened:
        return False
    import polars as pl

    state.check_writable(change.name, "overwrite")
    check_removable(change.name, state.table, (file.path for file in state.files))
    schema = _with_types(state.table.schema(), change.schema, widened)
    wider = pl.Schema(schema)
    generation = change.request.run.generation
    folders: dict[Owner | None, str] = {}
    files = rewrite_files(
        state.place,
        state.files,
        pl.Schema(state.table.schema()),
        # Cast, not read as wider: polars' scan has no way from whole numbers to decimals or floats.
        lambda frame: frame.with_columns(pl.col(column).cast(wider[column]) for column in widened),
        lambda path: folders.setdefault(Owner.of_file(path), rewritten_folder(Owner.of_file(path), generation)),
    )
    now = int(time.time() * 1000)
    try:
        state.table.create_write_transaction(
            [
                AddAction(
                    file.path,
                    file.bytes,
                    {column: stored_text(value) for column, value in file.partition.items()},
                    now,
                    True,
                    f'{{"numRecords":{file.rows}}}',
                )
                for file in files
            ],
            "overwrite",  # of all files, which is what changes the schema in the same step
            schema,
            list(state.partition_columns),
            commit_properties=properties,
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False),
        )
    except BaseException as error:
        after = load_table(state.place)
        active = {file.path for file in after.files} if after else set()
        landed = after is not None and all(after.types[name] == kind for name, kind in widened.items())
        if isinstance(error, Exception) and landed and active.issuperset(file.path for file in files):
            return True  # its answer was lost
        # A put that an object store did not answer may take effect later, and needs its files.
        if state.place.folder is not None or (after is not None and after.version > state.version):
            forget_files(state.place, [file.path for file in files])
        raise
    return True


def _with_types(table: Schema, frame: Schema, widened: Mapping[str, str]) -> Schema:
    from deltalake import Schema

    document = json.loads(table.to_json())
    new = {field["name"]: field for field in json.loads(frame.to_json())["fields"]}
    for field in document["fields"]:
        if field["name"] in widened:
            field["type"] = new[field["name"]]["type"]
    return Schema.from_json(json.dumps(document))
