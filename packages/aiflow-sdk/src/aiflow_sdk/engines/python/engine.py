"""The engine's options, and a session of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from aiflow_sdk.engines.publishing import publish_all
from aiflow_sdk.engines.python.computation import compute, computing
from aiflow_sdk.engines.python.query import run_query, user_connection
from aiflow_sdk.engines.python.reading import read_source
from aiflow_sdk.engines.python.writing import PlannedWrite, plan_write
from aiflow_sdk.engines.usercode import call_function
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.frames import FrameKind, MatchedCall, arrow_types, convert, kind_of, match_arguments, rows_of, where_of
from aiflow_sdk.ir import FrozenMap, PlainMap
from aiflow_sdk.place import placed
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine, Frame, FrameWrite, Scan, Session, Source, UserFunction, Written

if TYPE_CHECKING:
    import duckdb
    import polars as pl


class PythonEngine(Engine, kind="python"):
    """Runs user functions in the task's own process, on frames of polars.

    A function without annotations gets ``polars.DataFrame``. Sources stay lazy up to the function that computes them,
    so that columns and rows which nobody needs are not read.
    """

    sql_dialect: ClassVar[str | None] = "duckdb"
    package: ClassVar[str | None] = "polars"
    drivers: ClassVar[tuple[str, ...]] = ("polars",)

    request_cpu: str | None = None
    """What a cluster is asked for, as Kubernetes writes it: ``500m``."""
    request_memory: str | None = None
    """Likewise: ``1Gi``."""
    extra: PlainMap = FrozenMap()
    """Further settings for the cluster, passed on as they are."""

    @contextmanager
    def open(self, task: PlanTask, run: Run) -> Iterator[Session]:
        """Yield a session; leaving it closes the connections that relations of DuckDB live in."""
        with ExitStack() as resources:
            yield PythonSession(resources)


class PythonSession(Session):
    """One attempt of a task. Its frames are polars' ``LazyFrame`` and ``DataFrame``."""

    def __init__(self, resources: ExitStack) -> None:
        self._resources = resources
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._interior: dict[int, pl.LazyFrame] = {}
        """Lazy frames that functions and queries returned, by identity."""
        self._computed: dict[int, pl.DataFrame] = {}
        """What those were once an eager function needed them: nothing after it may see other rows than it saw."""

    def read(self, source: Source, scan: Scan) -> Frame:
        """Return the source's rows as a lazy frame."""
        return read_source(source, scan)

    def call(self, function: UserFunction, inputs: Mapping[str, Frame]) -> Frame | None:
        """Return what the function makes of the inputs, as a lazy or eager polars frame."""
        call = match_arguments(function.function, inputs, function.params, function.context, name=function.entrypoint)
        frames = self._frames_for(call, function)
        args, kwargs = call.arguments(lambda wanted: frames[wanted.input_id, wanted.kind])
        result = call_function(function, args, kwargs)
        if result is None:
            return None
        with computing(f"the frame that '{function.entrypoint}' returned", where_of(function.function)):
            if kind_of(result) is not FrameKind.POLARS_LAZY:
                return convert(result, FrameKind.POLARS)
            # A column that is not there is the function's mistake: it is told here, not where the frame is written.
            result.collect_schema()
        return self._remembered(result)

    def sql(self, query: str, inputs: Mapping[str, Frame]) -> Frame:
        """Return the result of DuckDB's query as a lazy frame."""
        return self._remembered(run_query(query, {name: self._known(frame) for name, frame in inputs.items()}))

    def write(self, writes: Sequence[FrameWrite]) -> Sequence[Written]:
        """Write all frames in one computation, let them be audited, then publish one sink after the other."""
        plans: list[PlannedWrite] = []
        try:
            for write in writes:
                with placed(write.request.where):
                    frame = self._known(write.frame)
                    plans.append(plan_write(frame, write.sink, write.request, alone=len(writes) == 1))
            names = " and ".join(f"'{write.request.node_id}'" for write in writes)
            compute([plan.lazy for plan in plans if plan.lazy is not None], names)
            return publish_all(writes, [plan.pend for plan in plans])
        finally:
            for plan in plans:
                plan.clean()

    def rows(self, frame: Frame) -> int | None:
        """Return how many rows an eager frame has; of a lazy one nobody knows."""
        return rows_of(frame)

    def columns(self, frame: Frame) -> tuple[tuple[str, str], ...] | None:
        """Return name and Arrow type name of each column; lazy frames know theirs."""
        with computing("the columns"):
            return arrow_types(frame)

    def _remembered(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        self._interior[id(frame)] = frame
        return frame

    def _known(self, frame: Frame) -> Frame:
        return self._computed.get(id(frame), frame)

    def _frames_for(self, call: MatchedCall, function: UserFunction) -> dict[tuple[str, FrameKind | None], Frame]:
        """Return the frame for each wanted input and kind; all that must be computed is computed at once."""
        for wanted in call.wanted:
            if wanted.kind is FrameKind.SPARK:
                raise DefinitionError(
                    "wrong-signature",
                    f"the function '{function.entrypoint}' wants '{wanted.input_id}' as a Spark frame",
                    where=where_of(function.function),
                    hint='engine python has none: say engine="spark", or annotate polars.DataFrame',
                )
        lazy_kinds = (FrameKind.POLARS_LAZY, FrameKind.DUCKDB)
        eager = {
            id(wanted.frame): wanted.frame
            for wanted in call.wanted
            if wanted.kind not in lazy_kinds and kind_of(self._known(wanted.frame)) is FrameKind.POLARS_LAZY
        }
        done = dict(zip(eager, compute(list(eager.values()), f"the inputs of '{function.entrypoint}'"), strict=True))
        self._computed.update((key, frame) for key, frame in done.items() if key in self._interior)
        frames: dict[tuple[str, FrameKind | None], Frame] = {}
        for wanted in call.wanted:
            kind = wanted.kind or FrameKind.POLARS
            frame = self._known(done.get(id(wanted.frame), wanted.frame))
            if (wanted.input_id, wanted.kind) not in frames:
                connection = self._connect() if kind is FrameKind.DUCKDB else None
                frames[wanted.input_id, wanted.kind] = convert(frame, kind, connection=connection)
        return frames

    def _connect(self) -> Any:
        if self._connection is None:
            self._connection = self._resources.enter_context(user_connection())
        return self._connection
