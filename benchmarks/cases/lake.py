"""Tables of the lake: writing, reading and merging against the bare drivers, and what safety costs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from measure import DATA, Row, set_aside, tpch
from pydantic import PrivateAttr

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource, table
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import DataFile, Destination, FrameWrite, Scan, Session, Sink, Write, Written

if TYPE_CHECKING:
    import polars as pl

FOLDER = DATA / "lake"
DAY = date(1995, 3, 15)


def environment() -> Environment:
    """Return the environment whose lake all of these work in."""
    return Environment(lake=str(FOLDER), root=FOLDER)


def run_of(generation: int, day: date | None) -> Run:
    """Return a run for a day, or for none."""
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="bench",
        pipeline_id="lake",
        partition_key=day.isoformat() if day else None,
        partition_grain="day" if day else None,
        execution=generation,
        generation=generation,
    )


@contextmanager
def session() -> Iterator[Session]:
    """Yield a session of the engine python."""
    engine = PythonEngine()
    task = PlanTask(
        id="t",
        engine="python",
        engine_plugin=f"{type(engine).__module__}:{type(engine).__name__}",
        cluster="local",
        node_ids=("t",),
        retries=0,
        retry_delay_seconds=0,
        timeout_seconds=None,
        bounded=True,
    )
    with engine.open(task, run_of(1, None)) as opened:
        yield opened


class Timer:
    """Runs two things in turn and compares them, by the clock and by the processor."""

    def __init__(self, ours: Callable[[], object], rival: Callable[[], object], times: int) -> None:
        self._pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self.more(ours, rival, times)

    def more(self, ours: Callable[[], object], rival: Callable[[], object], times: int) -> None:
        """Run two others in turn, after one warm-up of each, and count them with those before."""
        for number in range(times + 1):
            two = [("ours", ours), ("rival", rival)]
            # Who goes first changes, so that neither profits from what the other left in caches.
            took = {name: _took(one) for name, one in (two if number % 2 else reversed(two))}
            if number:
                self._pairs.append((took["ours"], took["rival"]))

    def rows(self, name: str, bound: float | None) -> list[Row]:
        """Return a row of wall time and one of processor time: the medians of the pairs' ratios."""
        found = []
        for index, suffix in enumerate(("", "_cpu")):
            mine = [ours[index] for ours, _ in self._pairs]
            theirs = [rival[index] for _, rival in self._pairs]
            ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
            shown, other = (f"{statistics.median(times) * 1000:.1f} ms" for times in (mine, theirs))
            said, holds = (f"≤ {bound}", ratio <= bound) if bound else ("stated", None)
            found.append(Row(f"{name}{suffix}", shown, other, ratio, said, holds))
        return found


