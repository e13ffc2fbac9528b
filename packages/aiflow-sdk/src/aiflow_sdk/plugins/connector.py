"""Sources and sinks: what a connector offers, at the least in Arrow, at its best in an engine's own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field, NonNegativeInt

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import Where
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins.dataset import Connector

if TYPE_CHECKING:
    import polars
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame
    from pyspark.sql import SparkSession

Comparison = Literal["==", "!=", "<", "<=", ">", ">=", "in"]


@dataclass(frozen=True, slots=True)
class Predicate:
    """One condition on one column; several hold together (and)."""

    column: str
    comparison: Comparison
    value: Any
    """A plain value; with ``in`` a tuple of them."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is asked of a source. Everything beyond ``run`` is a wish: a source may ignore it and yield more."""

    run: Run | None = None
    columns: tuple[str, ...] | None = None
    """Only these are needed; None: all."""
    predicates: tuple[Predicate, ...] = ()
    limit: int | None = None
    """Only so many rows are needed (samples)."""


class Source(Connector, ABC):
    """Where data comes from. The least a source does is yield Arrow record batches; that works on every engine."""

    bounded: ClassVar[bool] = True
    """Whether the data ends. A stream says False."""

    complete: Literal["all"] | NonNegativeInt | None = None
    """How many of the partitions that the run asks for must be there. None: all of ``{{ ds }}``, ``same``, ``offset``
    and ``covering``, one of ``last`` and of values that the pipeline itself names, none of ``all``."""
    wait_minutes: float = Field(default=0, ge=0)
    """How long a run waits for those partitions."""
    restated: Literal["stale", "rerun", "ignore"] = "stale"
    """What follows when the input changes after a run: the run's partition is stale, is made again, or nothing."""

    @abstractmethod
    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows. Raises ``DataError`` or ``DataNotReadyError``."""

    @classmethod
    def partition_values(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return column → value of the partitions that raw options ask for; templates and windows stay as they are.

        It is asked before there is a run. As it stands it answers with the option ``partitions``.
        """
        values = options.get("partitions")
        return values if isinstance(values, Mapping) else {}

    def arrow_schema(self) -> pa.Schema | None:
        """Return the columns, where they are known without reading the data."""
        return None

    def identity(self, run: Run) -> str | None:
        """Return a fingerprint of the data that the run would read, cheaply, or None where there is no cheap one."""
        return None

    def measure(self, run: Run) -> tuple[int | None, int | None]:
        """Return rows and bytes of what the run reads, where the format tells without reading rows, else None."""
        return None, None


@runtime_checkable
class PartitionedSource(Protocol):
    """A source whose partitions can be listed without reading rows."""

    def present(self, column: str, timezone: str = "UTC") -> Sequence[str]:
        """Return the keys of the partition column that are there, sorted, as ISO text; hours as those of the zone."""


PartitionState = Literal["absent", "incomplete", "empty", "complete"]
"""Of one partition: nobody made it; not all that make it together have; it was made and has no rows; it has some."""


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """What is known of one partition without reading rows."""

    state: PartitionState
    rows: int | None = None
    bytes: int | None = None
    identity: str | None = None
    """Fingerprint of its data."""

    def answer(self, since: str | None = None) -> PartitionState | Literal["restated"]:
        """Return the state, or ``restated`` where the data is not that of the identity that was read before."""
        return "restated" if since is not None and since != self.identity else self.state


@runtime_checkable
class JudgedSource(PartitionedSource, Protocol):
    """A source that knows of a partition more than whether it has rows."""

    def partition_facts(self, column: str, keys: Sequence[str], timezone: str = "UTC") -> Mapping[str, PartitionFacts]:
        """Return what is known of these partitions, each key as given."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Partitions that one environment's dataset has and that of another one hides, which is read in its place."""

    here: str
    """The environment that is read."""
    there: str
    keys: tuple[str, ...]


