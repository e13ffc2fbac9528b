"""``aiflow lineage``: what a table or column is made from, what is made from it, and who would be hurt by a change."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.datasets import find_dataset, namespace_option, unknown_table
from aiflow_sdk.cli.lineage_graph import Way, columns_graph, impact_lines, impact_of, table_name, tables_graph
from aiflow_sdk.cli.service import require_service
from aiflow_sdk.cli.times import time_of
from aiflow_sdk.errors import UnknownNameError

if TYPE_CHECKING:
    from aiflow_sdk.service import Service

_NODES = 1000


@subcommand(
    "lineage",
    """aiflow lineage feature.daily_revenue
aiflow lineage raw.orders.amount --down
aiflow lineage raw.orders --down --mermaid > impact.mmd""",
)
@click.argument("table", metavar="TABLE[.COLUMN]")
@click.option("--up", "is_up", is_flag=True, help="What it is made from alone.")
@click.option("--down", "is_down", is_flag=True, help="What is made from it alone, and whom a change would hurt.")
@click.option("--depth", default=_NODES, metavar="N", type=click.IntRange(1, 1000), help="Through how many pipelines.")
@click.option("--as-of", type=time_of, metavar="TIME", help="As it was at a time: 2026-11-20T00:00:00Z.")
@namespace_option
@click.option("--mermaid", is_flag=True, help="The graph alone, as Mermaid text.")
def command(
    invocation: Invocation,
    table: str,
    is_up: bool,
    is_down: bool,
    depth: int,
    as_of: str | None,
    namespace: str | None,
    mermaid: bool,
) -> None:
    """Show the tables and pipelines that TABLE is made from and those that are made from it, or the columns of COLUMN.

    The environment's metadata service knows it, of all environments: what runs have told, and what is declared by
    the pipelines that are deployed. Where the two differ it stands beside it. At most 1,000 nodes are told.
    """
    service = require_service(invocation)
    dataset, column = _find(service, table, namespace)
    ways: list[Way] = ["up", "down"] if is_up == is_down else ["up"] if is_up else ["down"]
    query = {"namespace": dataset["namespace"], "dataset": dataset["name"], "as_of": as_of, "limit": _NODES}
    query |= {"depth": depth, "direction": "both" if len(ways) > 1 else ways[0]}
    answer = service.get(f"lineage/{'columns' if column else 'tables'}", column=column, **query) or {}
    impact = None
    if "down" in ways and not mermaid:
        below = {**query, "direction": "down"}
        whole = answer if query["direction"] == "down" else None
        tables = None if column else whole or service.get("lineage/tables", **below)
        columns = (whole if column else None) or service.get("lineage/columns", column=column, **below)
        impact = impact_of(tables, columns or _NOTHING, dataset["id"])
    console = invocation.console
    start = next(one["id"] for one in answer["columns"] if not one["distance"]) if column else dataset["id"]
    graph = columns_graph(answer, start) if column else tables_graph(answer, start)
    if mermaid:
        text = graph.mermaid()
        if invocation.as_json:
            console.print_json({"mermaid": text})
        else:
            console.write(text)
        return
    if invocation.as_json:
        console.print_json({"table": dataset, "column": column, "lineage": answer, "impact": impact})
        return
    root = graph.nodes[graph.root]
    console.print(f"{console.style(root.label, 'bold')}  {console.style(root.about, 'dim')}".rstrip())
    for way in ways:
        lines = list(graph.tree(console, way))
        said = {"up": "is made from", "down": "is read by"}[way] if not column or way == "up" else "goes into"
        console.print(f"{said}:" if lines else f"{said} nothing that is known")
        for line in lines:
            console.print(line)
    for line in impact_lines(console, impact) if impact is not None else ():
        console.print(line)
    if answer["truncated"]:
        console.print(
            console.style(f"there is more: at most {_NODES:,} nodes are told; --depth N narrows it", "yellow")
        )


_NOTHING: dict[str, Any] = {"columns": [], "jobs": [], "edges": [], "hidden": [], "truncated": False}


def _find(service: Service, name: str, namespace: str | None) -> tuple[dict[str, Any], str | None]:
    """Return the dataset that is meant, and the column where one is named.

    Raises ``UnknownNameError`` (``unknown-table``, ``unknown-column``), ``ReceiverError``.
    """
    if (found := find_dataset(service, name, namespace)) is not None:
        return found, None
    table, _, column = name.rpartition(".")
    if table and (found := find_dataset(service, table, namespace)) is not None:
        whole = service.get(f"datasets/{found['id']}") or {"columns": []}
        known = [one["name"] for one in whole["columns"]]
        if column not in known and not service.get(
            "lineage/columns", namespace=found["namespace"], dataset=found["name"], column=column, limit=1, depth=1
        ):
            near = difflib.get_close_matches(column, known, n=1)
            raise UnknownNameError(
                "unknown-column",
                f"the metadata service has heard of no column '{column}' of {table_name(found)}",
                hint=f"did you mean '{near[0]}'?" if near else None,
                notes=[f"it has: {', '.join(known)}"] if known else [],
            )
        return found, column
    raise unknown_table(service, name)