def _took(one: Callable[[], object]) -> tuple[float, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    one()
    return time.perf_counter() - wall, time.process_time() - cpu


def new_table(name: str) -> tuple[str, Path]:
    """Return a table's name and its folder, which is not there yet."""
    target = FOLDER / "bench" / name
    set_aside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    return f"bench.{name}", target


class Ours:
    """Writes a frame by the engine and the lake's sink, each time as a newer execution."""

    def __init__(self, name: str, frame: pl.DataFrame, day: date | None, **options: Any) -> None:
        self._name, self.folder = new_table(name)
        self._frame, self._day, self._options = frame, day, options
        self._generation = 0

    def __call__(self) -> None:
        self.write(self._frame, self._day)

    def write(self, frame: pl.DataFrame, day: date | None) -> None:
        """Write any frame, for any day."""
        self._generation += 1
        sink = OneLakeSink.load({"table": self._name, **self._options}, environment())
        request = Write("out", run_of(self._generation, day), {}, "dt" if day and sink.partition_by else None)
        with session() as opened:
            opened.write([FrameWrite(frame.lazy(), sink, request)])


def lineitem(days: int | None) -> pl.DataFrame:
    """Return SF1 lineitem, all of it as the rows of one day, or what was shipped on each of so many days."""
    import polars as pl

    frame = pl.scan_parquet(tpch(1, "lineitem") / "lineitem.parquet")
    if days is None:
        return frame.with_columns(dt=pl.lit(DAY)).collect(engine="streaming")
    shipped = pl.col("l_shipdate").is_between(DAY, DAY + timedelta(days=days - 1))
    return frame.filter(shipped).with_columns(dt=pl.col("l_shipdate")).collect(engine="streaming")


def _bare_write(target: Path, frame: pl.DataFrame, mode: str, day: date | None = None) -> None:
    from deltalake import WriterProperties, write_deltalake

    write_deltalake(
        str(target),
        frame,
        mode=mode,  # type: ignore[call-overload]  # given as it is
        partition_by=["dt"],
        predicate=f"dt = '{day}'" if day and (target / "_delta_log").exists() else None,
        writer_properties=WriterProperties(compression="ZSTD", compression_level=3),  # as polars writes
    )


def lake_overwrite() -> list[Row]:
    """One day of lineitem replaced: a day of shipments among a year's, and all of SF1 as one day."""
    year = lineitem(365)
    one = year.filter(year["dt"] == DAY)
    ours = Ours("overwrite", one, DAY, partition_by=["dt"])
    _, bare = new_table("overwrite_bare")
    _bare_write(ours.folder, year, "overwrite")
    _bare_write(bare, year, "overwrite")
    rows = Timer(ours, lambda: _bare_write(bare, one, "overwrite", DAY), 15).rows("lake_overwrite_day", 1.1)
    whole = lineitem(None)
    ours = Ours("overwrite_sf1", whole, DAY, partition_by=["dt"])
    _, bare_sf1 = new_table("overwrite_sf1_bare")
    return rows + Timer(ours, lambda: _bare_write(bare_sf1, whole, "overwrite", DAY), 5).rows("lake_overwrite_sf1", 1.1)


def lake_append() -> list[Row]:
    """Rows of lineitem added to a table: a day of shipments to a year's and to a day's, and all of SF1 to itself."""
    one = lineitem(1)
    rows = []
    for name, frame, there in (("day", one, lineitem(365)), ("small", one, one)):
        timer = Timer(*_appends(name, frame, there), 14)
        for _ in range(4):  # to new tables: of more commits, those of delta-rs have no checkpoint before the hundredth
            timer.more(*_appends(name, frame, there), 14)
        rows += timer.rows(f"lake_append_{name}", 1.1)
    whole = lineitem(None)
    return rows + Timer(*_appends("sf1", whole, whole), 5).rows("lake_append_sf1", 1.1)


def _appends(name: str, frame: pl.DataFrame, there: pl.DataFrame) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what adds a frame, as a run for another day each time, and what adds it by delta-rs, to two new tables."""
    ours = Ours(f"append_{name}", frame, None, mode="append", partition_by=["dt"])
    _, bare = new_table(f"append_{name}_bare")
    for target in (ours.folder, bare):
        _bare_write(target, there, "overwrite")
    days = iter(DAY + timedelta(days=number) for number in range(1000))
    return lambda: ours.write(frame, next(days)), lambda: _bare_write(bare, frame, "append")


PARTITIONS = 1000


def _partitioned() -> Path:
    """Return a table of SF1 lineitem in 1,000 partitions, made once."""
    import polars as pl

    target = FOLDER / "bench" / "partitioned"
    if not (target / "_delta_log").exists():
        frame = lineitem(None).drop("dt").with_columns(part=(pl.col("l_orderkey") % PARTITIONS).cast(pl.Int32))
        target.parent.mkdir(parents=True, exist_ok=True)
        frame.write_delta(str(target), delta_write_options={"partition_by": ["part"]})
    return target


def lake_read() -> list[Row]:
    """One of 1,000 partitions read, the table opened anew each time; and the bytes that were read for it."""
    import polars as pl

    target = _partitioned()
    wanted = iter(range(PARTITIONS))
    current = 0

    def ours() -> None:
        table._remembered.clear()  # what a new process would not know
        source = OneLakeSource.load({"table": "bench.partitioned", "partitions": {"part": current}}, environment())
        frame = source.to_polars(Scan()).collect()
        assert frame.height > 4000

    def bare() -> None:
        nonlocal current
        current = next(wanted)
        frame = pl.scan_delta(str(target)).filter(pl.col("part") == current).collect()
        assert frame.height > 4000

    return Timer(ours, bare, 25).rows("lake_read", 1.1)


class BareSink(Sink, kind="bare"):
    """Commits what an engine wrote, by delta-rs alone: no identity, no owner's folder, no door for audits."""

    folder: str
    _below: str = PrivateAttr(default="")

    def dataset(self) -> DatasetName:
        """Return a name."""
        return DatasetName("bare", self.folder)

    def partition_columns(self) -> tuple[str, ...]:
        """Return the one of all tables here."""
        return ("dt",)

    def destination(self, request: Write) -> Destination:
        """Return a folder below the table's."""
        self._below = uuid4().hex
        return Destination(f"{self.folder}/{self._below}", ("dt",))

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Commit the files in place of what lies in the run's partition."""
        from deltalake import DeltaTable
        from deltalake.transaction import AddAction

        now = int(time.time() * 1000)
        added = [
            AddAction(
                path=f"{self._below}/{file.path}",
                size=file.bytes,
                partition_values=dict(file.partition),
                modification_time=now,
                data_change=True,
                stats=f'{{"numRecords":{file.rows}}}',
            )
            for file in files
        ]
        table = DeltaTable(self.folder)
        filters = [("dt", "=", request.run.partition_key or "")]
        table.create_write_transaction(added, "overwrite", table.schema(), ["dt"], filters)  # type: ignore[arg-type]  # tuples
        return Written()

    def write(self, batches: Any, request: Write) -> Written:
        """Refuse: an engine writes files."""
        raise AssertionError


def lake_safety() -> list[Row]:
    """All of SF1 lineitem as one day, by the lake's sink and by one that only commits the same engine's files."""
    whole = lineitem(None)
    ours = Ours("safety", whole, DAY, partition_by=["dt"])
    _, bare = new_table("safety_bare")
    _bare_write(bare, whole.head(1), "overwrite")
    sink = BareSink.load({"folder": str(bare)}, environment())

    def unsafe() -> None:
        with session() as opened:
            opened.write([FrameWrite(whole.lazy(), sink, Write("out", run_of(1, DAY), {}, "dt"))])

    return Timer(ours, unsafe, 5).rows("lake_safety", 1.05)
