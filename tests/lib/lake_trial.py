"""A lake in a folder, with both engines at work on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import FrameWrite, Scan, Session, Write, Written
from aiflow_sdk.testing.conformance.probe import Batches, Rows
from remembered import check_remembered

ENGINES = ("python", "spark")
READERS = ("arrow", *ENGINES)


def run_of(generation: int = 1, day: str | None = None) -> Run:
    """Return a run; executions are known by their generation."""
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id="x",
        partition_key=day,
        partition_grain="day" if day else None,
        execution=generation,
        generation=generation,
    )


@contextmanager
def open_sessions() -> Iterator[dict[str, Session]]:
    """Yield a session of each engine."""
    with ExitStack() as stack:
        opened: dict[str, Session] = {}
        for name, engine in (("python", PythonEngine()), ("spark", SparkEngine())):
            task = PlanTask(
                id="t",
                engine=name,
                engine_plugin=f"{type(engine).__module__}:{type(engine).__name__}",
                cluster="local",
                node_ids=("t",),
                retries=0,
                retry_delay_seconds=0,
                timeout_seconds=None,
                bounded=True,
            )
            opened[name] = stack.enter_context(engine.open(task, run_of()))
        yield opened


@dataclass
class Trial:
    """One lake."""

    environment: Environment
    sessions: Mapping[str, Session]

    def write(self, engine: str, table: str, frame: pa.Table, run: Run | None = None, **options: Any) -> Written:
        """Write a frame by an engine."""
        run = run or run_of()
        time = options.pop("time_column", None)
        sink = OneLakeSink.load({"table": table, **options}, self.environment)
        fill = {time: run.partition_key or ""} if time else {}
        session = self.sessions[engine]
        (written,) = session.write(
            [FrameWrite(session.read(Rows.of(frame), Scan()), sink, Write("out", run, fill, time))]
        )
        check_remembered(self.environment, table)
        return written

    def source(self, table: str, **options: Any) -> OneLakeSource:
        """Return a source of the table."""
        return OneLakeSource.load({"table": table, **options}, self.environment)

    def read(self, reader: str, table: str, scan: Scan | None = None, **options: Any) -> pa.Table:
        """Return the table's rows, as a reader gives them."""
        source, scan = self.source(table, **options), scan or Scan()
        if reader == "arrow":
            return pa.Table.from_batches(list(source.scan(scan)))
        session, kept = self.sessions[reader], Batches()
        session.write([FrameWrite(session.read(source, scan), kept, Write("kept", run_of()))])
        table_read: pa.Table = kept._table
        return table_read
