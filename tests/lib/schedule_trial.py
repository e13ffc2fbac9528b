"""Random schedules of late, repeated and restated partitions across a change of the clocks, and the ledger put to them.

Three pipelines in one world: hours of events, days of hours, and features of the last three days. What each partition
really was made of is known here, told by nobody's events; what the ledger says is told from events alone, which come
shuffled and twice. ``python -m schedule_trial --schedules 1000`` counts where the two differ.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from aiflow_sdk.partitions import Partition, partitions_between
from aiflow_sdk.plan import Making
from aiflow_service.ingest import Submission
from aiflow_service.ledger.evaluation import Ledger, Pipeline, Status, made_of
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.ledger.writing import making_parts
from aiflow_service.openlineage import Event, read_event
from service_trial import dataset, run_event

ZONE = "Europe/Berlin"
CHANGES = ("2026-03-28", "2026-10-24")
"""The day before one of 23 hours, and before one of 25."""
DAYS = 3
HOURS, SUMS, FEATURES = "raw.hours", "agg.days", "feature.days"
TABLES = {HOURS: 1, SUMS: 2, FEATURES: 3}


@dataclass
class Truth:
    """What lies in a partition, as only this world knows it."""

    run_uid: str
    generation: int
    code: int
    inputs: dict[tuple[str, str], str | None]
    """Each partition that was read, and the run that had written it."""


@dataclass
class Flow:
    """A pipeline of this world."""

    name: str
    table: str
    grain: str
    column: str
    reads: str | None = None
    code: int = 0
    generation: int = 0

    def inputs_of(self, key: str) -> tuple[str, ...]:
        """Return the keys of the partitions that a partition is made of."""
        return inputs_of(self.reads, key) if self.reads else ()


@cache
def inputs_of(table: str, key: str) -> tuple[str, ...]:
    """Return the keys of the partitions of a table that a day is made of: its hours, or it and the two days before."""
    day = Partition(key, "day", ZONE)
    if table == HOURS:
        first, last = (Partition.containing(at, "hour", ZONE) for at in (day.start, day.end - timedelta(seconds=1)))
        return tuple(one.key for one in partitions_between(first, last))
    return tuple(one.key for one in partitions_between(day.offset(-2), day))


@dataclass
class World:
    """The tables, what is in them, and what is told of it."""

    chance: random.Random
    day: str
    flows: dict[str, Flow] = field(default_factory=dict)
    truths: dict[tuple[str, str], Truth] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    moment: datetime = datetime(2026, 11, 20, tzinfo=UTC)
    now: datetime = datetime(2026, 11, 20, tzinfo=UTC)

    def __post_init__(self) -> None:
        for flow in (
            Flow("hours", HOURS, "hour", "hour"),
            Flow("sums", SUMS, "day", "dt", HOURS),
            Flow("features", FEATURES, "day", "dt", SUMS),
        ):
            self.flows[flow.name] = flow
        first = Partition(self.day, "day", ZONE)
        self.days = [one.key for one in partitions_between(first, first.offset(DAYS - 1))]
        self.hours = [key for day in self.days for key in self.flows["sums"].inputs_of(day)]
        self.now = Partition(self.days[-1], "day", ZONE).end

    def live(self, steps: int) -> None:
        """Let so many things happen."""
        pending: list[Iterator[None]] = []
        for _ in range(steps):
            name = self.chance.choices(["hours", "sums", "features"], [5, 3, 3])[0]
            keys = self.hours if name == "hours" else self.days
            match self.chance.random():
                case drawn if drawn < 0.06:
                    self.flows[self.chance.choice(["sums", "features"])].code += 1
                case drawn if drawn < 0.12 and pending:
                    next(pending.pop(self.chance.randrange(len(pending))), None)
                case drawn if drawn < 0.25:  # it has read, and writes some time later
                    run = self.run(name, self.chance.choice(keys), fails=self.chance.random() < 0.2)
                    next(run)
                    pending.append(run)
                case _:
                    list(self.run(name, self.chance.choice(keys)))
        for run in pending:
            list(run)

    def run(self, name: str, key: str, *, fails: bool = False) -> Iterator[None]:
        """Run a pipeline for a partition: yields once between its reading and its writing."""
        flow = self.flows[name]
        flow.generation += 1
        generation, code, uid = flow.generation, flow.code, str(uuid.UUID(int=self.chance.getrandbits(128)))
        inputs = {(flow.reads or "", one): self._writer(flow.reads, one) for one in flow.inputs_of(key)}
        read_version = self.versions.get(flow.reads or "", 0)
        self._tell("START", flow, key, uid, generation, code)
        yield
        if fails:
            self._tell("FAIL", flow, key, uid, generation, code)
            return
        there = self.truths.get((flow.table, key))
        superseded = there is not None and there.generation > generation
        if not superseded:
            self.truths[flow.table, key] = Truth(uid, generation, code, inputs)
            self.versions[flow.table] = self.versions.get(flow.table, 0) + 1
        read = None
        if flow.reads:
            column = "hour" if flow.reads == HOURS else "dt"
            read = self._dataset(flow.reads, "read", [f"{column}={one}" for one in flow.inputs_of(key)], read_version)
        version = self.versions.get(flow.table, 0)
        written = self._dataset(flow.table, "write", [f"{flow.column}={key}"], version, superseded=superseded)
        self._tell("COMPLETE", flow, key, uid, generation, code, read, written, is_task=True)
        self._tell("COMPLETE", flow, key, uid, generation, code, read, written)

    def needs(self, name: str, key: str) -> bool:
        """Tell whether a partition really has to be made: it is absent, or made of something else than is there now."""
        flow = self.flows[name]
        truth = self.truths.get((flow.table, key))
        if truth is None:
            return True
        inputs = {place: self._writer(*place) for place in truth.inputs}
        return inputs != truth.inputs or truth.code != flow.code

    def ledger(self) -> Ledger:
        """Return what the events say, in whatever order they come."""
        told = [*self.events, *self.chance.sample(self.events, len(self.events) // 10)]
        self.chance.shuffle(told)
        folds: dict[tuple[str, str], MakingFold] = {}
        for part in making_parts(Submission(event, 1, 0) for event in told):
            place = part.job[1], part.run_uid
            folds[place] = folds[place].merge(part.fold) if place in folds else part.fold
        known = {("onelake", table): number for table, number in TABLES.items()}
        pipelines = []
        for number, flow in enumerate(self.flows.values()):
            mine = [
                made_of(uid, fold, known, "dev") for (job, uid), fold in folds.items() if job == f"shop/{flow.name}"
            ]
            reads = frozenset({TABLES[flow.reads]} if flow.reads else ())
            current = self._making(flow.code)
            pipelines.append(
                Pipeline(number, "shop", flow.name, "dev", mine, current, reads, frozenset({TABLES[flow.table]}))
            )
        return Ledger(pipelines, self.now)

    def _writer(self, table: str | None, key: str) -> str | None:
        truth = self.truths.get((table or "", key))
        return truth.run_uid if truth else None

    @staticmethod
    def _making(code: int) -> Making:
        return Making("d", meaning="m", lock="l", code={"f": str(code)})

    @staticmethod
    def _dataset(table: str, node: str, partitions: list[str], version: int, **more: Any) -> dict[str, Any]:
        told = dataset(table, version={"_producer": "urn:t", "_schemaURL": "urn:t", "datasetVersion": str(version)})
        facts = {"_producer": "urn:t", "_schemaURL": "urn:t", "node_id": node, "partitions": partitions, **more}
        return {**told, "inputFacets" if node == "read" else "outputFacets": {"aiflow_node": facts}}

    def _tell(
        self,
        event_type: str,
        flow: Flow,
        key: str,
        uid: str,
        generation: int,
        code: int,
        read: dict[str, Any] | None = None,
        written: dict[str, Any] | None = None,
        *,
        is_task: bool = False,
    ) -> None:
        self.moment += timedelta(milliseconds=self.chance.randrange(1, 5))
        ours = {"_producer": "urn:t", "_schemaURL": "urn:t"}
        run = {
            **ours,
            "pipeline_id": flow.name,
            "project": "shop",
            "environment": "dev",
            "run_id": uid,
            "execution": 1,
            "generation": generation,
            "partition": key,
        }
        facets: dict[str, Any] = {"aiflow_run": run}
        if is_task:
            run |= {"task_id": "t", "attempt": 1}
            job = {"namespace": "aiflow/dev", "name": f"shop/{flow.name}"}
            facets["parent"] = {**ours, "run": {"runId": uid}, "job": job}
        else:
            about = {"definition": "d", "meaning": "m", "lock": "l", "code": {"f": str(code)}, "params": {}}
            facets["aiflow_making"] = {**ours, **about, "grain": flow.grain, "timezone": ZONE, "scheduled": True}
        event = run_event(
            event_type,
            job=f"shop/{flow.name}/t" if is_task else f"shop/{flow.name}",
            run_id=str(uuid.uuid5(uuid.UUID(uid), "t")) if is_task else uid,
            at=self.moment.isoformat(),
            inputs=[read] if read else [],
            outputs=[written] if written else [],
            run_facets=facets,
        )
        self.events.append(read_event(json.dumps(event).encode()))


@dataclass
class Tally:
    """What was counted over schedules."""

    schedules: int = 0
    repaired: int = 0
    needless: int = 0
    """Partitions that were made again and were as they should be."""
    stale: int = 0
    """Partitions that were not as they should be after the repair."""
    misjudged: int = 0
    """Partitions that the ledger judged otherwise than they were, before the repair."""


def is_due(status: Status) -> bool:
    """Tell whether the ledger would have a partition made."""
    return status.state != "current"


def try_schedule(seed: int, tally: Tally, steps: int = 40) -> World:
    """Live through one schedule, repair all that follows from the hours, and count."""
    chance = random.Random(seed)
    world = World(chance, chance.choice(CHANGES))
    for hour in chance.sample(world.hours, 20):
        list(world.run("hours", hour))
    world.live(steps)
    ledger = world.ledger()
    for pipeline in ledger.pipelines:
        for status in ledger.statuses(pipeline):
            tally.misjudged += status.state in ("current", "stale", "absent") and is_due(status) != world.needs(
                pipeline.name, status.key
            )
    for status in ledger.repairs([TABLES[HOURS]], "dev", down=True):
        # One for which a run failed may lie there as it should; only a run that completes tells.
        tally.needless += status.state != "incomplete" and not world.needs(status.pipeline.name, status.key)
        tally.repaired += 1
        list(world.run(status.pipeline.name, status.key))
    after = world.ledger()
    for pipeline in after.pipelines:
        for status in after.statuses(pipeline):
            tally.stale += is_due(status) or world.needs(pipeline.name, status.key)
    tally.schedules += 1
    return world


def main() -> int:
    """Try schedules and print what was counted; 1 where anything was stale, needless or misjudged."""
    parser = argparse.ArgumentParser(description="Random schedules against the partition ledger.")
    parser.add_argument("--schedules", type=int, default=1000)
    given = parser.parse_args()
    tally, began = Tally(), time.perf_counter()
    for seed in range(given.schedules):
        try_schedule(seed, tally)
    print(f"{vars(tally)} in {time.perf_counter() - began:.1f} s")
    return int(bool(tally.stale or tally.needless or tally.misjudged))


if __name__ == "__main__":
    sys.exit(main())
