"""Which partitions of a range have to be made, why, and in how many runs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from aiflow_sdk.local.executor import LiveRun
from aiflow_sdk.local.ledger import Ledger
from aiflow_sdk.local.preparation import Prepared, open_run
from aiflow_sdk.local.request import BackfillRequest
from aiflow_sdk.partitions import Partition, partition_range, partitions_between
from aiflow_sdk.plan import make_run
from aiflow_sdk.runtime import Data


@dataclass(frozen=True)
class Need:
    """A partition of the range and why it has to be made; None: it is up to date."""

    partition: Partition
    reason: str | None
    environment: str | None = None
    """Where it was made, of one that is up to date."""


def find_needs(prepared: Prepared, request: BackfillRequest, taken: Container[str] = ()) -> list[Need]:
    """Return every partition of the range, in order, with why it has to be made.

    Every date of the range counts, whether or not the schedule fires on it. Those in ``taken`` (keys) have had their
    run. Raises ``AiflowError`` for a range or param that the pipeline does not have.
    """
    plan = prepared.plan
    first, last = partition_range(plan.pipeline_id, plan.partition, plan.timezone, request.first, request.last)
    make_run(prepared.plan, partition=first.key, params=request.params)  # says what is wrong with the params
    ledger = Ledger(prepared.project.root, prepared.plan)
    needs = []
    for partition in partitions_between(first, last):
        if partition.key not in taken:
            verdict = ledger.verdict(partition.key, request.params)
            needs.append(Need(partition, verdict.reason or ("forced" if request.force else None), verdict.environment))
    return needs


def open_runs(prepared: Prepared, request: BackfillRequest, partitions: Sequence[Partition]) -> Iterator[LiveRun]:
    """Yield a run for each partition, or for each unbroken stretch of them where the pipeline takes ranges.

    Each is begun, with its generation, only when it is asked for.
    """
    plan = prepared.plan
    data = Data(plan, prepared.project.root)
    for first, last in _stretches(partitions) if plan.ranges else ((one, one) for one in partitions):
        run = make_run(plan, partition=first.key, last_partition=last.key, params=request.params, cause="backfill")
        yield open_run(prepared, run, data=data)


def _stretches(partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Partition]]:
    first: Partition | None = None
    for at, partition in enumerate(partitions):
        first = first or partition
        if at + 1 == len(partitions) or partition.next() != partitions[at + 1]:
            yield first, partition
            first = None