@runtime_checkable
class ShadowingSource(PartitionedSource, Protocol):
    """A source that reads one environment's dataset in the place of another one's."""

    def hidden(self, column: str, keys: Sequence[str], timezone: str = "UTC") -> Hidden | None:
        """Return which of these partitions the nearest environment has whose dataset is not read, where one has any."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Which version of a dataset is read, and where."""

    version: int
    environment: str
    address: str


@runtime_checkable
class VersionedSource(Protocol):
    """A source whose dataset has versions, of which a run reads one."""

    def reading(self) -> Reading:
        """Return what would be read now."""

    def pin(self, environment: str, version: int) -> None:
        """Read this version, in the lake of that environment, from now on."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What is known of a table without reading rows."""

    version: int
    rows: int | None
    bytes: int
    columns: tuple[tuple[str, str], ...]
    """Name and type name of each."""
    partitions: Mapping[str, tuple[int | None, int]]
    """``column=value/…`` → rows and bytes; one entry ``""`` of a table without partitions."""


@runtime_checkable
class CatalogSource(Protocol):
    """A source that knows which tables an environment has. The environment's own lake is meant, not what it reads."""

    @classmethod
    def tables(cls, environment: Environment) -> Sequence[str]:
        """Return the names of the tables, sorted."""

    @classmethod
    def table_facts(cls, environment: Environment, name: str) -> TableFacts | None:
        """Return what is known of a table, or None where it is not there."""


@runtime_checkable
class PolarsSource(Protocol):
    """A source that polars reads by itself, with projections and filters pushed down."""

    def to_polars(self, request: Scan) -> polars.LazyFrame:
        """Return a lazy frame of what is asked for."""


@runtime_checkable
class SparkSource(Protocol):
    """A source that Spark reads by itself, with projections and filters pushed down."""

    def to_spark(self, spark: SparkSession, request: Scan) -> SparkFrame | None:
        """Return the session's frame of what is asked for; None where Spark cannot reach it and Arrow is to serve."""


