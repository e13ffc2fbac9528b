"""``aiflow sample``: inputs for a test, from real tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import compile_found, find_pipeline
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.errors import ConfigurationError, did_you_mean, plural

if TYPE_CHECKING:
    from aiflow_sdk.plan import Plan, Run


@subcommand(
    "sample",
    """aiflow sample daily_revenue --date 2026-11-20
aiflow sample daily_revenue --rows 5 --out tests/daily_revenue_inputs.py""",
)
@click.argument("pipeline", required=False)
@click.option("--date", metavar="D", help="The partition that is read (default: the last complete one).")
@click.option(
    "--rows",
    default=20,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="How many rows of each source.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write this .py or .json file instead of printing."
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(
    invocation: Invocation, pipeline: str | None, date: str | None, rows: int, out: Path | None, force: bool
) -> None:
    """Read rows of each source of PIPELINE, as a run would, and print them as INPUTS for run_pipeline.

    Columns under [masked] in aiflow.toml become unreadable: the same value always the same, so that joins still join.
    """
    from aiflow_sdk.plan import make_run

    if out is not None and out.suffix not in (".py", ".json"):
        raise click.UsageError(f"--out {out} is neither .py nor .json")
    if out is not None and out.exists() and not force:
        raise click.UsageError(f"{out} is there already; add --force to replace it")
    found, discovery = find_pipeline(invocation, pipeline)
    plan = compile_found(invocation, found, discovery)
    run = make_run(plan, partition=date)
    inputs, masked = _read_inputs(invocation, plan, run, rows)
    console = invocation.console
    if invocation.as_json or (out is not None and out.suffix == ".json"):
        from aiflow_sdk.cli.tables import plain

        text = json.dumps(
            {"pipeline": plan.pipeline_id, "date": run.partition_key, "inputs": plain(inputs)},
            ensure_ascii=False,
            indent=1,
        )
    else:
        text = _python_text(plan, run, inputs, found.module)
    if out is None:
        console.print(text.rstrip("\n"))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{text.rstrip()}\n", encoding="utf-8")
    if not invocation.as_json:
        for node_id, found_rows in inputs.items():
            hidden = f", masked: {', '.join(masked[node_id])}" if masked.get(node_id) else ""
            console.print(f"  {node_id}  {plural(len(found_rows), 'row')}{hidden}")
        console.print(f"wrote {out}")


def _read_inputs(
    invocation: Invocation, plan: Plan, run: Run, limit: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, tuple[str, ...]]]:
    from aiflow_sdk.cli.masking import project_mask
    from aiflow_sdk.cli.tables import open_source, read_rows

    root, rules = invocation.project.root, invocation.project.masked
    inputs: dict[str, list[dict[str, Any]]] = {}
    masked: dict[str, tuple[str, ...]] = {}
    for node in plan.node_list:
        if node.type != "source":
            continue
        source = open_source(plan, node, run, root)
        rows, columns = read_rows(source, run, limit)
        hidden = rules.get(source.dataset().name, ())
        for column in hidden:
            if column not in columns:
                # A typing error here would show what was to be hidden.
                raise ConfigurationError(
                    "unknown-masked-column",
                    f"[masked] names the column '{column}', which {source.dataset().name} does not have",
                    hint=did_you_mean(column, columns) or f"its columns: {', '.join(columns)}",
                )
        if hidden:
            mask = project_mask(root)
            rows = [{name: mask.hide(v) if name in hidden else v for name, v in row.items()} for row in rows]
        inputs[node.id], masked[node.id] = rows, hidden
    return inputs, masked


def _python_text(plan: Plan, run: Run, inputs: Mapping[str, list[dict[str, Any]]], module: str) -> str:
    body: list[str] = []
    for node_id, rows in inputs.items():
        body += [f"    {_literal(node_id)}: [", *(f"        {_literal(row)}," for row in rows), "    ],"]
    code = "\n".join(body)
    imports = [f"import {name}" for name in ("datetime", "decimal") if f"{name}." in code]
    date = f", date={_literal(run.partition_key)}" if run.partition_key else ""
    of = f" for {run.partition_key}" if run.partition_key else ""
    lines = [
        f'"""Rows that {plan.pipeline_id} reads{of}, made by aiflow sample.',
        "",
        f"run_pipeline(…{date}, inputs=INPUTS), the pipeline being the one of {module}.",
        '"""',
        "",
        *imports,
        *([""] if imports else []),
        "INPUTS = {",
        code,
        "}",
    ]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    """Return Python text for a value, such as only needs ``datetime`` and ``decimal`` imported."""
    match value:
        case float() if not math.isfinite(value):
            return f'float("{value}")'
        case str():
            return json.dumps(value, ensure_ascii=False)
        case datetime() if value.tzinfo is not None:
            return f'datetime.datetime.fromisoformat("{value.isoformat()}")'
        case Decimal():
            return f'decimal.Decimal("{value}")'
        case Mapping():
            return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case _:
            return repr(value)
