"""Makes the run that a request asks for: its partition, its params and its ids."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from aiflow_sdk.errors import ConfigurationError, DefinitionError, unknown_name
from aiflow_sdk.ir import FrozenMap, thaw
from aiflow_sdk.partitions import Partition, last_complete
from aiflow_sdk.plan.model import Plan
from aiflow_sdk.plan.run import Cause, Run
from aiflow_sdk.variables import refuse_secrets


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
    external_id: str = "",
    now: datetime | None = None,
    any_range: bool = False,
) -> Run:
    """Return the run of a plan for a partition; without one for the last complete one.

    ``last_partition`` makes it a range (included), where the pipeline takes ranges, or in any case with ``any_range``:
    to look at, not to make. Raises ``DefinitionError`` for a partition of a pipeline that has none and for a param that
    refers to a secret, ``UnknownNameError`` for an unknown param, ``ConfigurationError`` for a param of another type
    than its default.
    """
    first, last = _partitions(plan, partition, last_partition, now or datetime.now(UTC), any_range)
    return Run.make(
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
        external_id=external_id,
    )


def new_run_id() -> str:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random bits, so that ids sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def _partitions(
    plan: Plan, wanted: str | date | None, last: str | date | None, now: datetime, any_range: bool
) -> tuple[Partition | None, Partition | None]:
    if plan.partition is None:
        if wanted is not None or last is not None:
            raise DefinitionError(
                "no-time-partition",
                f"the pipeline '{plan.pipeline_id}' has no time partition, so it takes no date",
                hint='leave the date out, or add partition="day" to @pipeline',
            )
        return None, None
    if wanted is None and last is not None:
        raise ConfigurationError(
            "half-a-range",
            f"the range ends ({last}) and it is not said where it begins",
            hint="name the first partition too; a run for one partition names that alone",
        )
    if wanted is None:
        return last_complete(plan.partition, plan.timezone, now), None
    first = Partition.parse(wanted, plan.partition, plan.timezone)
    if last is None:
        return first, None
    end = Partition.parse(last, plan.partition, plan.timezone)
    if end < first:
        raise ConfigurationError(
            "reversed-range", f"the range ends ({end.key}) before it begins ({first.key})", hint="swap the two dates"
        )
    if end == first:
        return first, None
    if not plan.ranges and not any_range:
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
        values[name] = typed_param(name, value, values[name])
        refuse_secrets(f"params.{name}", values[name])
    return FrozenMap(values)


def typed_param(name: str, value: Any, default: Any) -> Any:
    """Return text from a command line as the type that the param's default has.

    Raises ``ConfigurationError`` (``bad-param``).
    """
    if not isinstance(value, str) or default is None or isinstance(default, str):
        return value
    try:
        match default:
            case bool():
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            case int() | float():
                return _finite(type(default)(value))
            case Mapping():
                return _read_json(value, dict)
            case _:
                return _read_json(value, list)
    except (KeyError, ValueError) as error:
        kind = type(thaw(default)).__name__ + (" (JSON)" if isinstance(default, FrozenMap | tuple) else "")
        raise ConfigurationError(
            "bad-param",
            f"the param '{name}' is {kind}, not {value!r}",
            hint=f"for example {name}={json.dumps(thaw(default), ensure_ascii=False)}",
        ) from error


def _read_json(text: str, kind: type) -> Any:
    data = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(data, kind):
        raise ValueError(f"no {kind.__name__}")
    return data


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _finite(number: int | float) -> int | float:
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
