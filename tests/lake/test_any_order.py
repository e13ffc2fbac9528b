"""Executions cleared, tried again and overtaken, days backfilled in any order: what a table holds then, by brute force.

Each example is a list of writes in the order in which they complete. Their generations are drawn freely: a higher one
than before is a clear, the same one a retry, perhaps with other rows, a lower one an execution that comes late.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import DataError, UnknownNameError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write, Written
from remembered import check_remembered

DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")
PIPELINES = ("x", "y")
SCHEMA = {"id": pl.Int64, "v": pl.Int64, "dt": pl.String}

Row = tuple[int, int | None]
"""Key and value; the value is what ``order_by`` orders by."""

generations = st.integers(1, 6)
days = st.sampled_from(DAYS)
pipelines = st.sampled_from(PIPELINES)


@dataclass
class Lake:
    """One table, written and read as a task does."""

    folder: Path
    environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.environment = Environment(lake=str(self.folder))

    def sink(self, **options: Any) -> OneLakeSink:
        return OneLakeSink.load({"table": "feature.out", "partition_by": ["dt"], **options}, self.environment)

    def write(
        self,
        options: dict[str, Any],
        run: Run,
        rows: Sequence[tuple[Any, ...]],
        *,
        node: str = "out",
        time: str | None = None,
        siblings: Sequence[str] = (),
    ) -> Written:
        """Write rows; those of two columns lie in the run's own partition."""
        names = list(SCHEMA)[: len(rows[0])] if rows else ["id", "v"]
        frame = pl.DataFrame(rows, {name: SCHEMA[name] for name in names}, orient="row")
        fill = {"dt": run.partition_key} if run.partition_key else {}
        request = Write(node, run, fill, time, siblings=tuple(siblings))
        written = self.sink(**options).write(frame.to_arrow().to_reader(), request)
        check_remembered(self.environment, "feature.out")
        return written

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows, sorted; none where there is no table."""
        try:
            frame = OneLakeSource.load({"table": "feature.out"}, self.environment).to_polars(Scan())
        except UnknownNameError:
            return []
        return sorted(frame.select(list(SCHEMA)).collect().rows(), key=repr)

    def version(self) -> int:
        return len(list((self.folder / "feature/out/_delta_log").glob("*.json")))

    def facts(self, day: str) -> tuple[str, int | None]:
        source = OneLakeSource.load({"table": "feature.out"}, self.environment)
        try:
            (found,) = source.partition_facts("dt", [day]).values()
        except UnknownNameError:
            return "absent", None
        return found.state, found.rows


@pytest.fixture(scope="session")
def lake(tmp_path_factory) -> Callable[[], Lake]:
    return lambda: Lake(tmp_path_factory.mktemp("lake"))


def run_of(pipeline: str, day: str | None, generation: int, *, last: str | None = None, attempt: int = 1) -> Run:
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id=pipeline,
        partition_key=day,
        last_partition_key=last if last != day else None,
        partition_grain="day" if day else None,
        execution=generation,
        generation=generation,
        attempt=attempt,
    )


def examples(number: int) -> Any:
    """So many examples, and in a soak as many times more, other ones each time."""
    times = int(os.environ.get("AIFLOW_SOAK", "1"))
    return settings(max_examples=number * times, derandomize=times == 1)


# overwrite


@st.composite
def overwrites(draw: Any) -> list[tuple[str, list[str], int, list[tuple[int, int, str]]]]:
    """Pipeline, days of the run (a range of them too), generation, rows of any of these days."""
    steps = []
    for _ in range(draw(st.integers(1, 9))):
        first = draw(st.integers(0, 2))
        last = draw(st.integers(first, 2)) if draw(st.integers(0, 3)) == 0 else first
        span = list(DAYS[first : last + 1])
        rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from(span)), max_size=3))
        steps.append((draw(pipelines), span, draw(generations), rows))
    return steps


@examples(20)
@given(steps=overwrites())
def test_a_day_that_is_overwritten_holds_the_rows_of_its_newest_execution(lake, steps):
    table = lake()
    held: dict[str, list[Any]] = {}
    newest: dict[tuple[str, str], int] = {}
    for attempt, (pipeline, span, generation, rows) in enumerate(steps, 1):
        run = run_of(pipeline, span[0], generation, last=span[-1], attempt=attempt)
        written = table.write({"mode": "overwrite"}, run, rows, time="dt")
        fresh = [day for day in span if newest.get((pipeline, day), 0) <= generation]
        for day in fresh:
            newest[pipeline, day] = generation
            held[day] = [row for row in rows if row[2] == day]
        assert written.superseded == (not fresh)
        assert table.rows() == sorted((row for of_day in held.values() for row in of_day), key=repr)
        for day in DAYS:
            wanted = "absent" if day not in held else "complete" if held[day] else "empty"
            assert table.facts(day) == (wanted, len(held.get(day, ()))) or (wanted == "absent" and not held)


# overwrite_partitions


late_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), days), max_size=3)


@examples(20)
@given(steps=st.lists(st.tuples(pipelines, days, generations, late_rows), min_size=1, max_size=9))
def test_late_rows_replace_their_days_unless_a_newer_execution_wrote_them(lake, steps):
    table = lake()
    held: dict[str, list[Any]] = {}
    newest: dict[tuple[str, str, str], int] = {}
    for attempt, (pipeline, day, generation, rows) in enumerate(steps, 1):
        written = table.write(
            {"mode": "overwrite_partitions"}, run_of(pipeline, day, generation, attempt=attempt), rows
        )
        is_overtaken = newest.get((pipeline, "run", day), 0) > generation
        assert written.superseded == is_overtaken
        if not is_overtaken:
            newest[pipeline, "run", day] = generation
            for of in sorted({row[2] for row in rows}):
                if newest.get((pipeline, "day", of), 0) <= generation:
                    newest[pipeline, "day", of] = generation
                    held[of] = [row for row in rows if row[2] == of]
        assert table.rows() == sorted((row for of_day in held.values() for row in of_day), key=repr)
        if table.version():
            assert [table.facts(of)[0] for of in DAYS] == ["complete" if of in held else "absent" for of in DAYS]


# append, and overwrite between


added_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=3)
adding = st.tuples(
    st.sampled_from(["append", "append", "append", "overwrite"]), pipelines, days, generations, added_rows
)


@examples(20)
@given(steps=st.lists(adding, min_size=1, max_size=10))
def test_added_rows_lie_there_once_beside_those_of_others(lake, steps):
    table = lake()
    held: dict[str, dict[tuple[str, str], list[Any]]] = {}
    newest: dict[tuple[str, str, str], int] = {}
    for attempt, (mode, pipeline, day, generation, rows) in enumerate(steps, 1):
        run = run_of(pipeline, day, generation, attempt=attempt)
        written = table.write({"mode": mode}, run, rows, node=mode, time="dt" if mode == "overwrite" else None)
        fresh = newest.get((mode, pipeline, day), 0) <= generation
        assert written.superseded == (not fresh)
        if fresh:
            newest[mode, pipeline, day] = generation
            of_day = held.setdefault(day, {})
            if mode == "overwrite":
                of_day.clear()
            of_day[mode, pipeline] = [(*row, day) for row in rows]
        assert table.rows() == sorted((row for day in held.values() for one in day.values() for row in one), key=repr)
        for one in DAYS if table.version() else ():
            count = sum(map(len, held.get(one, {}).values()))
            assert table.facts(one) == ("absent" if one not in held else "complete" if count else "empty", count)


# upsert


@dataclass(frozen=True)
class Rank:
    """What decides between two rows with one key."""

    order: int | None
    part: str
    commit: int

    def beats(self, other: Rank) -> bool:
        mine = (self.order is not None, self.order or 0, self.part, self.commit)
        return mine > (other.order is not None, other.order or 0, other.part, other.commit)


@dataclass
class Merged:
    """The oracle of ``upsert``: of each sink and day the rows of its newest execution, whoever they lost to."""

    ordered: bool
    withdrawn: str
    rows: dict[tuple[str, str], dict[int, tuple[int | None, Rank]]] = field(default_factory=dict)
    newest: dict[tuple[str, str], int] = field(default_factory=dict)
    has_covered: set[tuple[str, str]] = field(default_factory=set)
    """Owners one of whose rows ever stood in the place of somebody else's."""

    def best(self, key: int) -> tuple[str, str] | None:
        holders = [owner for owner, rows in self.rows.items() if key in rows]
        best: tuple[str, str] | None = None
        for owner in holders:
            if best is None or self.rows[owner][key][1].beats(self.rows[best][key][1]):
                best = owner
        return best

    def table(self) -> list[tuple[Any, ...]]:
        keys = {key for rows in self.rows.values() for key in rows}
        found = [(key, self.rows[owner][key][0], owner[1]) for key in keys if (owner := self.best(key))]
        return sorted(found, key=repr)

    def lost_if(self, owner: tuple[str, str], new: dict[int, tuple[int | None, Rank]]) -> tuple[set[int], set[int]]:
        """Return the visible keys that the owner would take back or lower, and those of them beneath which rows lie."""
        fallen, buried = set(), set()
        for key, (_, before) in self.rows.get(owner, {}).items():
            if self.best(key) != owner:
                continue
            after = new[key][1] if key in new else None
            if after is not None and after.beats(before):
                continue
            fallen.add(key)
            others = [rows[key][1] for one, rows in self.rows.items() if one != owner and key in rows]
            if (after is None and others) or any(after is not None and other.beats(after) for other in others):
                buried.add(key)
        return fallen, buried

    def write(
        self, owner: tuple[str, str], new: dict[int, tuple[int | None, Rank]], fallen: set[int]
    ) -> set[tuple[str, str]]:
        """Take an execution's rows for the owner's. ``fallen`` are keys whose earlier values are known to be gone.

        Return whose rows ought to be seen now and are not.
        """
        before, lacking = self.rows.get(owner, {}), set()
        for key in fallen:
            for one, rows in self.rows.items():
                if one != owner and key in rows and (key not in new or rows[key][1].beats(new[key][1])):
                    del rows[key]
                    lacking |= {one} if key in new or self.withdrawn == "delete" else set()
        kept = {key: before[key] for key in fallen if key not in new and self.withdrawn == "keep"}
        self.rows[owner] = {**new, **kept}
        for key in new:
            holders = [one for one, rows in self.rows.items() if key in rows]
            if len(holders) > 1 and (best := self.best(key)):
                self.has_covered.add(best)
        return lacking


