"""What a write takes the place of, mode by mode: a pure rule over one version of a table, merging excepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, assert_never

from aiflow_sdk.connectors.onelake.change import AddedFile, Change, Mode, Replacement
from aiflow_sdk.connectors.onelake.identity import (
    BY_PARTITION_APP,
    Owner,
    begun_app,
    made_app,
    partition_app,
    waiting_app,
    written_app,
)
from aiflow_sdk.connectors.onelake.merging import merge_rows
from aiflow_sdk.connectors.onelake.succession import other_writers
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState
from aiflow_sdk.connectors.onelake.values import shown_text, typed_value
from aiflow_sdk.connectors.onelake.writers import Writer
from aiflow_sdk.connectors.parquet import missing_partition_column, rows_outside
from aiflow_sdk.errors import DataError, plural
from aiflow_sdk.plugins import Write
from aiflow_sdk.stores import store_failures


def generation_apps(request: Write, mode: Mode, earlier: Sequence[Writer] = ()) -> list[str]:
    """Return the applications whose generation a write checks, without a look at the table's types: its own first,
    then those of earlier names."""
    run = request.run
    if request.time is not None and mode in ("overwrite", "error_if_exists") and run.partitions:
        return [partition_app(run, partition.key, request.node_id) for partition in run.partitions]
    own = run.write_key(request.node_id)
    # A table that is replaced whole is so by runs for any partition.
    if mode == "overwrite":
        return sorted({own, partition_app(run, None, request.node_id)})
    return [own, *(writer.app(run.partition_key) for writer in earlier)]


def keys_of(change: Change, types: Mapping[str, str]) -> dict[Any, str]:
    """Return typed value of the time column → key of the run's partition."""
    column, run = change.time, change.request.run
    if column is None:
        return {}
    if column not in types:
        raise missing_partition_column(column, types)
    return {typed_value(one.key, types[column], column, run.timezone): one.key for one in run.partitions}


def check_time(change: Change, added: Iterable[AddedFile], keys: Mapping[Any, str]) -> None:
    """Raise ``DataError`` (``rows-outside-partition``) for files of other partitions than the run's."""
    if not keys or change.time is None:
        return
    outside = {file.partition[change.time] for file in added} - keys.keys()
    if outside:
        ordered = sorted(outside, key=lambda value: (value is None, str(value)))
        values = ", ".join(shown_text(value, change.request.run.timezone) for value in ordered[:5])
        raise rows_outside(change.name, change.request, values)


def created(change: Change, types: Mapping[str, str]) -> Replacement:
    """Return what a write does where there is no table yet."""
    keys = keys_of(change, types)
    added = change.added(types)
    check_time(change, added, keys)
    noted = dict.fromkeys(_own_apps(change, keys, added), change.request.run.generation)
    if change.merge is not None:
        noted[BY_PARTITION_APP] = int(change.merge.is_by_partition(change.owner))
    return Replacement((), added, {**noted, **_made(change, None, keys, added), **_counts(change, (), (), added)})


def is_superseded(change: Change, state: TableState) -> bool:
    """Whether newer executions have written all that the write is for, so that it changes nothing."""
    keys = keys_of(change, state.types)
    apps = [_app(change, key) for key in keys.values()] or _apps(change)
    overtaken = [noted > change.request.run.generation for app in apps if (noted := state.generation(app)) is not None]
    return len(overtaken) == len(apps) and all(overtaken) if keys else any(overtaken)


