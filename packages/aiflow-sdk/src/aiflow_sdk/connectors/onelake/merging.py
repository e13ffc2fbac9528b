"""Rows of a write merged into a table by keys.

A file that loses rows is written anew, without them, under the same owner. So at any time it can be told whose a row
is, and a later execution takes away just what an earlier one of it had put there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aiflow_sdk.connectors.onelake.change import AddedFile, Change, Merge
from aiflow_sdk.connectors.onelake.features import check_removable
from aiflow_sdk.connectors.onelake.identity import BY_PARTITION_APP, WITHDRAWN_APP, Owner, rewritten_folder
from aiflow_sdk.connectors.onelake.location import TablePlace
from aiflow_sdk.connectors.onelake.rewriting import rewrite_files
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState
from aiflow_sdk.connectors.parquet import FileGroup, group_files, scan_polars
from aiflow_sdk.errors import DataError, plural, unknown_name
from aiflow_sdk.plugins import Scan

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 5
_PATH, _THEIRS, _NOW, _OUTRANKED = "\0path", "\0theirs", "\0now", "\0outranked"
"""Columns beside those of the table, whose names have no such character (:func:`aiflow_sdk.frames.check_names`)."""


@dataclass(frozen=True)
class Merged:
    """What a merge does to one version of a table."""

    removed: Sequence[ActiveFile]
    added: Sequence[AddedFile]
    kept: Sequence[AddedFile] = ()
    noted: Mapping[str, int] = field(default_factory=dict)


def check_rows(change: Change, types: Mapping[str, str], schema: pl.Schema) -> None:
    """Raise ``DataError`` for rows that cannot be merged: ``unknown-column``, ``duplicate-keys``, ``null-key``."""
    import polars as pl

    merge = _merge_of(change)
    for column in (*merge.keys, *([merge.order_by] if merge.order_by else [])):
        if column not in types:
            raise unknown_name("unknown-column", f"column of '{change.name}'", column, types)
    if not change.files:
        return
    keys = list(merge.keys)
    rows = _rows(change.place, change.added(types), schema, merge, with_path=False)
    nulls = rows.filter(pl.any_horizontal(pl.col(keys).is_null())).head(_SHOWN).collect()
    if nulls.height:
        raise DataError(
            "null-key",
            f"rows for '{change.name}' have no key: {_shown(nulls, keys)}",
            hint=f"filter rows without {' or '.join(keys)}; nothing can be matched with null",
        )
    twice = (
        rows.group_by(keys).len().filter(pl.col("len") > 1).sort("len", *keys, descending=True).head(_SHOWN).collect()
    )
    if twice.height:
        counted = ", ".join(f"{_key(row, keys)} {row['len']} times" for row in twice.iter_rows(named=True))
        raise DataError(
            "duplicate-keys",
            f"of rows for '{change.name}' several have one key ({', '.join(keys)}): {counted}",
            hint="keep one row a key in the transform, or add a column to keys",
        )


def may_lack_rows(state: TableState, owner: Owner) -> bool:
    """Whether a row that the owner merged may have been replaced by one that was deleted or lowered since.

    Where all were merged in the order of partitions, one that stood in its place is of no earlier partition.
    """
    number, since = state.generation(WITHDRAWN_APP) or 0, state.generation(owner.since_app) or 0
    if number <= since or not state.generation(owner.under_app):
        return False
    noted = state.all_noted() if state.generation(BY_PARTITION_APP) else None
    if noted is None:
        return True
    prefix = replace(owner, part="").withdrawn_app
    withdrew = (app.removeprefix(prefix) for app, at in noted.items() if app.startswith(prefix) and at > since)
    return any(replace(owner, part=part).outranks(owner) for part in withdrew)


def merge_rows(change: Change, state: TableState, own: Sequence[ActiveFile], added: Sequence[AddedFile]) -> Merged:
    """Return what merging the rows does. What is written for it lies in the table's folder and is nobody's yet.

    Raises ``DataError`` (``values-replaced``) where an earlier execution's rows cannot be taken back exactly.
    """
    import polars as pl

    merge, keys = _merge_of(change), list(_merge_of(change).keys)
    # Columns that the table is to get are looked at as if it had them: what is refused changes nothing.
    schema = pl.Schema({**pl.Schema(state.table.schema()), **pl.Schema(change.schema)})
    mine = _rows(state.place, added, schema, merge).collect(engine="streaming")
    names = {id(file) for file in own}
    # A deleted row still stands in its file.
    check_removable(change.name, state.table, (file.path for file in state.files))
    others = _candidates([file for file in state.files if id(file) not in names], mine, keys)
    met = _met(change, state, others, mine, schema)
    over = sum(state.generation(owner.over_app) or 0 for owner in change.owners)
    stale, lowered = _taken_back(change, state, own, mine, schema) if own and over else (None, False)
    lost = met.filter(~pl.col(_OUTRANKED)).select(keys).unique()
    won = met.filter(pl.col(_OUTRANKED)).join(lost, on=keys, how="anti", nulls_equal=True)

    kept: list[AddedFile] = []
    if stale is not None and stale.height and merge.withdrawn == "keep":
        kept += _only(change, state, own, stale, schema)
    touched = {path for (path,) in won.select(_PATH).unique().iter_rows()}
    removed = [file for file in others if state.address(file) in touched]
    kept += _without(change, state, removed, won.select(keys), schema)
    if lost.height:
        late = {path for (path,) in mine.join(lost, on=keys, how="semi").select(_PATH).unique().iter_rows()}
        whole = [file for file in added if state.place.file(file.path) not in late]
        reduced = _without(change, state, [file for file in added if state.place.file(file.path) in late], lost, schema)
        added = [*whole, *reduced]

    # What stays out stands beneath the row that it lost to, as what was replaced does beneath the one that replaced it.
    beneath = Counter(Owner.of_file(path) for path in _paths_within(state, met.join(lost, on=keys, how="semi")))
    noted = {owner.over_app: (state.generation(owner.over_app) or 0) + rows for owner, rows in beneath.items() if owner}
    noted |= {owner.under_app: 1 for owner in {Owner.of_file(file.path) for file in removed} if owner}
    noted[change.owner.under_app] = int(lost.height > 0)
    deleted = stale is not None and stale.height > 0 and merge.withdrawn == "delete"
    # What stood there before and is gone makes whoever wrote it out of date: see the sink's identity.
    noted |= _withdrawals(change, state, 1 if deleted or lowered else 0)
    if not merge.is_by_partition(change.owner) and state.generation(BY_PARTITION_APP):
        noted[BY_PARTITION_APP] = 0
    noted |= {owner.over_app: 0 for owner in change.owners[1:] if state.generation(owner.over_app)}
    return Merged([*own, *removed], added, kept, {**noted, change.owner.over_app: over + won.height})


def _withdrawals(change: Change, state: TableState, more: int) -> dict[str, int]:
    number = (state.generation(WITHDRAWN_APP) or 0) + more
    noted = {WITHDRAWN_APP: number, change.owner.since_app: number} if number else {}
    return noted | ({change.owner.withdrawn_app: number} if more else {})


def _taken_back(
    change: Change, state: TableState, own: Sequence[ActiveFile], mine: pl.DataFrame, schema: pl.Schema
) -> tuple[pl.DataFrame, bool]:
    """Return the keys that earlier executions' rows have and the new ones lack, and whether some have a lower order.

    Raises ``DataError`` (``values-replaced``) unless the sink says what becomes of them.
    """
    import polars as pl

    merge, keys = _merge_of(change), list(_merge_of(change).keys)
    before = _rows(state.place, own, schema, merge)
    asked = [before.join(mine.lazy(), on=keys, how="anti").select(keys)]
    if merge.order_by is not None:
        # What such a row took the place of may come after the new one, which then is not the one that stays.
        now = mine.lazy().select(*keys, pl.col(merge.order_by).alias(_NOW))
        found = before.join(now, on=keys, how="inner")
        asked.append(found.filter(_is_greater(pl.col(merge.order_by), pl.col(_NOW))).select(keys))
    stale, *lowered = pl.collect_all(asked, engine="streaming")
    if merge.withdrawn == "refuse" and any(found.height for found in (stale, *lowered)):
        raise _values_replaced(change, stale, lowered[0] if lowered else stale.clear())
    return stale, any(found.height for found in lowered)


def _is_greater(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Whether a value comes after another; null comes before all."""
    import polars as pl

    return pl.when(one.is_null() | other.is_null()).then(one.is_not_null() & other.is_null()).otherwise(one > other)


