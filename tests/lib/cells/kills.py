"""Deaths of a lake's writers: what is written, where it is killed, and what must hold afterwards.

A step of a write is a change of a file below the lake, or a request that its store gets; both are found by tracing one
clean run. Whoever reads after a death sees the rows of before or those of the write, wholly; the same execution done
again gives what the clean run gave; and a newer execution goes on from there.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.stores import server_variables
from cells.lake import DAYS, Cell, LakeTable, Row, columns
from harness.killing import Job, Outcome, kill_group, run, trace
from harness.place import FolderPlace, Kind, Place, StorePlace
from harness.proxy import Call, Proxy, fault_proxy
from harness.shim import Faults, When
from harness.zygote import Zygote

DAY, NEXT, LAST = DAYS
JOBS = Path(__file__).with_name("jobs.py")
Victim = Literal["writer", "server"]
"""Who dies: the process that writes, with a Spark server inside it; or an embedded Spark server alone."""
WHEN: tuple[When, ...] = ("before", "torn", "after")
_KEPT = 3
"""So many kills that came too late are tried again, earlier."""

WriteOf = Mapping[str, Any]
"""Arguments of :meth:`LakeTable.write`."""


@dataclass(frozen=True)
class Scenario:
    """A table as it was before, a write that dies, and one that comes after."""

    name: str
    mode: str
    write: WriteOf
    newer: WriteOf
    before: Sequence[WriteOf] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    """The code with which the newer execution is refused."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Of the table, set after what was before."""


def _given(frame: Mapping[str, Any], day: str, generation: int, **more: Any) -> WriteOf:
    return {"frame": frame, "day": day, "generation": generation, **more}


_TWO_DAYS = (_given(columns(1, 2, 3), DAY, 1), _given(columns(4, 5), NEXT, 2))
_AGAIN = _given(columns(1, 7, text="b"), DAY, 3)
_NEWER = _given(columns(2, 8, 9, text="c"), DAY, 4)
_SHORT = {"id": "Int32"}

