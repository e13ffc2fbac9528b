"""How inputs and outputs follow the run's partition: windows, what a source fixes, and the time column of a sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from aiflow_sdk.compiler.connector import partition_columns, partition_values, replaces_run, stated_time
from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.errors import AiflowError, DefinitionError
from aiflow_sdk.ir import FrozenMap, NodeIR
from aiflow_sdk.partitions import Grain, is_window

_COLUMN_GRAINS: Mapping[str, Grain] = {
    "hour": "hour",
    "hr": "hour",
    "day": "day",
    "date": "day",
    "dt": "day",
    "ds": "day",
    "week": "week",
    "month": "month",
}


def grain_of(subject: Subject, column: str, window: Mapping[str, Any]) -> Grain | None:
    """Return the grain of the column that a window stands for: the one it states, else what the column's name says.

    ``offset``, ``last`` and ``same`` otherwise have the run's own grain; None where it cannot be told.
    """
    if window.get("grain") in get_args(Grain):
        return window["grain"]  # type: ignore[no-any-return]  # just found among the grains
    named = _COLUMN_GRAINS.get(column.lower().rsplit("_", 1)[-1])
    if window["$window"] == "same":
        return subject.ir.partition
    return named or (subject.ir.partition if window["$window"] in ("offset", "last", "latest", "all") else None)


def with_grains(subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source's options, each window of ``partitions`` with its grain spelled out."""
    values = options.get("partitions")
    if not isinstance(values, Mapping):
        return dict(options)
    spelled = {
        column: FrozenMap({**value, "grain": grain_of(subject, column, value)}) if is_window(value) else value
        for column, value in values.items()
    }
    return {**options, "partitions": FrozenMap(spelled)}


def window_problems(subject: Subject, node: NodeIR) -> Iterator[AiflowError]:
    """Yield what is wrong with the windows of a source."""
    for column, value in partition_values(subject, node).items():
        if not is_window(value) or value["$window"] in ("all", "latest"):
            continue
        if subject.ir.partition is None:
            yield DefinitionError(
                "no-time-partition",
                f"window.{value['$window']}() of '{column}' follows the run's partition, and this pipeline has none",
                where=subject.where(node),
                hint='add partition="day" to @pipeline, or a schedule that tells it',
            )
        elif grain_of(subject, column, value) is None:
            yield DefinitionError(
                "unknown-grain",
                f"the name '{column}' does not tell whether its partitions are hours, days, weeks or months",
                where=subject.where(node),
                hint=f'write window.{value["$window"]}(grain="hour")',
            )


def is_run_value(subject: Subject, value: Any) -> bool:
    """Whether a partition's value is just the run's own partition."""
    if is_window(value):
        return bool(value["$window"] == "same")
    if not isinstance(value, str) or subject.ir.partition is None:
        return False
    return value == ("{{ data_interval_start }}" if subject.ir.partition == "hour" else "{{ ds }}")


def fixed_values(subject: Subject, sink: NodeIR) -> dict[str, Any]:
    """Return the partition columns that every source upstream of the sink fixes to one and the same value."""
    sources = [partition_values(subject, source) for source in subject.upstream_sources(sink)]
    if not sources:
        return {}
    common = {
        column: value
        for column, value in sources[0].items()
        if all(column in other and _same(subject, other[column], value) for other in sources[1:])
    }
    return {
        column: value
        for column, value in common.items()
        if not isinstance(value, tuple) and (not is_window(value) or is_run_value(subject, value))
    }


def _same(subject: Subject, one: Any, other: Any) -> bool:
    return bool(one == other) or (is_run_value(subject, one) and is_run_value(subject, other))


def time_column(subject: Subject, sink: NodeIR) -> str | None:
    """Return the partition column of a sink that holds the run's partition, or None: the whole is replaced.

    It is the one that the option ``time`` names, else the one that a source upstream fixes to the run, else the only
    one. Raises ``DefinitionError`` where several could be meant.
    """
    columns = partition_columns(subject, sink)
    if subject.ir.partition is None or not columns:
        return None
    stated = stated_time(subject, sink)
    if stated is not None:
        return stated
    sources = [partition_values(subject, source) for source in subject.upstream_sources(sink)]
    fixed = [column for column in columns if any(is_run_value(subject, values.get(column)) for values in sources)]
    if len(fixed) == 1:
        return fixed[0]
    if len(columns) == 1:
        return columns[0]
    raise DefinitionError(
        "no-time-column",
        f"which of {', '.join(columns)} holds the run's {subject.ir.partition} cannot be told",
        where=subject.where(sink),
        hint=f'add time="{(fixed or columns)[0]}" to the sink',
    )


def time_problems(subject: Subject, sink: NodeIR) -> Iterator[AiflowError]:
    """Yield what is wrong with the partition columns of a sink whose kind and options are right."""
    columns = partition_columns(subject, sink)
    stated = stated_time(subject, sink)
    if stated is not None and stated not in columns:
        yield DefinitionError(
            "no-time-column",
            f"time='{stated}' is not among partition_by={list(columns)}",
            where=subject.where(sink),
            hint="name one of them",
        )
    elif replaces_run(subject, sink):
        try:
            time_column(subject, sink)
        except DefinitionError as error:
            yield error
