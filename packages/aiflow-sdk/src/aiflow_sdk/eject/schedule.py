"""When the DAG runs, in Airflow's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from aiflow_sdk.eject.layout import Code, call, duration, quoted
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.ir.schedule import DatasetCondition
from aiflow_sdk.partitions import Partition, fire_times, last_complete, read_duration
from aiflow_sdk.plan import Plan

_LOOKED_AT = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


def schedule_of(plan: Plan, notes: Notes) -> tuple[Code, list[str]]:
    """Return what stands behind ``schedule=``, and comment lines above it."""
    match plan.schedule:
        case None:
            return "None", []
        case DatasetCondition() as condition:
            said = (
                []
                if plan.partition is None
                else notes.add(
                    "schedule: Airflow starts a run whenever these assets change, and the run is for the last complete "
                    f"{plan.partition} unless its param says otherwise; aiflow made the one that had changed"
                )
            )
            return _assets(condition), said
        case schedule:
            return _timetable(plan, schedule, notes)


def asset(name: str) -> Code:
    """Return the asset that stands for a dataset."""
    return call("Asset", quoted(name))


def start_date_of(plan: Plan) -> tuple[str, str] | None:
    """Return when the first run is due, and for which partition it is; None where the pipeline does not say."""
    if plan.start_date is None:
        return None
    stated = datetime.fromisoformat(plan.start_date)
    zone = ZoneInfo(plan.timezone)
    moment = stated if stated.tzinfo else stated.replace(tzinfo=zone)
    if plan.partition is None:
        return _moment(moment.astimezone(zone).replace(tzinfo=None)), ""
    first = Partition.containing(moment, plan.partition, plan.timezone)
    if first.start < moment:
        first = first.next()
    return _moment(first.end.replace(tzinfo=None)), first.key


def _moment(local: datetime) -> str:
    parts = [local.year, local.month, local.day]
    if local.hour or local.minute or local.second:
        parts += [local.hour, local.minute]
    if local.second:
        parts.append(local.second)
    return f"datetime({', '.join(map(str, parts))}, tzinfo=ZONE)"


def _assets(condition: DatasetCondition, *, inner: bool = False) -> str:
    if condition.name is not None:
        return f"Asset({quoted(condition.name)})"
    sign = " & " if condition.op == "all" else " | "
    text = sign.join(_assets(item, inner=True) for item in condition.items)
    return f"({text})" if inner else text


def _timetable(plan: Plan, schedule: str, notes: Notes) -> tuple[Code, list[str]]:
    said = _skipped(plan, schedule, notes)
    cron = schedule if not schedule.startswith("P") else _cron_of(schedule, plan.timezone)
    if cron is not None:
        return call("CronTriggerTimetable", quoted(cron), timezone=quoted(plan.timezone)), said
    said += notes.add("schedule: Airflow counts from the run before, aiflow from a fixed day in 1970")
    return call("DeltaTriggerTimetable", duration(read_duration(schedule).total_seconds())), said


def _cron_of(duration: str, timezone: str) -> str | None:
    """Return the cron text that fires when the duration does, where there is one."""
    length = read_duration(duration)
    minutes = int(length.total_seconds()) // 60
    if length % timedelta(minutes=1):
        return None
    if length == _DAY:
        return "0 0 * * *"
    if length == 7 * _DAY:
        return "0 0 * * 1"
    if length == _HOUR:
        return "0 * * * *"
    if minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"
    if length < _DAY and not length % _HOUR and _DAY % length == timedelta() and timezone == "UTC":
        return f"0 */{length // _HOUR} * * *"
    return None


def _skipped(plan: Plan, schedule: str, notes: Notes) -> list[str]:
    """Return a note where one firing stands for several partitions."""
    if plan.partition is None:
        return []
    span = 15 * _DAY if plan.partition == "hour" else 800 * _DAY
    fires = fire_times(schedule, plan.timezone, _LOOKED_AT, _LOOKED_AT + min(span, 800 * _DAY))[:2000]
    for before, fire in pairwise(fires):
        newest = last_complete(plan.partition, plan.timezone, fire)
        if Partition.containing(before, plan.partition, plan.timezone) < newest:
            return notes.add(
                f"schedule: it does not fire for each {plan.partition}; aiflow starts a run for every {plan.partition} "
                f"since it last fired, this DAG one for the last {plan.partition} alone, and the others by hand "
                "(param partition)"
            )
    return []
