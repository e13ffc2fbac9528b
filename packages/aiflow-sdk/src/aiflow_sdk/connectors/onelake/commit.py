"""One commit: data files become the table's newest version, or nothing changes.

Every try is a compare-and-swap on the table's version: read it, decide what goes and what comes, commit as just the
next version. delta-rs' own retries (``max_commit_retries``) are off: they let two overwrites of an empty partition both
land. A loser loads the table again and decides anew; its files stay where they are.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.connectors.onelake.change import AddedFile, Change, Replacement
from aiflow_sdk.connectors.onelake.evolution import evolve, refuse_changes
from aiflow_sdk.connectors.onelake.features import check_removable
from aiflow_sdk.connectors.onelake.location import TablePlace
from aiflow_sdk.connectors.onelake.replacement import created, is_superseded, replacement
from aiflow_sdk.connectors.onelake.rewriting import forget_files
from aiflow_sdk.connectors.onelake.succession import told_of
from aiflow_sdk.connectors.onelake.table import ActiveFile, TableState, commit_info, load_table, read_table, remember
from aiflow_sdk.connectors.onelake.values import stored_text
from aiflow_sdk.errors import AiflowError, DataError, StoreError
from aiflow_sdk.stores import FolderStore, store_error

if TYPE_CHECKING:
    from deltalake import CommitProperties
    from deltalake.transaction import AddAction, RemoveAction

_LOGGER = logging.getLogger("aiflow.lake")
_TRIES = 200
_LONGEST_PAUSE_SECONDS = 5.0
_CHECKPOINT_COMMITS = 10
"""After so many commits the log is summed up, unless the table says how often: a commit reads all since then. Spark's
default; that of delta-rs is 100."""
_TOKEN = "aiflow.write"
"""Of a commit: the folder of its files, which no other write has."""


@dataclass(frozen=True)
class Committed:
    """What became of a commit."""

    state: TableState
    superseded: bool
    added: tuple[AddedFile, ...]
    """What was written; not what is left of others' files."""


def commit(change: Change) -> Committed:
    """Commit, and return the table as it is then.

    Raises ``DataError``, ``StoreError`` (``commit-conflict``, ``commit-failed`` and what the store says).
    """
    with _turn(change.place):
        return _commit(change)


@contextmanager
def _turn(place: TablePlace) -> Iterator[None]:
    """Let writers of one machine take turns, so that they need not lose and repeat; safety does not hang on it."""
    if place.folder is None:
        yield
        return
    with FolderStore(Path(place.lake.address.path)).lock(place.lock_key):
        yield


def _commit(change: Change) -> Committed:
    from deltalake.exceptions import CommitFailedError, DeltaError

    failure: Exception | None = None
    lost_to: str | None = None
    for attempt in range(_TRIES):
        began = time.monotonic()
        # Who was too slow, or failed, trusts nothing that is remembered.
        state = load_table(change.place) if attempt else read_table(change.place)
        done: Replacement | None = None
        try:
            done = _decide(change, state)
            if done is None:
                assert state is not None  # without a table nothing overtakes
                return Committed(state, superseded=True, added=())
            landed = _write(change, state, done)
        except _SchemaChangedError:
            continue
        except (CommitFailedError, DeltaError, OSError) as error:
            if isinstance(error, AiflowError) and not isinstance(error, StoreError):
                raise
            now = load_table(change.place)
            if (now and now.version) == (state and state.version):
                # Nobody was faster, so trying again would fail again.
                told = _failed(change, error)
                if not may_land_later(change, told):
                    _forget(change, done)
                raise told from error
            since = _commits_since(state, now)
            mine = next((one for one in since if one.get(_TOKEN) == change.prefix), None)
            if done is not None and mine is not None:
                # What failed came after the commit: a checkpoint, for instance, or the answer was lost.
                own = load_table(change.place, int(mine["version"]))
                assert own is not None  # its history names it
                return Committed(own, superseded=False, added=tuple(done.added))
            _forget(change, done)
            failure, lost_to = error, _writer(since) or lost_to
            # In the store's own time: where a try takes a second, those who come again at once slow each other down.
            pause = (time.monotonic() - began) * 2 ** min(attempt, 10)
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, pause)))
        except BaseException as error:  # Ctrl-C too leaves no files behind; it goes on up
            if not may_land_later(change, error):
                _forget(change, done)
            raise
        else:
            if done.others:
                _LOGGER.warning("%s", told_of(change, done.others))
            return Committed(_sum_up(landed), superseded=False, added=tuple(done.added))
    raise StoreError(
        "commit-conflict",
        f"others wrote to the table '{change.name}' each of {_TRIES} times that this run tried to"
        + (f"; the last was {lost_to}" if lost_to else ""),
        hint="run it again, with fewer writers at once",
        retryable=True,
    ) from failure


def _sum_up(state: TableState) -> TableState:
    """Return the table as the commit made it, its log summed up where it is time to."""
    from deltalake.exceptions import DeltaError

    remember(state)
    if _is_time_to_sum_up(state.version):
        with suppress(AiflowError, DeltaError, OSError):  # the write stands without it, and the next one will try again
            if "delta.checkpointInterval" not in state.table.metadata().configuration:
                state.table.create_checkpoint()
    return state


def _is_time_to_sum_up(version: int) -> bool:
    return (version + 1) % _CHECKPOINT_COMMITS == 0


