"""What other writers' tables ask of a reader and of a writer, and whether we do it.

A table says it by the versions and features of its protocol, by its properties and in its schema ("Table Features",
"Requirements for Writers" of the Delta protocol). delta-rs 1.6 refuses features that it does not know: a reader's when
it opens a table, a writer's when it commits, after our files are there. What the known ones ask for it passes over in
silence: it commits to a table with check constraints, generated columns or mapped columns as to any other. So all is
checked here, by lists of what is known to be right; anything else is refused before anything is read or changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aiflow_sdk.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection

    from deltalake import DeltaTable

Effect = Literal["append", "overwrite", "upsert"]
"""What a write does to files that are there: nothing, removes whole ones, or writes some of their rows anew."""

DELETION_VECTORS = "deletionVectors"
TRANSACTION_RETENTION = "delta.setTransactionRetentionDuration"
"""The property of tables whose transactions expire, of those that say when they were noted."""

_READABLE = frozenset({DELETION_VECTORS, "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
_WRITABLE = frozenset(
    {
        DELETION_VECTORS,
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "columnMapping",
        "generatedColumns",
        "invariants",
        "timestampNtz",
        "v2Checkpoint",
    }
)
"""Features with which delta-rs commits. What they ask for, properties and schema tell."""
_WRITER_VERSIONS = frozenset({1, 2, 3, 4, 5, 7})
"""delta-rs refuses 6, which may mean identity columns."""

_WHY = {
    "allowColumnDefaults": "may have defaults for columns (allowColumnDefaults)",
    "checkpointProtection": "had a feature dropped, and its old log must be kept for a time (checkpointProtection)",
    "clustering": "is clustered, which asks for statistics of its files (clustering)",
    "identityColumns": "may number its rows (identityColumns)",
    "inCommitTimestamp": "keeps the time of a commit inside of it (inCommitTimestamp)",
    "rowTracking": "gives every row a number that stays (rowTracking)",
}


class TableProtocol(Protocol):
    """What delta-rs tells of a table's protocol."""

    @property
    def min_reader_version(self) -> int:
        """The version that a reader must know; 3: see its features."""

    @property
    def min_writer_version(self) -> int:
        """The version that a writer must know; 7: see its features."""

    @property
    def reader_features(self) -> Collection[str] | None:
        """What a reader must know, from version 3 on."""

    @property
    def writer_features(self) -> Collection[str] | None:
        """What a writer must know, from version 7 on."""


def check_readable(name: str, protocol: TableProtocol, configuration: Mapping[str, str | None]) -> None:
    """Raise ``DataError`` (``unsupported-table-feature``) if the table's rows are not just what its files hold.

    Deletion vectors are readable, by another road than plain Parquet.
    """
    unknown = set(protocol.reader_features or ()) - _READABLE
    if _maps_columns(configuration):
        unknown.add("columnMapping")
    elif protocol.min_reader_version < 3 or "columnMapping" in unknown:
        unknown.discard("columnMapping")  # allowed, and not used
    if protocol.min_reader_version > 3:
        unknown.add(f"reader version {protocol.min_reader_version}")
    if unknown:
        raise unsupported_reader(name, f"it needs a reader of Delta's {', '.join(sorted(unknown))}")


def unsupported_reader(name: str, reason: str) -> DataError:
    """Return the error for a table that cannot be read."""
    return DataError(
        "unsupported-table-feature",
        f"the table '{name}' cannot be read: {reason}",
        hint="drop the feature from the table, or copy its rows into a new one, with the engine that made it",
    )


def check_writable(
    name: str,
    protocol: TableProtocol,
    configuration: Mapping[str, str | None],
    schema: Any,
    effect: Effect = "overwrite",
) -> None:
    """Raise ``DataError`` (``unsupported-table-feature``) unless a write keeps all that the table asks for.

    ``schema`` is delta-rs'. Whether a file that is to be removed has a deletion vector, only the files tell:
    :func:`check_removable`.
    """
    check_readable(name, protocol, configuration)
    problems = list(_problems(protocol, configuration, effect))
    problems += [problem for field in json.loads(schema.to_json())["fields"] for problem in _of_field(field, "")]
    if problems:
        raise DataError(
            "unsupported-table-feature",
            f"the table '{name}' cannot be written to: it {'; it '.join(problems)}",
            hint="write it with the engine that made it so, drop the feature from the table, or write to a new one",
        )


