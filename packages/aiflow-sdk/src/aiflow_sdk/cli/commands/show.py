"""``aiflow show``: what there is, how it hangs together, and what lies in its tables."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.arguments import compile_found, discover_all, find_pipeline
from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import (
    Console,
    cut,
    format_bytes,
    format_next,
    format_rows,
    format_seconds,
    format_table,
)
from aiflow_sdk.cli.diagnostics import print_errors
from aiflow_sdk.errors import AiflowError, ConfigurationError, DocumentError, plural
from aiflow_sdk.local.store import short_run_id

if TYPE_CHECKING:
    from aiflow_sdk.discovery import Discovered
    from aiflow_sdk.plan import Plan, PlanNode, Run

_RUNS = 5
_ABSENT = ("unknown-table", "input-absent")
"""Not written yet: worth a line and no failure."""


@subcommand(
    "show",
    """aiflow show
aiflow show daily_revenue --date 2026-11-20
aiflow show daily_revenue --mermaid > graph.mmd""",
)
@click.argument("pipeline", required=False)
@click.option("--date", metavar="D", help="Rows of this partition, or A..B of several (default: the newest run's).")
@click.option(
    "--rows",
    default=10,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=0),
    help="How many rows of each table.",
)
@click.option("--mermaid", is_flag=True, help="The graph alone, as Mermaid text.")
@click.option("--plan", "as_plan", is_flag=True, help="The compiled plan alone, as JSON.")
def command(
    invocation: Invocation, pipeline: str | None, date: str | None, rows: int, mermaid: bool, as_plan: bool
) -> None:
    """List the project's pipelines; of PIPELINE show its graph, tasks, tables, last runs, and a sample of rows."""
    if pipeline is None and not (mermaid or as_plan or date):
        _list(invocation)
        return
    found, discovery = find_pipeline(invocation, pipeline)
    console = invocation.console
    if mermaid:
        from aiflow_sdk.graph import draw_mermaid

        text = draw_mermaid(found.ir)
        if invocation.as_json:
            console.print_json({"mermaid": text})
        else:
            console.print(text)
        return
    plan = compile_found(invocation, found, discovery)
    if as_plan:
        import json

        console.print(json.dumps(json.loads(plan.to_json()), ensure_ascii=False, indent=2))
        return
    facts = _facts(invocation, plan, date, rows)
    if invocation.as_json:
        console.print_json({"pipeline": found.ir.to_dict(), "path": found.path, "line": found.line, **facts})
    else:
        _print_pipeline(invocation, found, plan, facts)
    if errors := [table["error"] for table in facts["tables"] if "error" in table]:
        if not invocation.as_json:
            print_errors(Console(sys.stderr), errors, invocation.root)
        raise Exit(1)


def _list(invocation: Invocation) -> None:
    from aiflow_sdk.graph import describe_pipeline

    found = discover_all(invocation)
    console = invocation.console
    errors = [problem.to_dict() for problem in found.problems]
    listed = [
        {
            "id": item.id,
            "schedule": item.ir.to_dict().get("schedule"),
            "partition": item.ir.partition,
            "owner": item.ir.owner,
            "description": item.ir.description,
            "path": item.path,
            "line": item.line,
        }
        for item in found.pipelines
    ]
    if invocation.as_json:
        console.print_json({"pipelines": listed, "problems": errors})
    else:
        rows = [
            {"pipeline": item.id, "runs": describe_pipeline(item.ir), "defined in": f"{item.path}:{item.line}"}
            for item in found.pipelines
        ]
        if rows:
            for line in format_table(console, rows, list(rows[0])):
                console.print(line)
            console.print(f"\nnext: {invocation.next_command('show', rows[0]['pipeline'])}")
        elif not errors:
            console.print(
                f"no pipeline in {', '.join(invocation.project.pipelines)} of {invocation.project.root}   "
                f"next: aiflow init my_project"
            )
        if errors:
            print_errors(Console(sys.stderr), errors, invocation.project.root)
    if errors:
        raise Exit(1)


def _facts(invocation: Invocation, plan: Plan, date: str | None, rows: int) -> dict[str, Any]:
    """Return tasks, last runs, and what lies in the tables of the partition that is looked at."""
    from aiflow_sdk.local import list_runs
    from aiflow_sdk.plan import make_run

    root = invocation.project.root
    runs = list_runs(root, pipeline=plan.pipeline_id, environment=plan.environment.name, limit=_RUNS)
    if date is None and plan.partition:
        date = next((record.run["partition_key"] for record in runs if record.state == "succeeded"), None)
    first, dots, last = (date or "").partition("..")
    if dots and not last:
        raise ConfigurationError(
            "half-a-range",
            f"the range begins ({first}) and it is not said where it ends",
            hint=f"write {first}..{first}, or {first} alone",
        )
    # Of several partitions one may look at the rows, whether or not one run may make them.
    run = make_run(plan, partition=first or None, last_partition=last or None, any_range=True)
    return {
        "version": plan.version,
        "environment": plan.environment.name,
        "partition": run.partition_text,
        "tasks": [
            {"id": task.id, "engine": task.engine, "cluster": task.cluster, "nodes": list(task.node_ids)}
            for task in plan.tasks
        ],
        "tables": [_table(invocation, plan, node, run, rows) for node in plan.node_list if node.type == "sink"],
        "runs": [
            {
                "run": record.run_id,
                "partition": record.partition,
                "state": record.state,
                "started": datetime.fromtimestamp(record.started).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                "seconds": record.seconds,
            }
            for record in runs
        ],
    }