@dataclass(frozen=True, slots=True)
class Write:
    """What is asked of a sink."""

    node_id: str
    run: Run
    fill: Mapping[str, str] = field(default_factory=dict)
    """Partition columns that the frame may lack, with the one value (ISO text) that all its rows have."""
    time: str | None = None
    """The partition column that holds the run's partition; None: the whole table is replaced."""
    siblings: tuple[str, ...] = ()
    """Other sinks of the pipeline that write to the same dataset: together they make a partition of it."""
    where: Where | None = None
    """Where the node stands in the pipeline; an engine gives it to errors of this write (:func:`placed`)."""
    sinks: tuple[str, ...] = ()
    """All sinks of the pipeline, this one too; none where they are not known."""

    @property
    def time_keys(self) -> tuple[str, ...] | None:
        """The values that ``time`` may have in this run, as ISO text."""
        return tuple(partition.key for partition in self.run.partitions) if self.time else None


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink did. What it could not count without a second pass is None."""

    rows: int | None = None
    bytes: int | None = None
    table_version: int | None = None
    superseded: bool = False
    address: str | None = None
    partitions: tuple[str, ...] = ()
    """As ``column=value``, sorted."""
    columns: tuple[tuple[str, str], ...] | None = None
    """Name and Arrow type name of each."""
    identity: str | None = None
    """As :meth:`Sink.identity` would answer now."""


class Sink(Connector, ABC):
    """Where data goes. The least a sink does is take Arrow record batches; that works on every engine."""

    @abstractmethod
    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write all batches or nothing; to repeat a write of one generation changes nothing. Raises ``DataError``."""

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` where the data would lie outside the environment, as far as this machine can
        tell without asking a store. The compiler asks it before there is a run; ``write`` sees to it by itself."""

    def partition_columns(self) -> tuple[str, ...]:
        """Return the columns that the data is partitioned by."""
        return ()

    def time_column(self) -> str | None:
        """Return the partition column that the author says holds the run's partition: the option ``time``, if it has
        one. None where nothing is said."""
        stated = getattr(self, "time", None)
        return None if stated is None else str(stated)

    def replaces(self) -> Literal["run", "written", "nothing"]:
        """Return what of the data that is there a write replaces.

        ``run``: what is of the run's partition, or the whole where there is no time column. ``written``: the
        partitions that it has rows of. ``nothing``: it adds to them. This and the two above are asked before there is a
        run, also while options still hold templates; they tell from the options alone.
        """
        return "run"

    def identity(self, run: Run, node_id: str) -> str | None:
        """Return a fingerprint of what the sink ``node_id`` has in the run's partition, or None where none is cheap."""
        return None

    def newest_generation(self, request: Write) -> int | None:
        """Return the greatest generation that was written where this write would go, cheaply, or None where none is
        known. A new run takes a greater one, also where the runner's own memory is gone."""
        return None


@runtime_checkable
class SharedSink(Protocol):
    """A sink whose data readers find in another environment while this one lacks it."""

    def found(self, run: Run, node_id: str) -> tuple[str, str] | None:
        """Return the environment in which readers find the data now, and the identity of the run's partition there."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that an engine has written for a sink to commit."""

    path: str
    """Relative to the destination's folder."""
    bytes: int
    rows: int
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """Value of each partition column, as text (None: null)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an engine puts the Parquet files of one write. Nobody reads them before the commit."""

    folder: str
    """Address of a folder that holds nothing yet, below the place that they are committed to."""
    partition_by: tuple[str, ...] = ()
    """One folder ``column=value`` (percent-encoded) a value; these columns do not stand in the files."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Arrow type names of columns that must have just this type, of an existing table."""
    widening: bool = False
    """Whether columns that are wider than ``types`` says stay so: the table will be widened."""
    exact: bool = False
    """Whether types stay as the engine has them (frames between tasks), instead of what a lake holds; then a frame
    without rows has a file too."""
    storage_options: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    """A folder above it. Of a write that is not to be, what is empty between the two goes with it."""


@runtime_checkable
class FileSink(Protocol):
    """A sink that commits Parquet files which the engine wrote, all in one step."""

    def destination(self, request: Write) -> Destination:
        """Return where the engine is to write."""

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Make exactly these files visible as the write. ``schema`` is the frame's, partition columns
        included, as anything with ``__arrow_c_schema__`` (PyArrow's, polars', arro3's)."""


@dataclass(frozen=True)
class Pending:
    """A write whose files are there and which nobody sees yet: it can be looked at, then published or withdrawn."""

    publish: Callable[[], Written]
    """Make it visible, in one step."""
    withdraw: Callable[[], None]
    """Remove its files; it never was."""
    rows: int | None = None
    bytes: int | None = None
    source: Source | None = None
    """Reads its rows as they would be seen, on any engine; None where only publishing shows them."""


@runtime_checkable
class AuditedSink(FileSink, Protocol):
    """A sink whose writes can be looked at before they are published."""

    def prepare(self, files: Sequence[DataFile], schema: Any, request: Write) -> Pending:
        """Return the write of exactly these files, checked as far as it can be before it is seen."""


def pending_write(sink: FileSink, files: Sequence[DataFile], schema: Any, request: Write) -> Pending:
    """Return the write of these files; of a sink that shows nothing beforehand it can only be published.

    Of such a one ``withdraw`` leaves the files where nobody looks.
    """
    if isinstance(sink, AuditedSink):
        return sink.prepare(files, schema, request)
    return Pending(publish=lambda: sink.commit(files, schema, request), withdraw=lambda: None)


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Parquet files that hold all rows and columns of a frame."""

    paths: tuple[str, ...]
    storage_options: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class FileSource(Protocol):
    """A source that consists of Parquet files, which any engine reads by itself."""

    def parquet_files(self) -> ParquetFiles | None:
        """Return the files, or None when they hold something else."""