def _paths_within(state: TableState, met: pl.DataFrame) -> list[str]:
    """Return the file of each row, relative to the table's folder."""
    prefix = state.place.file("")
    return [path.removeprefix(prefix).lstrip("/") for path in met.get_column(_PATH).to_list()]


def _merge_of(change: Change) -> Merge:
    assert change.merge is not None  # an upsert has one
    return change.merge


def _candidates(files: Sequence[ActiveFile], mine: pl.DataFrame, keys: Sequence[str]) -> list[ActiveFile]:
    """Return the files that may hold one of the keys, as far as their partition values tell."""
    if not files:
        return []
    columns = [key for key in keys if key in files[0].partition]
    wanted = {column: set(mine.get_column(column).unique().to_list()) for column in columns}
    return [file for file in files if all(file.partition[column] in wanted[column] for column in columns)]


def _met(
    change: Change, state: TableState, others: Sequence[ActiveFile], mine: pl.DataFrame, schema: pl.Schema
) -> pl.DataFrame:
    """Return keys, file and verdict of the table's rows that have the key of a new one."""
    import polars as pl

    merge, keys = _merge_of(change), list(_merge_of(change).keys)
    ranks = {state.address(file): change.owner.outranks(Owner.of_file(file.path)) for file in others}
    theirs = _rows(state.place, others, schema, merge)
    rank = (
        pl.col(_PATH).replace_strict(list(ranks), list(ranks.values()), return_dtype=pl.Boolean)
        if ranks
        else pl.lit(True)
    )
    if merge.order_by is None:
        found = theirs.join(mine.lazy().select(keys), on=keys, how="inner").with_columns(rank.alias(_OUTRANKED))
    else:
        order, before = pl.col(merge.order_by), pl.col(_THEIRS)
        verdict = pl.when(order.eq_missing(before)).then(rank).otherwise(_is_greater(order, before))
        found = (
            theirs.rename({merge.order_by: _THEIRS})
            .join(mine.lazy().select(*keys, merge.order_by), on=keys, how="inner")
            .with_columns(verdict.alias(_OUTRANKED))
        )
    return found.select(*keys, _PATH, _OUTRANKED).collect(engine="streaming")


