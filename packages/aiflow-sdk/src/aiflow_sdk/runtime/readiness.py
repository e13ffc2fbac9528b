"""Whether the partitions that a run asks for are there, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aiflow_sdk.errors import DataNotReadyError, Where, did_you_mean
from aiflow_sdk.plugins import JudgedSource, PartitionedSource, ShadowingSource, Source
from aiflow_sdk.runtime.rendering import WantedPartitions

_POLL_SECONDS = 5.0
_SHOWN = 10


def await_partitions(
    source: Source, wanted: Sequence[WantedPartitions], timezone: str, where: Where, *, wait: bool = True
) -> None:
    """Return once the partitions are there that the source's ``complete`` demands.

    Raises ``DataNotReadyError`` (retryable), naming what is missing, after ``wait_minutes``; at once unless ``wait``.
    """
    if not isinstance(source, PartitionedSource):
        return
    deadline = time.monotonic() + (60 * source.wait_minutes if wait else 0)
    for one in wanted:
        while (error := _missing(source, source, one, timezone, where)) is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise error
            time.sleep(min(_POLL_SECONDS, left))


def _missing(
    source: Source, partitioned: PartitionedSource, wanted: WantedPartitions, timezone: str, where: Where
) -> DataNotReadyError | None:
    match source.complete:
        case None:
            required = wanted.required
        case "all":
            required = len(wanted.keys)
        case number:
            required = min(number, len(wanted.keys))
    if required == 0:
        return None
    present = partitioned.present(wanted.column, timezone)
    there = set(present)
    begun: list[str] = []
    if isinstance(partitioned, JudgedSource):
        facts = partitioned.partition_facts(wanted.column, wanted.keys, timezone)
        there = {key for key, known in facts.items() if known.state in ("complete", "empty")}
        begun = [key for key, known in facts.items() if known.state == "incomplete"]
    missing = [key for key in wanted.keys if key not in there]
    found = len(wanted.keys) - len(missing)
    if found >= required:
        return None
    name = source.dataset().name
    shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
    half = [f"begun, and not all that make it have written: {', '.join(begun[:_SHOWN])}"] if begun else []
    lies = f"the table has {len(present)}: {present[0]} … {present[-1]}" if present else "the table has no partition"
    if found == 0:
        message = f"'{name}' has no partition {wanted.column}={shown}"
    else:
        message = (
            f"'{name}' has {found} of the {len(wanted.keys)} partitions of {wanted.column} asked for; missing: {shown}"
        )
    near = did_you_mean(missing[0], present) if found == 0 else None
    hidden = partitioned.hidden(wanted.column, missing, timezone) if isinstance(partitioned, ShadowingSource) else None
    if hidden is not None:
        whole = "" if len(hidden.keys) == len(missing) else f"{len(hidden.keys)} of "
        message += (
            f". A run in '{hidden.here}' has written this table, so it is read there, whole; "
            f"'{hidden.there}' has {whole}{'it' if len(missing) == 1 else 'them'}"
        )
        near = (
            f"make them in '{hidden.here}' too, or remove '{name}' from its lake: then '{hidden.there}' is read again"
        )
    return DataNotReadyError(
        "input-absent" if found == 0 else "input-incomplete",
        message,
        where=where,
        hint=near or "make them first, wait with wait_minutes=…, or ask for less with complete=…",
        retryable=True,
        notes=[*half, lies],
    )