def replacement(change: Change, state: TableState) -> Replacement:
    """Return what a write that is not superseded does to this version of the table.

    Raises ``DataError`` where the mode does not allow the write.
    """
    keys = keys_of(change, state.types)
    added = change.added(state.types)
    check_time(change, added, keys)
    generation = change.request.run.generation
    newest = {app: state.generation(app) for app in _own_apps(change, keys, added)}
    # A run of before the rename that comes late is overtaken, too, where that name has written at all.
    for app in [writer.app(change.request.run.partition_key) for writer in change.earlier]:
        if (noted_before := state.generation(app)) is not None:
            newest[app] = noted_before
    # An equal one is this execution's own earlier attempt, whose rows may be of other code: it is replaced.
    overtaken = {app for app, noted in newest.items() if noted is not None and noted > generation}
    kept: Sequence[AddedFile] = ()
    removed: Sequence[ActiveFile]
    extra: Mapping[str, int] = {}
    others: Sequence[Writer] = ()
    match change.mode:
        case "overwrite" | "error_if_exists":
            removed = state.files
            if keys:
                # Of a range, the partitions that a newer execution wrote stay as they are.
                keys = {value: key for value, key in keys.items() if _app(change, key) not in overtaken}
                added = [file for file in added if file.partition[change.time or ""] in keys]
                removed = state.matching({change.time or "": frozenset(keys)})
            if change.mode == "error_if_exists":
                _check_absent(change, removed, newest)
        case "overwrite_partitions":
            # Of late rows, those of partitions that a newer execution wrote stay out.
            added = [file for file in added if _written(change, file) not in overtaken]
            written = {_values(file, change) for file in added}
            removed = [file for file in state.files if _values(file, change) in written]
        case "append":
            others, removed = other_writers(change, state), _own_files(change, state)
        case "upsert":
            other_writers(change, state)  # raises; who else there is matters less: by keys nothing stands twice
            with store_failures(change.place.uri):
                merged = merge_rows(change, state, _own_files(change, state), added)
            removed, added, kept, extra = merged.removed, list(merged.added), merged.kept, merged.noted
        case _ as never:
            assert_never(never)
    noted = dict.fromkeys(sorted(newest.keys() - overtaken), generation)
    noted |= _made(change, state, keys, added)
    noted |= _counts(change, state.files, removed, [*added, *kept], state)
    return Replacement(removed, added, {**noted, **extra}, kept, others)


def _own_apps(change: Change, keys: Mapping[Any, str], added: Iterable[AddedFile]) -> list[str]:
    if keys:
        return sorted({_app(change, key) for key in keys.values()})
    apps = set(generation_apps(change.request, change.mode))
    if change.mode == "overwrite_partitions":
        apps |= {_written(change, file) for file in added}
    return sorted(apps)


def _apps(change: Change) -> list[str]:
    return generation_apps(change.request, change.mode, change.earlier)


def _app(change: Change, key: str | None, node_id: str | None = None) -> str:
    return partition_app(change.request.run, key, node_id or change.request.node_id)


def _values(file: AddedFile | ActiveFile, change: Change) -> tuple[Any, ...]:
    return tuple(file.partition[column] for column in change.partition_by)


def _written(change: Change, file: AddedFile) -> str:
    return written_app(change.request.run, change.request.node_id, dict(file.partition))


def _check_absent(change: Change, there: Sequence[ActiveFile], newest: Mapping[str, int | None]) -> None:
    generation = change.request.run.generation
    # What this execution itself wrote by an earlier attempt is no obstacle.
    foreign = [
        file for file in there if f"/g{generation}-" not in file.path or Owner.of_file(file.path) != change.owner
    ]
    earlier = sorted({noted for noted in newest.values() if noted is not None and noted != generation})
    if not foreign and not earlier:
        return
    where = (
        f"{change.time}={change.request.run.partition_text} of '{change.name}'" if change.time else f"'{change.name}'"
    )
    rows = sum(file.rows or 0 for file in foreign)
    what = plural(rows, "row") if foreign else f"what execution {earlier[-1]} made of it: no rows"
    raise DataError(
        "already-exists",
        f"{where} holds {what}, and mode 'error_if_exists' replaces nothing",
        hint='write mode="overwrite" to replace them, or drop the table',
    )


