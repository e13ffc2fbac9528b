"""Data files of a table written anew: with fewer rows, or in wider types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiflow_sdk.connectors.onelake.change import AddedFile
from aiflow_sdk.connectors.onelake.location import TablePlace
from aiflow_sdk.connectors.onelake.table import ActiveFile, load_table
from aiflow_sdk.connectors.parquet import FileGroup, scan_polars
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import Scan

if TYPE_CHECKING:
    import polars as pl

_AT_ONCE = 32
"""How many files are written side by side."""


def rewrite_files(
    place: TablePlace,
    files: Sequence[ActiveFile | AddedFile],
    schema: pl.Schema,
    change: Callable[[pl.LazyFrame], pl.LazyFrame],
    folder_of: Callable[[str], str],
) -> list[AddedFile]:
    """Write each file anew as ``change`` makes it and return those that have rows; the old ones stay where they are.

    ``schema`` is the table's, partition columns included, which ``change`` sees; it keeps the columns. ``folder_of``
    gives, for the path of a file, the folder (both relative to the table's) that takes its rows.
    """
    import polars as pl

    done: list[AddedFile] = []
    for first in range(0, len(files), _AT_ONCE):
        writes = []
        for number, file in enumerate(files[first : first + _AT_ONCE], first):
            frame = change(
                scan_polars([FileGroup((place.file(file.path),), file.partition)], schema, Scan(), place.options)
            )
            path = _new_path(file.path, folder_of(file.path), number)
            place.check_inside(folder_of(file.path))
            writes.append(_Rewrite(path, file.partition, frame.drop(list(file.partition)), place))
        pl.collect_all([write.lazy for write in writes])
        done += [write.added() for write in writes]
    place.store.delete([file.path for file in done if not file.rows])
    return [file for file in done if file.rows]


def forget_files(place: TablePlace, paths: Sequence[str]) -> None:
    """Remove what was written anew for a commit that failed; not what the table holds, which may have landed all the
    same: an answer was lost, or Ctrl-C came just after. What cannot be looked at or removed a vacuum will find.
    """
    if not paths:
        return
    try:
        state = load_table(place)
        active = {file.path for file in state.files} if state else set()
        place.store.delete([path for path in paths if path not in active])
    except (AiflowError, OSError):  # what the commit failed of is what matters
        return


class _Rewrite:
    """One file that is written with others."""

    def __init__(self, path: str, partition: Mapping[str, Any], frame: pl.LazyFrame, place: TablePlace) -> None:
        self._path, self._partition = path, partition
        self._found: list[Any] = []
        lazy = frame.sink_parquet(
            place.file(path),
            mkdir=True,
            storage_options=place.options or None,
            sinked_paths_callback=lambda done: self._found.extend(done.paths),
            lazy=True,
        )
        assert lazy is not None
        self.lazy = lazy

    def added(self) -> AddedFile:
        """Return the file as it was written."""
        (found,) = self._found
        return AddedFile(self._path, found.num_bytes, found.num_rows, self._partition)


def _new_path(path: str, folder: str, number: int) -> str:
    """Return the file's new path, its partition folders kept: polars and people find their way by them."""
    partitions = [part for part in path.split("/")[:-1] if "=" in part]
    return "/".join([folder, *partitions, f"part-{number:05d}.parquet"])