def check_removable(name: str, table: DeltaTable, paths: Iterable[str]) -> None:
    """Raise ``DataError`` (``unsupported-table-feature``) if one of the files has a deletion vector.

    Such a file is removed by its path and its vector together; delta-rs' ``RemoveAction`` names the path alone, so that
    other readers would keep the file.
    """
    if DELETION_VECTORS not in (table.protocol().reader_features or ()):
        return
    with_vectors = {
        str(path).rsplit("/", 1)[-1] for batch in table.deletion_vectors() for path in batch["filepath"].to_pylist()
    }
    if with_vectors & {path.rsplit("/", 1)[-1] for path in paths}:
        raise DataError(
            "unsupported-table-feature",
            f"the table '{name}' has deletion vectors in files that are to be replaced, which we cannot remove",
            hint="REORG TABLE … APPLY (PURGE), with the engine that made them, writes those files anew without",
        )


def _problems(protocol: TableProtocol, configuration: Mapping[str, str | None], effect: Effect) -> Iterator[str]:
    if protocol.min_writer_version not in _WRITER_VERSIONS:
        yield f"needs a writer of Delta's writer version {protocol.min_writer_version}"
    for feature in sorted(set(protocol.writer_features or ()) - _WRITABLE):
        yield _WHY.get(feature, f"needs a writer of Delta's {feature}")
    if effect != "append" and _is_on(configuration, "delta.appendOnly"):
        yield "is append-only (delta.appendOnly), and the write would remove rows"
    if effect == "upsert" and _is_on(configuration, "delta.enableChangeDataFeed"):
        yield "records its changes (delta.enableChangeDataFeed), and we cannot tell those of an upsert"
    if TRANSACTION_RETENTION in configuration:
        yield f"forgets transactions after a time ({TRANSACTION_RETENTION}), which say what was written"
    constraints = [
        key.removeprefix("delta.constraints.") for key in configuration if key.startswith("delta.constraints.")
    ]
    if constraints:
        yield f"has constraints that we do not check: {', '.join(sorted(constraints))}"


def _of_field(field: Mapping[str, Any], parent: str) -> Iterator[str]:
    """Yield what a column asks for; the columns inside it too."""
    column = f"{parent}{field['name']}"
    metadata = field.get("metadata") or {}
    if "delta.generationExpression" in metadata:
        yield f"computes '{column}' ({metadata['delta.generationExpression']}), and we cannot"
    if any(key.startswith("delta.identity.") for key in metadata):
        yield f"numbers its rows in '{column}', and we cannot"
    if "delta.invariants" in metadata:
        yield f"has a rule for '{column}' that we do not check"
    if "__CHAR_VARCHAR_TYPE_STRING" in metadata:
        yield f"limits the length of '{column}' ({metadata['__CHAR_VARCHAR_TYPE_STRING']}), which we do not check"
    if not field.get("nullable", True):
        yield f"has no nulls in '{column}', which we do not check"
    yield from _inside(field["type"], f"{column}.")


def _inside(kind: Any, parent: str) -> Iterator[str]:
    if not isinstance(kind, Mapping):
        return
    if kind["type"] == "struct":
        for field in kind["fields"]:
            yield from _of_field(field, parent)
    for key, nullable in (("elementType", "containsNull"), ("valueType", "valueContainsNull")):
        if key in kind:
            if not kind.get(nullable, True):
                yield f"has no nulls in the items of '{parent[:-1]}', which we do not check"
            yield from _inside(kind[key], parent)


def _maps_columns(configuration: Mapping[str, str | None]) -> bool:
    return (configuration.get("delta.columnMapping.mode") or "none").lower() != "none"


def _is_on(configuration: Mapping[str, str | None], key: str) -> bool:
    return (configuration.get(key) or "").lower() == "true"
