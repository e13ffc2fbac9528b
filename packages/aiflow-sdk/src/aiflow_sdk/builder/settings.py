"""What ``@pipeline(…)`` was given, checked and brought into the form of the IR."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from types import NoneType
from typing import Any, TypeAlias

from aiflow_sdk.builder.guard import MAPPING, expect, plain_map, refuse_foreign, wrong_value
from aiflow_sdk.errors import AiflowError, DefinitionError
from aiflow_sdk.factories import FROM_SCHEDULE
from aiflow_sdk.ir import DatasetCondition, freeze
from aiflow_sdk.partitions import GRAINS, infer_grain, normalise_schedule
from aiflow_sdk.partitions.zone import find_zone

Schedule: TypeAlias = str | timedelta | DatasetCondition | None

_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def settle(given: Mapping[str, Any], extra: Mapping[str, Any]) -> tuple[dict[str, Any], list[AiflowError]]:
    """Return the fields of a ``PipelineIR`` and everything that is wrong with what was given."""
    fields: dict[str, Any] = {}
    problems: list[AiflowError] = []
    for name, value in given.items():
        if name != "partition":
            check = _checked_before if type(value) in _REPEATED else _checked
            try:
                fields[name] = check(name, value)
            except AiflowError as error:
                problems.append(error)
    _settle(fields, problems, "partition", lambda: _partition(given["partition"], fields.get("schedule")))
    _settle(fields, problems, "extra", lambda: _extra(extra, given))
    if fields.get("ranges") and "partition" in fields and fields["partition"] is None:
        problems.append(
            DefinitionError(
                "ranges-without-partition",
                "ranges=True says that a run takes a range of partitions, and this pipeline has none",
                hint='add partition="day", or a schedule that tells it',
            )
        )
    return fields, problems


def _settle(fields: dict[str, Any], problems: list[AiflowError], name: str, check: Callable[[], Any]) -> None:
    try:
        fields[name] = check()
    except AiflowError as error:
        problems.append(error)


def _checked(name: str, value: Any) -> Any:
    return _CHECKS[name](name, value)


_REPEATED = frozenset({str, bool, int, NoneType})
"""Kinds of values that pipelines are given alike, mostly defaults. What is made of one never changes."""

_checked_before = lru_cache(maxsize=4096, typed=True)(_checked)
_grain_of = lru_cache(maxsize=1024)(infer_grain)


def _text(name: str, value: Any) -> str:
    return str(freeze(expect(name, value, str, "text")))


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise DefinitionError(
            "bad-value", f"{name}={value!r} is one text, not a list", hint=f"write {name}=[{value!r}]"
        )
    if isinstance(value, set | frozenset):
        raise DefinitionError("unordered-value", f"{name} is a set, which has no order", hint="write a list")
    expect(name, value if value is not None else (), Sequence, "a list of texts")
    return tuple(_text(name, item) for item in value or ())


def _flag(name: str, value: Any) -> bool:
    return bool(expect(name, value, bool, "True or False"))


def _count(name: str, value: Any) -> int | None:
    return None if value is None and name == "concurrency" else int(expect(name, value, int, "a whole number"))


def _minutes(name: str, value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds() / 60
    optional = value is None and name != "retry_delay_minutes"
    return None if optional else float(expect(name, value, (int, float), "a number of minutes"))


def _factor(name: str, value: Any) -> float:
    return float(expect(name, value, (int, float), "a number"))


def _schedule(name: str, value: Any) -> str | DatasetCondition | None:
    refuse_foreign(value, name)
    return value if value is None or isinstance(value, DatasetCondition) else normalise_schedule(value)


def _start_date(name: str, value: Any) -> str | None:
    """Return the moment in its one form; a midnight of the pipeline's own clocks is a date."""
    if value is None:
        return None
    if not isinstance(value, date):
        try:
            value = datetime.fromisoformat(_text(name, value).strip())
        except ValueError:
            raise wrong_value(name, value, "a date or moment as ISO 8601 writes it, '2026-01-31'") from None
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == time():
        value = value.date()
    return str(value.isoformat())


def _timezone(name: str, value: Any) -> str:
    find_zone(_text(name, value))
    return str(value)


def _partition(value: Any, schedule: Any) -> str | None:
    if value == FROM_SCHEDULE:
        return _grain_of(schedule) if isinstance(schedule, str) else None
    if value is not None and value not in GRAINS:
        raise wrong_value("partition", value, "one of " + ", ".join(map(repr, GRAINS)) + " or None")
    return str(value) if value else None


def _params(name: str, value: Any) -> Mapping[str, Any]:
    params = expect(name, value if value is not None else {}, MAPPING, "a dict")
    for key in params:
        if not (isinstance(key, str) and _WORD.fullmatch(key)):
            raise DefinitionError(
                "bad-param-name", f"a param is called {key!r}", hint="write a plain word: letters, digits, _"
            )
    return plain_map(params)


def _extra(extra: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in extra:
        near = _AIRFLOW.get(name) or next((setting for setting in known if _is_near(name, setting)), None)
        if near:
            raise DefinitionError(
                "unknown-setting", f"@pipeline has no setting '{name}'", hint=f"did you mean '{near}'?"
            )
    return plain_map(extra)


def _is_near(name: str, setting: str) -> bool:
    """Whether a label is surely a setting misspelt: other labels (team, cost_center) may be called as one likes."""
    from difflib import SequenceMatcher

    return len(name) > 3 and SequenceMatcher(None, name, setting).ratio() > 0.75


_AIRFLOW = {
    "dag_id": "id",
    "schedule_interval": "schedule",
    "max_active_tasks": "concurrency",
    "dagrun_timeout": "timeout_minutes",
    "retry_delay": "retry_delay_minutes",
    "retry_exponential_backoff": "retry_backoff",
    "sla": "sla_minutes",
    "default_args": "retries",
}
"""Airflow's names of what is a setting here."""

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "id": _text,
    "schedule": _schedule,
    "owner": _text,
    "sla_minutes": _minutes,
    "tags": _texts,
    "description": _text,
    "start_date": _start_date,
    "timezone": _timezone,
    "catchup": _flag,
    "retries": _count,
    "retry_delay_minutes": _minutes,
    "retry_backoff": _factor,
    "timeout_minutes": _minutes,
    "max_active_runs": _count,
    "concurrency": _count,
    "notify": _texts,
    "params": _params,
    "ranges": _flag,
}