def _own_files(change: Change, state: TableState) -> list[ActiveFile]:
    """Return what the sink's earlier executions for this partition have in the table: all of it, or an error."""
    owners = change.owners
    by_sink = [file for file in state.files if any(owner.may_have_written(file.path) for owner in owners)]
    found = {file.path: Owner.of_file(file.path) for file in by_sink}
    if any(owner and owner.may_hold(one) for owner in set(found.values()) for one in owners):
        raise DataError(
            "rows-not-traceable",
            f"earlier runs wrote to '{change.name}' by this sink for several partitions at once, or for others than "
            f"{change.request.run.partition_grain or 'none'}s: which of those rows are of "
            f"{change.request.run.partition_text} cannot be told, and they would stand there twice",
            hint="write to a new table; or, if these rows are to stay beside the new ones, give the sink another id "
            f'and beside=["{change.request.node_id}"]',
        )
    for owner, app in zip(owners, _apps(change), strict=True):
        there, noted = list(found.values()).count(owner), state.generation(owner.files_app)
        if not there and state.generation(app) is None:
            continue  # never written: both are noted in one commit
        if noted is not None and noted != there:
            raise _not_traceable(change, noted, there)
    return [file for file in by_sink if found[file.path] in owners]


def _not_traceable(change: Change, noted: int, there: int) -> DataError:
    return DataError(
        "rows-not-traceable",
        f"an earlier execution added {plural(noted, 'file')} to '{change.name}' for "
        f"{change.request.run.partition_text}, and {there} of them are there: "
        "somebody compacted or rewrote the table, so that its rows cannot be told from others, and would stand "
        "there twice",
        hint='restore the table to a version before that, or declare what may be replaced: mode="upsert" with keys '
        'into a new table, or mode="overwrite" with partition_by',
    )


def _made(
    change: Change, state: TableState | None, keys: Mapping[Any, str], added: Iterable[AddedFile]
) -> dict[str, int]:
    """Return what the log notes of the partitions that are made now; not that they are, while siblings have not."""
    run = change.request.run
    noted: dict[str, int] = {}
    for values in _made_partitions(change, keys, added):
        key = keys[values[change.time]] if keys and change.time else run.partition_key
        # Sinks that replace what they have rows of make no partition together.
        waits = change.mode != "overwrite_partitions" and any(
            (state.generation(_app(change, key, node_id)) if state else None) is None
            for node_id in change.request.siblings
        )
        own, begun = waiting_app(run, values), begun_app(values)
        pipelines = (state.generation(begun) if state else None) or 0
        waited = bool(state and pipelines and state.generation(own))
        if waits != waited:
            noted[own] = int(waits)
            noted[begun] = pipelines + (1 if waits else -1)
        if not waits:
            noted[made_app(values)] = run.generation
    return noted


def _made_partitions(change: Change, keys: Mapping[Any, str], added: Iterable[AddedFile]) -> list[dict[str, Any]]:
    if keys:
        return [{change.time or "": key} for key in keys]
    if change.mode == "overwrite_partitions":
        return [
            dict(zip(change.partition_by, values, strict=True)) for values in {_values(file, change) for file in added}
        ]
    run = change.request.run
    fixed = [column for column in change.partition_by if change.request.fill.get(column) == run.partition_key]
    if len(fixed) == 1 and run.partition_key:
        # Rows that are added lie in the run's partition, be there any or not.
        (column,) = fixed
        kind = change.types.get(column, "string")
        return [{column: typed_value(run.partition_key, kind, column, run.timezone)}]
    return [{}]


def _counts(
    change: Change,
    active: Sequence[ActiveFile],
    removed: Sequence[ActiveFile],
    added: Sequence[AddedFile],
    state: TableState | None = None,
) -> dict[str, int]:
    """Return how many files each owner has afterwards, of those whose number the log notes."""
    change_of: Counter[Owner] = Counter()
    for files, sign in ((removed, -1), (added, 1)):
        for file in files:
            if owner := Owner.of_file(file.path):
                change_of[owner] += sign
    counted = {change.owner} if change.mode in ("append", "upsert") else set()
    if state is not None:
        counted |= {owner for owner in change_of.keys() - counted if state.generation(owner.files_app) is not None}
    if not counted:
        return {}
    there = Counter(
        owner
        for file in active
        if any(one.may_have_written(file.path) for one in counted) and (owner := Owner.of_file(file.path)) in counted
    )
    return {owner.files_app: there[owner] + change_of[owner] for owner in counted}