class _SchemaChangedError(Exception):
    """The table has the columns now that the write needs, and is to be looked at again."""


def _decide(change: Change, state: TableState | None) -> Replacement | None:
    if state is None:
        return created(change, change.types)
    _check_partitions(change, state)
    if is_superseded(change, state):
        return None
    state.check_writable(change.name, change.effect)
    refuse_changes(change, state)
    done = replacement(change, state)
    try:
        if done.removed:
            state.check_writable(change.name, "upsert" if change.mode == "upsert" else "overwrite")
            check_removable(change.name, state.table, (file.path for file in done.removed))
        # Last: a write that is refused leaves the columns as they are.
        if evolve(change, state):
            raise _SchemaChangedError
    except BaseException:  # it goes on up
        _forget(change, done)
        raise
    return done


def _check_partitions(change: Change, state: TableState) -> None:
    if change.partition_by != state.partition_columns:
        raise DataError(
            "partition-mismatch",
            f"the table '{change.name}' is partitioned by {_listed(state.partition_columns)}, and the sink says "
            f"{_listed(change.partition_by)}",
            hint=f"write partition_by={list(state.partition_columns)}, or write to a new table",
        )


def _write(change: Change, state: TableState | None, done: Replacement) -> TableState:
    """Commit, and return the version that this made."""
    from deltalake import PostCommitHookProperties
    from deltalake.transaction import create_table_with_add_actions

    now = int(time.time() * 1000)
    added = [_add(file, now) for file in (*done.added, *done.kept)]
    properties = _properties(change, done.noted)
    if state is None:
        create_table_with_add_actions(
            change.place.uri,
            change.schema,
            added,
            mode="error",
            partition_by=list(change.partition_by),
            storage_options=change.place.options or None,
            commit_properties=properties,
        )
        made = load_table(change.place, 0)
        assert made is not None  # just now
        return made
    state.table.create_write_transaction(
        [*added, *(_remove(file, now) for file in done.removed)],
        "append",  # "overwrite" would choose by itself what to remove
        state.table.schema(),
        list(state.partition_columns),
        commit_properties=properties,
        # It lists the whole log; what may go, a checkpoint has summed up.
        post_commithook_properties=PostCommitHookProperties(
            cleanup_expired_logs=None if _is_time_to_sum_up(state.version + 1) else False
        ),
    )
    made_of = [ActiveFile(file.path, file.bytes, now, file.rows, file.partition) for file in (*done.added, *done.kept)]
    return state.after(done.removed, made_of, done.noted)


def _add(file: AddedFile, now: int) -> AddAction:
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.path,  # delta-rs encodes it
        size=file.bytes,
        partition_values={column: stored_text(value) for column, value in file.partition.items()},
        modification_time=now,
        data_change=True,
        stats=f'{{"numRecords":{file.rows}}}',
    )


def _remove(file: ActiveFile, now: int) -> RemoveAction:
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        file.path, True, now, file.bytes, {column: stored_text(value) for column, value in file.partition.items()}
    )


def _properties(change: Change, noted: Mapping[str, int]) -> CommitProperties:
    from deltalake import CommitProperties, Transaction

    run = change.request.run
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(app, number) for app, number in sorted(noted.items())],
        custom_metadata={
            "aiflow.pipeline": f"{run.project}/{run.pipeline_id}",
            "aiflow.environment": run.environment,
            "aiflow.node": change.request.node_id,
            "aiflow.partition": run.partition_text,
            "aiflow.version": run.version,
            "aiflow.run_id": run.run_id,
            "aiflow.execution": str(run.execution),
            "aiflow.generation": str(run.generation),
            "aiflow.mode": change.mode,
            _TOKEN: change.prefix,
        },
    )


def may_land_later(change: Change, error: BaseException) -> bool:
    """Whether a commit that failed so may be under way still, so that its files have to stay until a vacuum.

    A put that was sent to an object store and not answered may take effect at any later time.
    """
    is_refusal = isinstance(error, DataError) or (isinstance(error, AiflowError) and error.code == "commit-conflict")
    return change.place.folder is None and not is_refusal


def _commits_since(state: TableState | None, now: TableState | None) -> list[dict[str, Any]]:
    """Return what the commits after a state say of themselves, newest first; its version at least."""
    if now is None:
        return []
    first = state.version + 1 if state else 0
    versions = range(now.version, first - 1, -1)
    return [{**commit_info(now.place, version), "version": version} for version in versions]


def _forget(change: Change, done: Replacement | None) -> None:
    """Remove what was written anew for a commit that was not to be."""
    if done is None:
        return
    engine_wrote = {change.path(file) for file in change.files}
    forget_files(change.place, [file.path for file in (*done.kept, *done.added) if file.path not in engine_wrote])


def _failed(change: Change, error: Exception) -> AiflowError:
    if isinstance(error, AiflowError):
        return error
    return store_error(error, change.place.uri) or StoreError(
        "commit-failed", f"the table '{change.name}' cannot be committed to: {error}"
    )


def _writer(commits: Sequence[Mapping[str, Any]]) -> str | None:
    """Return who made the newest of the commits, as far as it says."""
    if not commits:
        return None
    entry = commits[0]
    if "aiflow.run_id" not in entry:
        return str(entry.get("engineInfo") or "") or None
    return f"run {entry['aiflow.run_id']} of {entry.get('aiflow.pipeline')} for {entry.get('aiflow.partition')}"


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns) or "no column"
