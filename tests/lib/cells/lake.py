"""One table of the lake as a cell of the matrix has it: written through the real engine, read by three readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.connectors.onelake.change import MODES
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.errors import UnknownNameError
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine, FrameWrite, Pending, Scan, Session, Write, Written
from aiflow_sdk.testing.conformance.probe import Rows
from extent import combinations
from harness.place import Kind, Place

ENGINES = ("python", "spark")
STORES: tuple[Kind, ...] = get_args(Kind)
DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")
TABLE = "feature.out"

Columns = Mapping[str, Sequence[Any]]
"""A frame, column by column; ``dt`` may stand among them, else the run's day fills it."""
Row = frozenset[tuple[str, Any]]
"""A row without its nulls: a column that was added meanwhile makes no row another one."""

__all__ = [
    "DAYS",
    "ENGINES",
    "MODES",
    "STORES",
    "TABLE",
    "Cell",
    "Columns",
    "LakeTable",
    "Row",
    "cells_of",
    "columns",
    "rows_of",
]


@dataclass(frozen=True)
class Cell:
    """One of the matrix."""

    mode: str
    engine: str
    store: Kind

    def __str__(self) -> str:
        return f"{self.mode}-{self.engine}-{self.store}"


def cells_of(store: Kind) -> list[Cell]:
    """Return the cells of a store that are tried: of a folder all, of a server's those that leave out no pair."""
    kinds: list[tuple[str, str, Kind]] = combinations(MODES, ENGINES, STORES)
    if store == "folder":
        return [Cell(mode, engine, store) for engine in ENGINES for mode in MODES]
    return [Cell(mode, engine, kind) for mode, engine, kind in kinds if kind == store]


def columns(*ids: int, text: str = "a", **more: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Return a frame of these ids."""
    return {"id": list(ids), "value": [f"{text}{number}" for number in ids], **more}


def rows_of(frame: Columns, day: str | None = None) -> list[Row]:
    """Return the rows of a frame, sorted, with the day where the frame has none."""
    filled = {**frame, **({"dt": [day] * len(frame["id"])} if day and "dt" not in frame else {})}
    return in_order(dict(zip(filled, values, strict=True)) for values in zip(*filled.values(), strict=True))


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the rows sorted, nulls left out."""
    found = [frozenset((name, value) for name, value in row.items() if value is not None) for row in rows]
    return sorted(found, key=lambda row: sorted(map(repr, row)))


def run_of(day: str | None, generation: int, attempt: int = 1, pipeline: str = "x") -> Run:
    """Return a run for a day."""
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="test",
        project="p",
        pipeline_id=pipeline,
        partition_key=day,
        partition_grain="day" if day else None,
        execution=generation,
        generation=generation,
        attempt=attempt,
    )


def engine_of(name: str, environment: Environment) -> Engine:
    """Return the engine; Spark is imported only where it is asked for."""
    if name == "python":
        return PythonEngine.load({}, environment)
    from aiflow_sdk.engines.spark import SparkEngine

    return SparkEngine.load({}, environment)


@contextmanager
def opened(engine: str, environment: Environment, run: Run) -> Iterator[Session]:
    """Open a session of the engine for one attempt of a task."""
    task = PlanTask(
        id="task",
        engine=engine,
        engine_plugin=f"aiflow_sdk.engines.{engine}:x",
        cluster="local",
        node_ids=("out",),
        retries=0,
        retry_delay_seconds=0,
        timeout_seconds=None,
        bounded=True,
    )
    with engine_of(engine, environment).open(task, run) as session:
        yield session


@dataclass
class LakeTable:
    """The table ``feature.out``, partitioned by ``dt``, written in one mode by one engine."""

    mode: str
    engine: str
    environment: Environment
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the sink, added to the mode's."""
    place: Place | None = None
    """Where it lies, for those who look at it without aiflow."""

    @classmethod
    def at(
        cls, mode: str, engine: str, place: Place, options: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> LakeTable:
        """Return the table of a place; ``endpoint`` is that of a proxy before the store."""
        environment = Environment(name="test", lake=place.address, storage=place.storage(endpoint))
        return cls(mode, engine, environment, options or {}, place)

    @property
    def sink(self) -> OneLakeSink:
        """A sink of its own: nothing is remembered but what lies in the table."""
        own = {"keys": ["id"]} if self.mode == "upsert" else {}
        options = {"table": TABLE, "mode": self.mode, "partition_by": ["dt"], **own, **self.options}
        return OneLakeSink.load(options, self.environment)

    def source(self, **options: Any) -> OneLakeSource:
        """A source of its own."""
        return OneLakeSource.load({"table": TABLE, **options}, self.environment)

    def write(
        self,
        frame: Columns,
        day: str | None = DAYS[0],
        generation: int = 1,
        attempt: int = 1,
        *,
        types: Mapping[str, str] | None = None,
        audit: Callable[[Pending], None] | None = None,
        pipeline: str = "x",
    ) -> Written:
        """Write through the engine, as a task does. ``types`` are polars' names of types that are not the usual."""
        import polars as pl

        schema: dict[str, Any] = {"id": pl.Int64, "value": pl.String, "dt": pl.String, "v": pl.String}
        schema |= {name: getattr(pl, kind) for name, kind in (types or {}).items()}
        data = pl.DataFrame(dict(frame), schema={name: schema.get(name) for name in frame})
        run = run_of(day, generation, attempt, pipeline)
        by_day = self.mode in ("overwrite", "error_if_exists") and day is not None
        request = Write("out", run, {"dt": day} if day else {}, "dt" if by_day else None)
        with opened(self.engine, self.environment, run) as session:
            given = session.read(Rows.of(data.to_arrow()), Scan(run))
            (written,) = session.write([FrameWrite(given, self.sink, request, audit)])
        return written

    def rows(self, **options: Any) -> list[Row]:
        """Return what the engine ``python`` reads; nothing where there is no table."""
        try:
            return in_order(self.source(**options).to_polars(Scan()).collect().to_dicts())
        except UnknownNameError as error:
            if error.code != "unknown-table":
                raise
            return []

    def rows_by_engine(self) -> list[Row]:
        """Return what the cell's own engine reads, through a session."""
        import pyarrow as pa

        run = run_of(None, 1)
        with opened(self.engine, self.environment, run) as session:
            frame = session.read(self.source(), Scan(run))
            table = frame.toArrow() if self.engine == "spark" else pa.table(frame.collect())
        return in_order(table.to_pylist())

    def rows_by_delta(self) -> list[Row]:
        """Return what delta-rs reads, which knows nothing of aiflow; nothing where there is no table."""
        import pyarrow as pa
        from deltalake import DeltaTable

        assert self.place is not None
        address, options = f"{self.place.address}/{TABLE.replace('.', '/')}", self.place.options()
        if not DeltaTable.is_deltatable(address, options):
            return []
        table = DeltaTable(address, storage_options=options)
        return in_order(pa.RecordBatchReader.from_stream(table.scan()).read_all().to_pylist())

    def data_files(self) -> list[str]:
        """Return all Parquet files that lie below the table, whether it holds them or not."""
        assert self.place is not None
        prefix = TABLE.replace(".", "/")
        return sorted(key for key in self.place.files(prefix) if key.endswith(".parquet") and "/_delta_log/" not in key)