def refused_or(write: Callable[[], Written]) -> Written | None:
    """Return what was written, or None where values of others are gone."""
    try:
        return write()
    except DataError as error:
        if error.code != "values-replaced":
            raise
        return None


values = st.one_of(st.none(), st.integers(0, 4))
batches = st.dictionaries(st.integers(0, 3), values, max_size=3)
merging = st.lists(st.tuples(pipelines, days, generations, batches), min_size=1, max_size=10)
D1, D2, D3 = DAYS


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("withdrawn", ["refuse", "delete", "keep"])
@examples(10)
@given(steps=merging)
@example(steps=[("x", D2, 1, {0: 3}), ("x", D1, 2, {0: 2}), ("x", D2, 3, {0: 1})])
@example(steps=[("x", D1, 1, {0: 2}), ("x", D2, 2, {0: 3}), ("x", D2, 3, {0: None})])
@example(steps=[("x", D1, 1, {0: 2}), ("x", D2, 2, {0: 3}), ("x", D3, 3, {0: 4}), ("x", D3, 4, {}), ("x", D2, 5, {})])
def test_of_rows_with_one_key_the_best_of_all_newest_executions_stays(lake, ordered, withdrawn, steps):
    table, oracle = lake(), Merged(ordered, withdrawn)
    made: dict[tuple[str, str], str | None] = {}
    options = {"mode": "upsert", "keys": ["id"], "withdrawn": withdrawn, **({"order_by": "v"} if ordered else {})}
    for number, (pipeline, day, generation, batch) in enumerate(steps, 1):
        owner = (pipeline, day)
        run = run_of(pipeline, day, generation, attempt=number)
        new = {key: (value, Rank(value if ordered else 0, day, number)) for key, value in batch.items()}
        before = table.rows()
        fallen, buried = oracle.lost_if(owner, new)
        fresh = oracle.newest.get(owner, 0) <= generation
        written = refused_or(lambda: table.write(options, run, list(batch.items())))  # noqa: B023 called at once
        if written is None:
            assert withdrawn == "refuse"
            assert fresh
            assert fallen, "refused though no row of an earlier execution goes"
            assert owner in oracle.has_covered, "refused though all that it ever replaced is its own"
            assert table.rows() == before
            event("refused for a row that is gone" if buried else "refused to be sure")
            continue
        assert written.superseded == (not fresh)
        if fresh:
            assert withdrawn != "refuse" or not buried, f"the values of {sorted(buried)} are gone, and nothing was said"
            oracle.newest[owner] = generation
            lacking = oracle.write(owner, new, fallen if owner in oracle.has_covered else set())
            made[owner] = written.identity
            sink = table.sink(**options)
            changed = {one for one, identity in made.items() if sink.identity(run_of(*one, 1), "out") != identity}
            assert lacking <= changed, "a backfill would not make again what lacks rows"
            assert not changed or withdrawn != "refuse"
        assert table.rows() == oracle.table()


