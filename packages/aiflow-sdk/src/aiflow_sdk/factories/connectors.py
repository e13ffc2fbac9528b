"""``source.KIND(…)`` and ``sink.KIND(…)``.

Kinds of installed plugins need no line here: they are recorded by name. What is typed here is what comes with aiflow;
``aiflow plugins --stubs`` writes types of all that is installed as a stub of this very module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from aiflow_sdk.factories.declaration import Declaration, record_kind, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from os import PathLike
    from typing import TypeAlias

    from aiflow_sdk.partitions import Window
    from aiflow_sdk.variables import Variable

    # Text may hold templates and be "secret://name".
    Text: TypeAlias = str | Variable
    PartitionValue: TypeAlias = str | int | float | bool | Variable | Window | Sequence[str | int | Variable] | None
    Completeness: TypeAlias = Literal["all"] | int | None
    Restated: TypeAlias = Literal["stale", "rerun", "ignore"]

_FIRST_NAMES: Mapping[str, tuple[str, ...]] = {
    "onestream": ("id", "stream"),
    "feature_store": ("id", "feature_group"),
}
"""What may stand without its name in kinds that no class here types; of any other kind the id alone."""


class _Kinds:
    type: ClassVar[Literal["source", "sink"]]

    if not TYPE_CHECKING:

        def __getattr__(self, kind: str) -> Callable[..., Declaration]:
            if kind.startswith("_"):
                raise AttributeError(f"{self.type} has no attribute '{kind}'")
            return record_kind(self.type, kind, _FIRST_NAMES.get(kind, ("id",)))

    def __repr__(self) -> str:
        return self.type


class Sources(_Kinds):
    """``source.KIND(id=…, …)`` says where data comes from, for ``p.read``."""

    type = "source"

    @recorded
    def onelake(
        self,
        id: str,
        table: Text | None = None,
        format: Literal["delta"] = "delta",
        partitions: Mapping[str, PartitionValue] | None = None,
        *,
        path: Text | PathLike[str] | None = None,
        version: int | Variable | None = None,
        as_of: Text | datetime | None = None,
        complete: Completeness = None,
        wait_minutes: float | Variable = 0,
        restated: Restated = "stale",
    ) -> Declaration:
        """A table of the lake, ``schema.table``, or the one at ``path``.

        ``partitions`` names the part that a run reads: ``{"dt": p.vars["run_date"]}``, ``{"hour": window.covering()}``.
        ``version`` and ``as_of`` read the table as it was.
        """
        raise NotImplementedError

    @recorded
    def files(
        self,
        id: str,
        path: Text | PathLike[str],
        format: Literal["parquet", "csv", "jsonl"] | None = None,
        *,
        root: Literal["project", "lake"] = "project",
        delimiter: str = ",",
        header: bool = True,
        columns: Sequence[str] = (),
        null_values: Sequence[str] = ("",),
        types: Mapping[str, str] | None = None,
        complete: Completeness = None,
        wait_minutes: float | Variable = 0,
        restated: Restated = "stale",
    ) -> Declaration:
        """Parquet, CSV or JSON lines files below ``root``: one, a folder, or a pattern such as ``data/*.csv``.

        ``delimiter``, ``header``, ``columns`` (names) and ``null_values`` are for CSV; ``types`` names Arrow types.
        """
        raise NotImplementedError


class Sinks(_Kinds):
    """``sink.KIND(id=…, …)`` says where data goes, for ``p.write``."""

    type = "sink"

    @recorded
    def onelake(
        self,
        id: str,
        table: Text | None = None,
        mode: Literal["overwrite", "overwrite_partitions", "append", "upsert", "error_if_exists"] = "overwrite",
        partition_by: Sequence[str] = (),
        *,
        keys: Sequence[str] = (),
        order_by: str | None = None,
        withdrawn: Literal["refuse", "delete", "keep"] = "refuse",
        schema_evolution: Literal["add_columns", "widen", "none"] = "none",
        renamed_from: Sequence[str] = (),
        beside: Sequence[str] = (),
        time: str | None = None,
        path: Text | PathLike[str] | None = None,
        format: Literal["delta"] = "delta",
    ) -> Declaration:
        """A table of the lake, ``schema.table``, or the one at ``path``; ``overwrite`` replaces the run's partition."""
        raise NotImplementedError

    @recorded
    def files(
        self,
        id: str,
        path: Text | PathLike[str],
        format: Literal["parquet", "csv", "jsonl"] | None = None,
        *,
        mode: Literal["overwrite"] = "overwrite",
        partition_by: Sequence[str] = (),
        time: str | None = None,
        foreign: Literal["refuse", "replace"] = "refuse",
    ) -> Declaration:
        """Parquet, CSV or JSON lines below the lake's root: one file, or a folder where the path has no suffix."""
        raise NotImplementedError


source = Sources()
sink = Sinks()
