"""One dataset under several names is one: what symlinks say, applied to what is stored.

A table at a storage address has a name in a catalog too. Whichever is heard of first makes the dataset; when an event
says that two known ones are the same, the elder (the lesser id) takes over the younger one's names, edges and columns,
and its owner where the elder was only read (docs/decisions/0031).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from aiflow_service.catalog import Names
from aiflow_service.database import Writing
from aiflow_service.database.tables import (
    column_edges,
    columns,
    dataset_names,
    datasets,
    declared_edges,
    edges,
    events,
)
from aiflow_service.ingest.sender import Sent
from aiflow_service.openlineage import DatasetMention
from aiflow_service.openlineage.events import Name


def join_symlinks(
    writing: Writing,
    names: Names,
    may_describe: Callable[[Sent, int], bool],
    mentions: Iterable[tuple[Sent, DatasetMention]],
) -> None:
    """Give every dataset that has symlinks all its names. Each mention is given with the event that made it.

    Where a name leads to a dataset that the sender may not describe, it stays that dataset's. Datasets of two teams
    become one only where the sender speaks for all, for one of them would change its team: nobody makes another team's
    table a part of its own, also not with a grant to write.
    """
    linked = [(sent, mention) for sent, mention in mentions if mention.symlinks]
    linked.sort(key=lambda one: not one[1].is_output)  # of one group those that write come first
    if not linked:
        return
    every = list(dict.fromkeys(name for _, mention in linked for name in (mention.name, *mention.symlinks)))
    names.find_datasets(every)
    is_merged = False
    for sent, mention in linked:
        wanted = [
            name
            for name in dict.fromkeys((mention.name, *mention.symlinks))
            if (found := names.known_dataset(name)) is None or may_describe(sent, found)
        ]
        if mention.name not in wanted or names.claimed_by_others(sent.team_id, wanted, sent.speaks_for_all):
            continue
        there = sorted({found for name in wanted if (found := names.known_dataset(name)) is not None})
        if not sent.speaks_for_all and len({names.owner(found) for found in there}) > 1:
            continue
        dataset_id = there[0] if there else names.make_dataset(sent.team_id, mention.name, is_written=mention.is_output)
        if len(there) > 1:
            names.store_datasets()
        known = {found: name for name in reversed(wanted) if (found := names.known_dataset(name)) is not None}
        for younger in there[1:]:
            if _merge(writing, names, known, dataset_id, younger):
                names.forget_datasets()
                names.find_datasets(every)
            else:  # to find all anew for each of a thousand takes a minute
                names.lead_to(dataset_id, (name for name in every if names.known_dataset(name) == younger))
            is_merged = True
        for name in wanted:
            if names.known_dataset(name) is None:
                names.add_name(dataset_id, name)
    names.store_datasets()
    if is_merged:  # names that were not said here may be remembered too
        names.forget_datasets()


def _merge(writing: Writing, names: Names, known: Mapping[int, Name], elder: int, younger: int) -> bool:
    """Make the younger dataset a part of the elder one; ``known`` says under which names they were joined.

    Return whether one of them has lost names by it, which are to be found anew.

    Who writes it owns it: the elder that was only read becomes the younger's owner's. What a reader has said goes
    before it would be told to another team.
    """
    run = writing.connection.execute
    writing.number("dataset_merges")
    whole = {row.id: row for row in run(sa.select(datasets).where(datasets.c.id.in_((elder, younger))))}
    owner, is_given = whole[younger].team_id, whole[younger].is_owned > whole[elder].is_owned
    is_anothers: bool = owner != whole[elder].team_id
    if is_given and is_anothers:
        names.give_datasets({elder: (owner, known[elder])})
        words = {name: getattr(whole[younger], name) for name in ("schema_time", "schema_digest", "facts")}
        run(datasets.update().where(datasets.c.id == elder).values(words))
    elif is_given:
        run(datasets.update().where(datasets.c.id == elder).values(is_owned=1))
    elif is_anothers and not whole[younger].is_owned:
        names.forget_words({younger: known[younger]})
    run(dataset_names.update().where(dataset_names.c.dataset_id == younger).values(dataset_id=elder))
    for table in (edges, declared_edges):
        _move(writing, table, {"dataset_id": elder}, table.c.dataset_id == younger)
    of_elder = run(sa.select(columns.c.name, columns.c.id).where(columns.c.dataset_id == elder))
    kept = {row[0]: row[1] for row in of_elder}
    for row in list(run(sa.select(columns).where(columns.c.dataset_id == younger))):
        said = {"ordinal": row.ordinal, "type": row.type, "description": row.description}
        if not (is_given and is_anothers):
            said = {"ordinal": None}
        if row.name not in kept:
            run(columns.update().where(columns.c.id == row.id).values(dataset_id=elder, **said))
            continue
        _move(writing, column_edges, {"target_id": kept[row.name]}, column_edges.c.target_id == row.id)
        _move(writing, column_edges, {"source_id": kept[row.name]}, column_edges.c.source_id == row.id)
        run(columns.delete().where(columns.c.id == row.id))
        if is_given and is_anothers:
            run(columns.update().where(columns.c.id == kept[row.name]).values(said))
    run(events.update().where(events.c.dataset_id == younger).values(dataset_id=elder))
    merged = (datasets.c.id == younger) | (datasets.c.merged_into == younger)
    run(datasets.update().where(merged).values(merged_into=elder))
    return is_anothers


def _move(writing: Writing, table: sa.Table, values: dict[str, int], mine: sa.ColumnElement[bool]) -> None:
    """Give rows a new key; where it is taken, the two become one that has held as long as both."""
    names = [column.name for column in table.c]
    chosen = [sa.literal(values[name]).label(name) if name in values else table.c[name] for name in names]
    insert = postgresql.insert if writing.is_postgres else sqlite.insert
    least, greatest = (sa.func.least, sa.func.greatest) if writing.is_postgres else (sa.func.min, sa.func.max)
    moving = insert(table).from_select(names, sa.select(*chosen).where(mine))
    if "until" in table.c:
        holds = table.c.until.is_(None) | moving.excluded.until.is_(None)
        joined: dict[str, sa.ColumnElement[Any]] = {
            "until": sa.case((holds, None), else_=greatest(table.c.until, moving.excluded.until))
        }
    else:
        joined = {
            "first_seen": least(table.c.first_seen, moving.excluded.first_seen),
            "last_seen": greatest(table.c.last_seen, moving.excluded.last_seen),
        }
    keys = [column.name for column in table.primary_key]
    statement = moving.on_conflict_do_update(index_elements=keys, set_=joined)
    writing.connection.execute(statement)
    writing.connection.execute(table.delete().where(mine))
