"""What is to be committed: the files of one write, the mode, and what the table must be like for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from aiflow_sdk.connectors.onelake.features import Effect
from aiflow_sdk.connectors.onelake.identity import WHOLE, Owner
from aiflow_sdk.connectors.onelake.location import TablePlace
from aiflow_sdk.connectors.onelake.schema import column_types
from aiflow_sdk.connectors.onelake.table import ActiveFile
from aiflow_sdk.connectors.onelake.values import typed_value
from aiflow_sdk.connectors.onelake.writers import Writer
from aiflow_sdk.plugins import DataFile, Write

if TYPE_CHECKING:
    from deltalake import Schema

Mode = Literal["overwrite", "overwrite_partitions", "append", "upsert", "error_if_exists"]
MODES: tuple[Mode, ...] = get_args(Mode)
Evolution = Literal["none", "add_columns", "widen"]
EVOLUTIONS: tuple[Evolution, ...] = get_args(Evolution)
Withdrawn = Literal["refuse", "delete", "keep"]
WITHDRAWN: tuple[Withdrawn, ...] = get_args(Withdrawn)


def effect_of(mode: Mode) -> Effect:
    """Return what a write does to files that are there, as far as its mode tells."""
    match mode:
        case "append" | "error_if_exists":
            return "append"
        case "upsert":
            return "upsert"
        case _:
            return "overwrite"


@dataclass(frozen=True)
class NewFile:
    """A data file to commit."""

    file: DataFile
    partition: Mapping[str, str | None]
    """Partition column → value as text."""


@dataclass(frozen=True)
class AddedFile:
    """A data file as the table's log is to hold it."""

    path: str
    """Relative to the table's folder."""
    bytes: int
    rows: int
    partition: Mapping[str, Any]
    """Typed values."""


@dataclass(frozen=True)
class Merge:
    """How rows of a write are matched with those of the table."""

    keys: tuple[str, ...]
    order_by: str | None = None
    """The column by which, of two rows with one key, the greater one stays; else that of the later partition does."""
    withdrawn: Withdrawn = "refuse"
    """What becomes of rows whose keys an execution no longer has, and in whose place no earlier value can be put."""

    def is_by_partition(self, owner: Owner) -> bool:
        """Whether of two rows with one key that of the later partition stays, where the one is this owner's."""
        return self.order_by is None and owner.part != WHOLE


@dataclass(frozen=True)
class Change:
    """A write that is to be committed."""

    name: str
    place: TablePlace
    prefix: str
    """The files' folder, relative to the table's."""
    files: Sequence[NewFile]
    schema: Schema
    partition_by: tuple[str, ...]
    mode: Mode
    evolution: Evolution
    merge: Merge | None
    """Of an upsert."""
    request: Write
    earlier: tuple[Writer, ...] = ()
    """Under which names the sink wrote before; their rows are its own."""
    beside: tuple[Writer, ...] = ()
    """Whose rows stay, although the pipeline does not have them any more."""

    @cached_property
    def owner(self) -> Owner:
        """Whose the files are."""
        return Owner.of_run(self.request.run, self.request.node_id)

    @cached_property
    def owners(self) -> tuple[Owner, ...]:
        """Whose rows the write takes the place of: its own owner, then those under its earlier names."""
        return (self.owner, *(self.owner.under(writer) for writer in self.earlier))

    @property
    def effect(self) -> Effect:
        """What the write does to files that are there, as far as the mode tells."""
        return effect_of(self.mode)

    @property
    def time(self) -> str | None:
        """The column that holds the run's partition, where the mode replaces by it."""
        return self.request.time if self.mode in ("overwrite", "error_if_exists") else None

    @cached_property
    def types(self) -> dict[str, str]:
        """The frame's columns and their types, as the Delta protocol writes them."""
        return column_types(self.schema)

    def path(self, file: NewFile) -> str:
        """Return the file's path, relative to the table's folder."""
        return f"{self.prefix}/{file.file.path}"

    def added(self, types: Mapping[str, str]) -> list[AddedFile]:
        """Return the files with typed partition values, in a table with columns of these types."""
        return [
            AddedFile(
                self.path(file),
                file.file.bytes,
                file.file.rows,
                {column: self._value(file, column, types) for column in self.partition_by},
            )
            for file in self.files
        ]

    def _value(self, file: NewFile, column: str, types: Mapping[str, str]) -> Any:
        text = file.partition[column]
        # Engines write moments in UTC; what they filled in as it was given is a time of the run's own zone.
        filled = text is not None and text == self.request.fill.get(column)
        return typed_value(text, types[column], column, self.request.run.timezone if filled else "UTC")


@dataclass(frozen=True)
class Replacement:
    """What a change does to one version of a table."""

    removed: Sequence[ActiveFile]
    added: Sequence[AddedFile]
    noted: Mapping[str, int]
    """What the log is to note: application → number."""
    kept: Sequence[AddedFile] = ()
    """What is left of removed files of others, written anew: rows that are not this write's."""
    others: Sequence[Writer] = ()
    """Who else has rows where this write puts its own for the first time."""