# Several sinks of one pipeline make a day together

SINKS = {"x": ("a", "b"), "y": ("a", "b", "c"), "z": ("a",)}
parts = st.sampled_from([(pipeline, sink) for pipeline, sinks in SINKS.items() for sink in sinks])
made_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=1)


@examples(20)
@given(steps=st.lists(st.tuples(parts, st.sampled_from(DAYS[:2]), generations, made_rows), min_size=1, max_size=10))
@example(steps=[(("z", "a"), D1, 1, []), (("x", "a"), D1, 2, []), (("z", "a"), D1, 3, []), (("x", "b"), D1, 2, [])])
@example(steps=[(("x", "a"), D1, 1, []), (("y", "a"), D1, 2, []), (("x", "b"), D1, 1, [])])
def test_a_day_is_incomplete_while_a_pipeline_that_began_it_has_sinks_that_have_not_written(lake, steps):
    table = lake()
    held: dict[str, dict[tuple[str, str], list[Any]]] = {day: {} for day in DAYS}
    newest: dict[tuple[str, str, str], int] = {}
    for attempt, ((pipeline, sink), day, generation, rows) in enumerate(steps, 1):
        siblings = [one for one in SINKS[pipeline] if one != sink]
        run = run_of(pipeline, day, generation, attempt=attempt)
        table.write({"mode": "append"}, run, rows, node=sink, siblings=siblings)
        if newest.get((pipeline, sink, day), 0) <= generation:
            newest[pipeline, sink, day] = generation
            held[day][pipeline, sink] = rows
        for one in DAYS:
            wrote = {name: [sink for sink in sinks if (name, sink) in held[one]] for name, sinks in SINKS.items()}
            begun = any(wrote[name] and len(wrote[name]) < len(SINKS[name]) for name in SINKS)
            count = sum(map(len, held[one].values()))
            state = "incomplete" if begun else "absent" if not held[one] else "complete" if count else "empty"
            assert table.facts(one) == (state, count)