SCENARIOS = (
    Scenario("overwrite", "overwrite", _AGAIN, _NEWER, _TWO_DAYS),
    Scenario("overwrite, the table's first write", "overwrite", _AGAIN, _NEWER),
    Scenario(
        "overwrite with a checkpoint", "overwrite", _AGAIN, _NEWER, _TWO_DAYS,
        properties={"delta.checkpointInterval": "1"},
    ),
    Scenario(
        "overwrite that adds a column", "overwrite",
        _given(columns(1, 7, text="b", more=[1.5, None]), DAY, 3), _given(columns(2, text="c", more=[2.5]), DAY, 4),
        _TWO_DAYS, {"schema_evolution": "add_columns"},
    ),
    Scenario(
        "overwrite_partitions", "overwrite_partitions",
        _given(columns(1, 7, text="b", dt=[DAY, LAST]), NEXT, 3), _given(columns(8, text="c", dt=[DAY]), NEXT, 4),
        _TWO_DAYS,
    ),
    Scenario("append", "append", _AGAIN, _NEWER, _TWO_DAYS),
    Scenario(
        "append that widens a type", "append", _given(columns(1, 7, 2**40, text="b"), DAY, 3), _NEWER,
        tuple({**write, "types": _SHORT} for write in _TWO_DAYS), {"schema_evolution": "widen"},
    ),
    Scenario(
        "upsert over others' rows", "upsert", _given(columns(1, 4, 6, text="b"), LAST, 3),
        _given(columns(1, 4, 6, 7, text="c"), LAST, 4), _TWO_DAYS,
    ),
    Scenario(
        "upsert done again", "upsert", _given(columns(2, 5, text="b"), NEXT, 3), _given(columns(6, text="c"), NEXT, 5),
        (_given(columns(1, 2, 3), DAY, 1), _given(columns(2, 4, 5), NEXT, 2)), {"withdrawn": "delete"},
    ),
    Scenario(
        "error_if_exists", "error_if_exists", _given(columns(6, 7, text="b"), LAST, 3),
        _given(columns(8, text="c"), LAST, 4), _TWO_DAYS, refused="already-exists",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One place at which a write dies."""

    number: int
    when: When
    what: str
    """The step, as it was traced."""
    victim: Victim = "writer"


@dataclass(frozen=True)
class Death:
    """What became of one kill."""

    point: Point
    was_killed: bool
    violations: tuple[str, ...] = ()
    saw: Literal["old", "new", "neither"] = "neither"
    """What readers saw right after it."""


@dataclass
class KillBench:
    """Kills one scenario's write in one engine and store, as often as it is asked."""

    scenario: Scenario
    engine: str
    make_place: Callable[[], Place]
    """Makes an empty place."""
    zygote: Zygote
    folder: Path
    """For files of its own."""
    job: tuple[Path, str] = (JOBS, "write")
    """File and function that make the write."""
    _before: Mapping[str, bytes] = field(default_factory=dict)
    old: list[Row] = field(default_factory=list)
    new: list[Row] = field(default_factory=list)
    newest: list[Row] = field(default_factory=list)
    points: tuple[Point, ...] = ()
    """Every step of the clean run, once."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _proxy: Proxy | None = None

    def __enter__(self) -> KillBench:
        """Make the table of before, and trace the write on a copy of it."""
        place = self.make_place()
        if place.host:
            self._proxy = self._stack.enter_context(fault_proxy(place.host))
        table = self._table(place, engine="python")
        for write in self.scenario.before:
            table.write(**write)
        if self.scenario.properties:
            from deltalake import DeltaTable

            address = f"{place.address}/feature/out"
            delta = DeltaTable(address, storage_options=place.options())
            delta.alter.set_table_properties(dict(self.scenario.properties))
        self._before = {key: place.read(key) for key in sorted(place.files()) if not key.startswith("_")}
        self.old = table.rows()
        self._trace()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def kind(self) -> Kind:
        """The store."""
        return self._place.kind

    @property
    def cell(self) -> Cell:
        """The cell that its kills count for."""
        return Cell(self.scenario.mode, self.engine, self.kind)

    def sampled(self, count: int, first: int = 0) -> list[Point]:
        """Return so many points, evenly over the steps; before, torn and after in turn, from ``first`` on."""
        steps = len(self.points)
        chosen = [self.points[(index * steps + steps // 2) // count % steps] for index in range(count)]
        return [replace(point, when=WHEN[(first + index) % 3]) for index, point in enumerate(chosen)]

    def server_points(self) -> list[Point]:
        """Return the steps at which Spark writes a data file."""
        sparks = (point for point in self.points if ".parquet" in point.what and "-rewritten-" not in point.what)
        return [replace(point, victim="server") for point in sparks if not point.what.startswith(("GET", "HEAD"))]

    def kill(self, point: Point) -> Death:
        """Kill the write once, and look at everything that must hold afterwards."""
        for earlier in range(_KEPT):
            place = self._copy()
            one = replace(point, number=max(1, point.number - 2 * earlier))
            outcome = self._killed(place, one)
            lost = outcome.returncode != 0 and point.victim == "server"
            if outcome.was_killed or lost:
                return self._judged(place, one, outcome)
            if outcome.returncode != 0:
                return Death(one, False, (f"the write failed and was not killed: {outcome.output[-2000:]}",))
        return self._judged(place, point, outcome, was_killed=False)

    def _trace(self) -> None:
        place = self._copy()
        job = self._job(place)
        if self._proxy is None:
            steps = trace(job, Path(place.address), zygote=self.zygote)
            names = [f"{step.call} {os.path.relpath(step.path, place.address)}" for step in steps]
        else:
            self._proxy.clear()
            done = run(job, zygote=self.zygote)
            if done.returncode != 0:
                raise RuntimeError(f"a clean run of '{self.scenario.name}' failed:\n{done.output}")
            self._proxy.settle()
            names = [f"{request.method} {request.path}" for request in self._proxy.requests]
        self.points = tuple(Point(number, "before", what) for number, what in enumerate(names, 1))
        table = self._table(place)
        self.new = table.rows()
        self._again(table)
        self.newest = table.rows()

    def _again(self, table: LakeTable) -> str | None:
        """Write the newer execution; return what is wrong with how that went."""
        try:
            table.write(**self.scenario.newer)
        except AiflowError as error:
            return None if error.code == self.scenario.refused else f"the newer execution failed: {error}"
        return None if self.scenario.refused is None else "the newer execution was not refused"

    def _killed(self, place: Place, point: Point) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            session = Path(name) if point.victim == "server" else None
            job = self._job(place, session)
            try:
                if self._proxy is None:
                    root = Path(place.address)
                    return run(job, Faults(root, kill_at=point.number, when=point.when), zygote=self.zygote)
                return self._killed_at_request(job, self._proxy, point, session)
            finally:
                if session is not None:
                    from aiflow_sdk.engines.spark import stop_servers

                    stop_servers(session)

    def _killed_at_request(self, job: Job, proxy: Proxy, point: Point, session: Path | None) -> Outcome:
        import queue

        leader: queue.SimpleQueue[int] = queue.SimpleQueue()

        def kill() -> bool:
            if session is None:
                kill_group(leader.get(timeout=60))
                return False
            for path in session.glob("spark*.json"):
                with suppress(ProcessLookupError):
                    os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
            return False

        proxy.clear()
        # Of this copy alone: a server that was left alone may still be writing to another one.
        call = Call(after=kill) if point.when == "after" else Call(before=kill)
        proxy.plan(call, first=point.number)
        outcome = run(job, zygote=self.zygote, started=leader.put)
        proxy.settle()
        return outcome

    def _judged(self, place: Place, point: Point, outcome: Outcome, *, was_killed: bool = True) -> Death:
        table = self._table(place)
        rows = table.rows()
        wrong = list(self._seen_wrong(rows, table.rows_by_delta()))
        wrong += self._mended_wrong(table, outcome)
        saw: Literal["old", "new", "neither"]
        saw = "old" if rows == self.old else "new" if rows == self.new else "neither"
        return Death(point, was_killed, tuple(wrong), saw)

    def _seen_wrong(self, rows: list[Row], rows_by_delta: list[Row]) -> Iterator[str]:
        for name, found in (("aiflow", rows), ("delta-rs", rows_by_delta)):
            if found not in (self.old, self.new):
                yield f"{name} reads neither the old rows nor the new ones: {_shown(found)}"
        if rows != rows_by_delta:
            yield f"readers disagree: {_shown(rows)} and {_shown(rows_by_delta)}"

    def _mended_wrong(self, table: LakeTable, outcome: Outcome) -> Iterator[str]:
        try:
            table.write(**self.scenario.write, attempt=2)
        except AiflowError as error:
            yield f"the second attempt failed: {error}\n{outcome.output[-500:]}"
        if table.rows() != self.new:
            yield f"the second attempt left {_shown(table.rows())}, and a clean run {_shown(self.new)}"
        if problem := self._again(table):
            yield problem
        if not table.rows() == table.rows_by_delta() == self.newest:
            yield f"the newer execution left {_shown(table.rows())}, and after a clean run {_shown(self.newest)}"

    def _copy(self) -> Place:
        place = self._place = self.make_place()
        for key, content in self._before.items():
            place.write(key, content)
        return place

    def _table(self, place: Place, engine: str | None = None) -> LakeTable:
        return LakeTable.at(self.scenario.mode, engine or self.engine, place, self.scenario.options)

    def _job(self, place: Place, session: Path | None = None) -> Job:
        environment = self._table(place).environment
        storage = place.storage(self._proxy.endpoint if self._proxy else None)
        variables: dict[str, str] = {}
        inside = self.engine == "spark" and session is None
        if inside:
            variables = dict(server_variables(environment.lake_root.address, storage))
        elif session is not None:
            variables = {"AIFLOW_SESSION_DIR": str(session), "AIFLOW_SESSION_OWNER": str(os.getpid())}
        given = {
            "mode": self.scenario.mode,
            "engine": self.engine,
            "lake": environment.lake,
            "storage": storage,
            "options": dict(self.scenario.options),
            "session": variables,
            "inside": inside,
        }
        return Job(*self.job, [given, dict(self.scenario.write)])


def _shown(rows: Sequence[Row]) -> str:
    return str([dict(sorted(row)) for row in rows])


def place_maker(kind: Kind, folder: Path, server: Any = None) -> Callable[[], Place]:
    """Return a function that makes empty places side by side: below a folder, or in one bucket of the server."""
    import itertools

    numbers = itertools.count()
    if kind == "folder":

        def make_folder() -> Place:
            root = folder / f"lake-{next(numbers)}"
            root.mkdir(parents=True)
            return FolderPlace(root)

        return make_folder
    bucket = server.bucket() if kind == "s3" else server.container()
    below = "lh.Lakehouse/Tables/" if kind == "onelake" else ""
    return lambda: StorePlace(kind, server, bucket, f"{below}lake-{next(numbers)}")