def _rows(
    place: TablePlace,
    files: Iterable[ActiveFile | AddedFile],
    schema: pl.Schema,
    merge: Merge,
    *,
    with_path: bool = True,
) -> pl.LazyFrame:
    """Return keys, order and file of the files' rows."""
    import polars as pl

    columns = list(dict.fromkeys([*merge.keys, *([merge.order_by] if merge.order_by else [])]))
    groups = group_files((place.file(file.path), file.partition) for file in files)
    path = [_PATH] if with_path else []
    if not groups:
        empty = pl.LazyFrame(schema={**{name: schema[name] for name in columns}, _PATH: pl.String()})
        return empty.select(*columns, *path)
    parts = [
        scan_polars(
            [FileGroup((one,), group.values)], schema, Scan(columns=tuple(columns)), place.options
        ).with_columns(pl.lit(one).alias(_PATH))
        for group in groups
        for one in group.paths
    ]
    return pl.concat(parts).select(*columns, *path)


def _without(
    change: Change, state: TableState, files: Sequence[ActiveFile | AddedFile], keys: pl.DataFrame, schema: pl.Schema
) -> list[AddedFile]:
    """Write each file anew without the rows of these keys, and return what has rows."""
    names = keys.columns
    return rewrite_files(
        state.place, files, schema, lambda frame: frame.join(keys.lazy(), on=names, how="anti"), _folder_of(change)
    )


def _only(
    change: Change, state: TableState, files: Sequence[ActiveFile], keys: pl.DataFrame, schema: pl.Schema
) -> list[AddedFile]:
    """Write each file anew with the rows of these keys alone, and return what has rows."""
    names = keys.columns
    return rewrite_files(
        state.place, files, schema, lambda frame: frame.join(keys.lazy(), on=names, how="semi"), _folder_of(change)
    )


def _folder_of(change: Change) -> Any:
    generation = change.request.run.generation
    folders: dict[Owner | None, str] = {}

    def folder_of(path: str) -> str:
        owner = Owner.of_file(path)
        return folders.setdefault(owner, rewritten_folder(owner, generation))

    return folder_of


def _values_replaced(change: Change, stale: pl.DataFrame, lowered: pl.DataFrame) -> DataError:
    merge, keys = _merge_of(change), list(_merge_of(change).keys)
    told = []
    if stale.height:
        told.append(f"{plural(stale.height, 'key')} fewer ({_shown(stale, keys)})")
    if lowered.height:
        told.append(f"a lower '{merge.order_by}' for {plural(lowered.height, 'key')} ({_shown(lowered, keys)})")
    return DataError(
        "values-replaced",
        f"{change.request.run.partition_text} has {' and '.join(told)} than its earlier execution merged into "
        f"'{change.name}'; values of other partitions stood there before and are gone",
        hint='write withdrawn="delete" to delete rows whose keys are not there any more, or withdrawn="keep" to let '
        "them stand; either lets a lower value stand too",
    )


def _shown(frame: pl.DataFrame, keys: Sequence[str]) -> str:
    shown = ", ".join(_key(row, keys) for row in frame.head(_SHOWN).iter_rows(named=True))
    return shown + (" …" if frame.height > _SHOWN else "")


def _key(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return "/".join(f"{name}={row[name]}" for name in keys)
