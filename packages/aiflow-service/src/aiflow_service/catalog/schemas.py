"""Writes the columns of datasets as their newest schema has them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from aiflow_service.catalog.memory import CatalogMemory
from aiflow_service.catalog.names import Names
from aiflow_service.database.bulk import select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import columns, datasets
from aiflow_service.openlineage import Schema

_STORED = sa.select(datasets.c.id, datasets.c.schema_time, datasets.c.schema_digest)


def write_schemas(
    writing: Writing, names: Names, memory: CatalogMemory, said: Iterable[tuple[int, int, Schema]]
) -> None:
    """Store schemas, each given with its dataset's id and the time that it is of; an older one changes nothing.

    Of one time the one with the greater digest counts: any order of arrival gives the same.
    """
    newest: dict[int, tuple[int, str, Schema]] = {}
    for dataset_id, time, schema in said:
        known = memory.schemas.get(dataset_id)
        if known is not None and (time, schema.digest) <= known:
            continue
        if dataset_id not in newest or (time, schema.digest) > newest[dataset_id][:2]:
            newest[dataset_id] = (time, schema.digest, schema)
    if not newest:
        return
    stored = {row[0]: row for row in select_in(writing.connection, _STORED, datasets.c.id, newest)}
    fresh, changed, replaced = [], [], []
    for dataset_id, (time, digest, schema) in sorted(newest.items()):
        _, then, before = stored[dataset_id]
        if then is not None and (then, before) >= (time, digest):
            memory.schemas.learn(dataset_id, (then, before))
            continue
        fresh.append((dataset_id, time, digest))
        memory.schemas.learn(dataset_id, (time, digest))
        if before != digest:
            changed.append((dataset_id, schema))
            if before is not None:
                replaced.append(dataset_id)
    update_rows(writing, datasets, ("id", "schema_time", "schema_digest"), fresh)
    if not changed:
        return
    for dataset_id in replaced:
        mine = (columns.c.dataset_id == dataset_id) & columns.c.ordinal.is_not(None)
        writing.connection.execute(columns.update().where(mine).values(ordinal=None))
    names.prepare_columns((dataset_id, field.name) for dataset_id, schema in changed for field in schema.fields)
    rows = [
        (names.column(dataset_id, field.name), ordinal, field.type, field.description)
        for dataset_id, schema in changed
        for ordinal, field in enumerate(schema.fields)
    ]
    update_rows(writing, columns, ("id", "ordinal", "type", "description"), rows)
