"""A plan as a file of Airflow: its DAG, its tasks, and the functions that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.code import CodeIndex
from aiflow_sdk.config import Environment
from aiflow_sdk.eject.functions import default_param
from aiflow_sdk.eject.imports import Imports
from aiflow_sdk.eject.layout import (
    WIDTH,
    Code,
    Group,
    call,
    comment,
    duration,
    in_docstring,
    indented,
    keyword,
    lines,
    literal,
    quoted,
)
from aiflow_sdk.eject.names import Names
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.eject.parts import names_in, parts_for
from aiflow_sdk.eject.schedule import schedule_of, start_date_of
from aiflow_sdk.eject.setting import CONSTANTS, Setting
from aiflow_sdk.eject.support import check_support, modules_of_ours
from aiflow_sdk.eject.tasks import Writer
from aiflow_sdk.eject.values import Values
from aiflow_sdk.errors import Where
from aiflow_sdk.ir import thaw
from aiflow_sdk.plan import Plan

_IMPORTS = {
    **{
        name: f"from airflow.sdk import {name}"
        for name in (
            *("DAG", "Asset", "CronTriggerTimetable", "DeltaTriggerTimetable", "Param", "TaskGroup"),
            *("get_current_context", "task"),
        )
    },
    "Path": "from pathlib import Path",
    "ZoneInfo": "from zoneinfo import ZoneInfo",
    "datetime": "from datetime import datetime",
    "os": "import os",
    "pa": "import pyarrow as pa",
    "pl": "import polars as pl",
    "timedelta": "from datetime import timedelta",
}
_EXAMPLE_KEYS = {"hour": "2026-11-20T05", "day": "2026-11-20", "week": "2026-11-16", "month": "2026-11-01"}
_OWN_FIELDS = ("pool", "pool_slots", "queue", "priority_weight", "weight_rule")


@dataclass(frozen=True)
class Ejected:
    """A pipeline as plain Airflow code."""

    text: str
    warnings: tuple[str, ...]
    """What of the pipeline has no plain equivalent; each stands in the text too, as a comment."""


def eject_pipeline(
    plan: Plan, environment: Environment, code: CodeIndex, places: Mapping[str, Where], root: str = ""
) -> Ejected:
    """Return the file that gives the tables that the plan gives, without aiflow.

    ``root`` leads from the file's folder to the project's (``""``: the same). Raises ``DefinitionError``
    (``cannot-eject``) for what cannot be written so, several as ``ProblemsError``.
    """
    notes = Notes()
    check_support(plan, notes, places)
    notes.check()
    values = Values(plan.partition, plan.environment.secrets, notes)
    modules = [node.entrypoint.partition(":")[0] for node in plan.node_list if node.entrypoint]
    setting = Setting(plan, environment, values, root)
    names = Names(plan.nodes, modules, [*_IMPORTS, *CONSTANTS])
    writer = Writer(plan, code, values, notes, names, places, setting.storage)
    imported = modules_of_ours(plan, code)
    if imported:
        notes.add(
            f"{', '.join(imported)}: aiflow_sdk is imported there; remove that (a decorator alone changes nothing)"
        )
    dag = _dag(writer)
    notes.check()
    parts = parts_for(names_in("\n".join(dag)), setting.parts())
    constants = setting.constants({*names_in("\n".join(dag)), *(name for one in parts for name in one.names)})
    imports = Imports()
    used = names_in("\n".join([*constants, *dag])).union(*(one.names for one in parts))
    imports.add(_IMPORTS[name] for name in sorted(used & _IMPORTS.keys()))
    for one in parts:
        imports.add(one.imports)
    sections = [
        *_docstring(plan, notes),
        "",
        *imports.lines(),
        *(["", *constants] if constants else []),
        *(line for one in parts for line in ("", "", *one.text.splitlines())),
        "",
        "",
        *dag,
    ]
    return Ejected("\n".join(sections) + "\n", tuple(notes.warnings))


def _docstring(plan: Plan, notes: Notes) -> list[str]:
    first = plan.description.strip().partition("\n")[0].rstrip(".") or f"The pipeline {plan.pipeline_id}"
    said = [
        f"{first}.",
        "",
        f"Written by `aiflow eject {plan.pipeline_id}`, environment {plan.environment.name}; it is yours to edit.",
        "Lay it where Airflow looks for DAGs, beside the packages that it imports. Airflow",
        "runs the tasks, so its environment needs the packages that are imported here.",
    ]
    if notes.warnings:
        said += ["", "What differs from the pipeline that it was made of:", ""]
        for warning in notes.warnings:
            said += wrap(f"{warning}.", WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    plain = list(map(in_docstring, said))
    # So that no fourth quote stands behind the three.
    space = " " if first.startswith('"') else ""
    return [f'"""{space}{plain[0]}', *plain[1:], '"""']


def _dag(writer: Writer) -> list[str]:
    plan, notes = writer.plan, writer.notes
    arguments, above = _arguments(plan, writer.values, notes)
    head = Group("with DAG(", tuple(arguments), "):")
    text = lines(head)
    if above:
        # Behind the bracket, where the arguments begin.
        text = [text[0], *indented(above, 4), *text[1:]]
    groups = dict.fromkeys(branch for one in plan.tasks if (branch := one.id.partition(".")[2]))
    for branch in groups:
        text.append(f"    {writer.names.of_group(branch)} = TaskGroup({quoted(branch)}, prefix_group_id=False)")
    for one in plan.tasks:
        text += ["", *writer.task(one)]
    return [*text, "", *indented(_wiring(writer), 4)]


def _arguments(plan: Plan, values: Values, notes: Notes) -> tuple[list[Code], list[str]]:
    schedule, above = schedule_of(plan, notes)
    found: list[Code] = [quoted(dag_id_of(plan.project, plan.pipeline_id))]
    if first := plan.description.strip().partition("\n")[0]:
        found.append(keyword("description", quoted(first)))
    found.append(keyword("schedule", schedule))
    if (start := start_date_of(plan)) is not None:
        found.append(keyword("start_date", start[0]))
        above += comment(f"start_date: the run that is due then is for {start[1]}.") if start[1] else []
    found += [keyword("catchup", str(plan.catchup)), keyword("max_active_runs", str(plan.max_active_runs))]
    if plan.concurrency:
        found.append(keyword("max_active_tasks", str(plan.concurrency)))
    if plan.timeout_seconds:
        found.append(keyword("dagrun_timeout", duration(plan.timeout_seconds)))
    if plan.tags:
        found.append(keyword("tags", literal(list(plan.tags))))
    params = {name: default_param(value) for name, value in thaw(plan.params).items()}
    if plan.partition:
        params["partition"] = call(
            "Param",
            "None",
            type=literal(["null", "string"]),
            description=quoted(f"The {plan.partition} to make, as {_EXAMPLE_KEYS[plan.partition]}; none: the last one"),
        )
    if any(node.type == "sink" and node.options.get("mode") == "append" for node in plan.node_list):
        params["append_again"] = call("Param", "False", type=quoted("boolean"))
    if params:
        found.append(keyword("params", Group("{", tuple(keyword(quoted(k), v, ": ") for k, v in params.items()), "}")))
    first_task = plan.tasks[0]
    defaults: dict[str, Code] = {"owner": quoted(plan.owner or "airflow"), "retries": str(first_task.retries)}
    defaults["retry_delay"] = duration(first_task.retry_delay_seconds)
    if first_task.retry_backoff != 1:
        defaults["retry_exponential_backoff"] = str(first_task.retry_backoff)
    defaults |= {name: values.code(thaw(plan.extra)[name]) for name in _OWN_FIELDS if name in plan.extra}
    found.append(
        keyword("default_args", Group("{", tuple(keyword(quoted(k), v, ": ") for k, v in defaults.items()), "}"))
    )
    found += [
        keyword(name, values.code(thaw(plan.extra)[name]))
        for name in ("access_control", "owner_links")
        if name in plan.extra
    ]
    if plan.notify:
        above += notes.add(
            f"notify: {', '.join(plan.notify)} hears of no failure and no late run; add on_failure_callback "
            "and deadline"
        )
    return found, above


def _wiring(writer: Writer) -> list[str]:
    plan, names = writer.plan, writer.names
    needed = {above for one in plan.tasks for above in one.upstream}
    chained = len(plan.tasks) > 1 and all(
        list(one.upstream) == ([before.id] if before else [])
        for before, one in zip((None, *plan.tasks), plan.tasks, strict=False)
    )
    if chained:
        chain = " >> ".join(f"{names.of_task(one.id)}()" for one in plan.tasks)
        if len(chain) <= 84:
            return [chain]
    found = []
    for one in plan.tasks:
        made = f"{names.of_task(one.id)}()"
        if one.id in needed:
            found.append(f"{names.of_done(one.id)} = {made}")
            made = names.of_done(one.id)
        if one.upstream:
            above = [names.of_done(task) for task in one.upstream]
            found.append(f"{above[0] if len(above) == 1 else _listed(above)} >> {made}")
        elif one.id not in needed:
            found.append(made)
    return found


def _listed(names: list[str]) -> str:
    return f"[{', '.join(names)}]"
