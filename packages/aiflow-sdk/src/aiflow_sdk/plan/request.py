"""Makes the run that a request asks for: its partition, its params and its ids."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from aiflow_sdk.errors import ConfigurationError, DefinitionError, unknown_name
from aiflow_sdk.ir import FrozenMap
from aiflow_sdk.partitions import Partition, last_complete
from aiflow_sdk.plan.model import Plan
from aiflow_sdk.plan.run import Cause, Run


def make_run(
    plan: Plan,
    *,
    partition: str | date | None = None,
    last_partition: str | date | None = None,
    params: Mapping[str, Any] | None = None,
    cause: Cause = "manual",
    run_id: str | None = None,
    execution: int = 1,
    attempt: int = 1,
    generation: int = 1,
    now: datetime | None = None,
) -> Run:
    """Return the run of a plan for a partition; without one for the last complete one.

    ``last_partition`` makes it a range (included), where the pipeline takes ranges. Raises ``DefinitionError`` for a
    partition of a pipeline that has none, ``UnknownNameError`` for an unknown param.
    """
    first, last = _partitions(plan, partition, last_partition, now or datetime.now(UTC))
    return Run(
        run_id=run_id or new_run_id(),
        environment=plan.environment.name,
        project=plan.project,
        pipeline_id=plan.pipeline_id,
        partition_key=first.key if first else None,
        last_partition_key=last.key if last else None,
        partition_grain=plan.partition,
        timezone=plan.timezone,
        params=_params(plan, params or {}),
        cause=cause,
        execution=execution,
        attempt=attempt,
        generation=generation,
        version=plan.version,
        trace_id=uuid.uuid4().hex,
    )


def new_run_id() -> str:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random bits, so that ids sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def _partitions(
    plan: Plan, wanted: str | date | None, last: str | date | None, now: datetime
) -> tuple[Partition | None, Partition | None]:
    if plan.partition is None:
        if wanted is not None:
            raise DefinitionError(
                "no-time-partition",
                f"the pipeline '{plan.pipeline_id}' has no time partition, so it takes no date",
                hint='leave the date out, or add partition="day" to @pipeline',
            )
        return None, None
    if wanted is None:
        return last_complete(plan.partition, plan.timezone, now), None
    first = Partition.parse(wanted, plan.partition, plan.timezone)
    if last is None:
        return first, None
    end = Partition.parse(last, plan.partition, plan.timezone)
    if end < first:
        raise ConfigurationError(
            "bad-range", f"the range ends ({end.key}) before it begins ({first.key})", hint="swap the two dates"
        )
    if end == first:
        return first, None
    if not plan.ranges:
        raise DefinitionError(
            "no-ranges",
            f"a run of '{plan.pipeline_id}' is for one {plan.partition}",
            hint="add ranges=True to @pipeline, or backfill",
        )
    return first, end


def _params(plan: Plan, given: Mapping[str, Any]) -> FrozenMap:
    values = dict(plan.params)
    for name, value in given.items():
        if name not in values:
            raise unknown_name("unknown-param", "param", name, values)
        values[name] = _typed(name, value, values[name])
    return FrozenMap(values)


def _typed(name: str, value: Any, default: Any) -> Any:
    """Return text from a command line as the type that the param's default has."""
    if not isinstance(value, str) or default is None or isinstance(default, str):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        if isinstance(default, int | float):
            return type(default)(value)
    except (KeyError, ValueError) as error:
        kind = type(default).__name__
        raise ConfigurationError(
            "bad-param", f"the param '{name}' is {kind}, not {value!r}", hint=f"for example {name}={default}"
        ) from error
    return value