def _table(invocation: Invocation, plan: Plan, sink: PlanNode, run: Run, limit: int) -> dict[str, Any]:
    from aiflow_sdk.cli.tables import open_written, plain, read_rows, told_by
    from aiflow_sdk.stores import store_failures

    facts: dict[str, Any] = {"sink": sink.id, "kind": sink.kind, "dataset": sink.dataset[1] if sink.dataset else None}
    facts["address"] = _newest_address(invocation, plan, sink.id)
    source = open_written(plan, sink, run, invocation.project.root)
    if source is None:
        return facts
    try:
        with store_failures(facts["address"] or invocation.environment.lake_address):
            facts["rows"], facts["bytes"] = source.measure(run)
            if limit:
                sample, facts["columns"] = read_rows(source, run, limit)
                facts["sample"] = [plain(row) for row in sample]
        facts["partition"] = run.partition_text if told_by(sink, run) else None
    except AiflowError as error:
        if error.code in _ABSENT:
            facts["missing"] = error.message
        else:
            facts["error"] = error.to_dict()
    return facts


def _newest_address(invocation: Invocation, plan: Plan, sink_id: str) -> str | None:
    """Return where the newest run that wrote the sink says that it lies."""
    from aiflow_sdk.local import list_runs, read_run

    root = invocation.project.root
    for record in list_runs(root, pipeline=plan.pipeline_id, environment=plan.environment.name, limit=_RUNS):
        try:
            _, state = read_run(root, record.run_id)
        except DocumentError:
            continue  # aiflow logs and --resume say what is wrong with that run
        for task in state.tasks.values():
            for node in task.nodes:
                if node["node_id"] == sink_id and node.get("address"):
                    return str(node["address"])
    return None


def _print_pipeline(invocation: Invocation, found: Discovered, plan: Plan, facts: dict[str, Any]) -> None:
    from aiflow_sdk.graph import draw_text

    console = invocation.console
    style = console.style
    tasks = {node_id: task.id for task in plan.tasks for node_id in task.node_ids} if len(plan.tasks) > 1 else None
    head, *graph = draw_text(found.ir, tasks=tasks, width=console.width if console.is_terminal else None).splitlines()
    console.print(f"{style(head, 'bold')}  {style(f'{found.path}:{found.line}', 'dim')}")
    for line in graph:
        console.print(line)
    if found.ir.description:
        console.print(f"\n  {found.ir.description}")
    console.print(f"\n{style('tasks', 'bold')}")
    for task in facts["tasks"]:
        engine = style(f"{task['engine']} on {task['cluster']}", "dim")
        console.print(f"  {task['id']}  {engine}  {' → '.join(task['nodes'])}")
    if facts["runs"]:
        console.print(f"\n{style('last runs', 'bold')}")
        rows = [
            {**run, "run": short_run_id(run["run"]), "seconds": format_seconds(run["seconds"])} for run in facts["runs"]
        ]
        for line in format_table(console, rows, list(rows[0])):
            console.print(f"  {line}")
    for table in facts["tables"]:
        _print_table(console, table)
    name = plan.pipeline_id
    first, dots, last = facts["partition"].partition("..")
    words = ["run", name, *(["--date", first] if first != "-" else [])]
    if dots:
        words = ["backfill", name, "--from", first, "--to", last]
    console.print()
    for line in format_next(console, "", [invocation.next_command(*words)]):
        console.print(line)


def _print_table(console: Console, table: dict[str, Any]) -> None:
    style = console.style
    where = f"  {style(table['address'], 'dim')}" if table.get("address") else ""
    console.print(f"\n{style(table['dataset'] or table['sink'], 'bold')}  {table['kind']}{where}")
    if "missing" in table:
        console.print(f"  nothing there yet: {table['missing']}")
        return
    if "error" in table:
        console.print(f"  cannot be looked at: {table['error']['message']}")
        return
    if "sample" not in table:
        return
    sample, columns = table["sample"], table["columns"]
    total = " ".join(filter(None, [format_rows(table.get("rows")), format_bytes(table.get("bytes"))]))
    of = f" for {table['partition']}" if table["partition"] else ""
    console.print(f"  {total or plural(len(sample), 'row')}{of}" + (f", the first {len(sample)}:" if sample else ""))
    for line in format_table(console, sample, columns) if sample else ():
        console.print(f"  {cut(line, console.width - 2) if console.is_terminal else line}")
