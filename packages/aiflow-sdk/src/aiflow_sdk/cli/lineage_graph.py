"""A lineage as the metadata service tells it, drawn for the command line: as a tree, as Mermaid, and what it means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aiflow_sdk.cli.console import Console, printable
from aiflow_sdk.cli.datasets import LAKE
from aiflow_sdk.errors import plural
from aiflow_sdk.graph.mermaid import escape

Way = Literal["up", "down"]
Key = tuple[str, int]
"""What kind of node (``dataset``, ``job``, ``column``, ``hidden``), and its number."""

_PIPELINES = "aiflow/"
_CHILDREN, _LINES = 30, 400
_HIDDEN = "something that you may not see"


class Node(NamedTuple):
    """A dataset, a pipeline (or another's job), or a column."""

    kind: Literal["dataset", "job", "column", "hidden"]
    label: str
    about: str = ""
    """Environment, team and owners."""


class Link(NamedTuple):
    """That data flows from one node to another."""

    source: Key
    target: Key
    note: str = ""
    """What is to be noticed: that it is not declared, or was never seen."""


@dataclass
class LineageGraph:
    """Nodes by their keys, and what flows where."""

    root: Key
    nodes: dict[Key, Node] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)

    def tree(self, console: Console, way: Way) -> Iterator[str]:
        """Yield the lines of what lies above or below the root; each node's own lines once, however often it is met.

        What is left out (of very wide or long graphs) is counted in a line of its own.
        """
        beyond: dict[Key, list[tuple[Key, str]]] = defaultdict(list)
        for link in self.links:
            near, far = (link.target, link.source) if way == "up" else (link.source, link.target)
            beyond[near].append((far, link.note))
        shown = {self.root}
        stack = [(child, note, 1) for child, note in reversed(self._few(beyond[self.root]))]
        count = 0
        while stack:
            key, note, depth = stack.pop()
            count += 1
            if count > _LINES:
                yield "  … and more; --json has all"
                return
            again = key in shown and key in beyond and bool(beyond[key])
            yield "  " * depth + self._line(console, key, note, again)
            if key not in shown:
                shown.add(key)
                stack += [(child, said, depth + 1) for child, said in reversed(self._few(beyond.get(key, [])))]

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart: https://mermaid.js.org/syntax/flowchart.html."""
        shapes = {"dataset": ("[(", ")]"), "job": ("[", "]"), "column": ("([", "])"), "hidden": ("((", "))")}
        names = {key: f"n{number}" for number, key in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for key, node in self.nodes.items():
            before, after = shapes[node.kind]
            label = "?" if node.kind == "hidden" else escape(node.label)
            lines.append(f'  {names[key]}{before}"{label}"{after}')
        for link in self.links:
            arrow = f"-.->|{escape(link.note)}|" if link.note else "-->"
            lines.append(f"  {names[link.source]} {arrow} {names[link.target]}")
        lines.append(f"  style {names[self.root]} stroke-width:3px")
        return "\n".join(lines) + "\n"

    def _few(self, children: list[tuple[Key, str]]) -> list[tuple[Key, str]]:
        if len(children) <= _CHILDREN:
            return children
        more = ("more", len(children) - _CHILDREN)
        return [*children[:_CHILDREN], (more, "")]

    def _line(self, console: Console, key: Key, note: str, again: bool) -> str:
        if key[0] == "more":
            return console.style(f"… and {key[1]:,} more; --json has all", "dim")
        node = self.nodes[key]
        words = [f"▸ {node.label}" if node.kind == "job" else node.label]
        if node.about:
            words.append(console.style(node.about, "dim"))
        if note:
            words.append(console.style(note, "yellow"))
        if again:
            words.append(console.style("(above)", "dim"))
        return "  ".join(words)


def tables_graph(answer: Mapping[str, Any], dataset_id: int) -> LineageGraph:
    """Return the graph of tables and pipelines."""
    graph = LineageGraph(("dataset", dataset_id))
    for one in answer["datasets"]:
        graph.nodes["dataset", one["id"]] = Node("dataset", table_name(one), _about(one))
    for one in answer["jobs"]:
        graph.nodes["job", one["id"]] = Node("job", printable(one["name"]), _about(one))
    for edge in answer["edges"]:
        ends: tuple[Key, Key] = ("dataset", edge["dataset"]), ("job", edge["job"])
        source, target = reversed(ends) if edge["writes"] else ends
        note = "not declared" if edge["undeclared"] else "declared, never seen" if edge["basis"] == "declared" else ""
        graph.links.append(Link(source, target, note))
    for number, one in enumerate(answer["hidden"]):
        kind = "job" if "job" in one else "dataset"
        _hide(graph, number, (kind, one[kind]), is_above=(kind == "dataset") == one["writes"])
    return graph


def columns_graph(answer: Mapping[str, Any], column_id: int) -> LineageGraph:
    """Return the graph of columns, each link with the pipelines that make the one of the other."""
    graph = LineageGraph(("column", column_id))
    for one in answer["columns"]:
        label = f"{table_name(one['dataset'])}.{printable(one['name'])}"
        graph.nodes["column", one["id"]] = Node("column", label, printable(one["type"] or ""))
    jobs = {one["id"]: printable(one["name"]) for one in answer["jobs"]}
    made: dict[tuple[Key, Key], set[str]] = defaultdict(set)
    for edge in answer["edges"]:
        made[("column", edge["source"]), ("column", edge["target"])].add(jobs[edge["job"]])
    graph.links += [Link(*ends, f"by {', '.join(sorted(names))}") for ends, names in made.items()]
    for number, one in enumerate(answer["hidden"]):
        _hide(graph, number, ("column", one["column"]), is_above=one["direction"] == "up")
    return graph


def impact_of(tables: Mapping[str, Any] | None, columns: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Return whom a change of a table, or (without ``tables``) of one column of it, would reach.

    ``start`` is the dataset's id, which is not counted itself.
    """
    beside = [one for one in columns["columns"] if one["distance"] and one["dataset"]["id"] != start]
    datasets: Iterable[Mapping[str, Any]] = (
        tables["datasets"] if tables is not None else [one["dataset"] for one in beside]
    )
    jobs = (tables or columns)["jobs"]
    hurt = {one["id"]: one for one in datasets if one["id"] != start}
    every = [*hurt.values(), *jobs]
    return {
        "pipelines": sorted({_job_name(one) for one in jobs}),
        "tables": sorted(table_name(one) for one in hurt.values()),
        "columns": sorted(f"{table_name(one['dataset'])}.{one['name']}" for one in beside),
        "teams": sorted({one["team"] for one in every if one["team"]}),
        "owners": sorted({owner for one in every for owner in one["owners"]}),
        "truncated": columns["truncated"] or (tables is not None and tables["truncated"]),
        "hidden": bool(columns["hidden"] or (tables is not None and tables["hidden"])),
    }


def impact_lines(console: Console, impact: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an impact means in words."""
    counts = [plural(len(impact[one]), one[:-1]) for one in ("pipelines", "tables", "columns")]
    least = "at least " if impact["truncated"] or impact["hidden"] else ""
    yield f"a change reaches {least}{', '.join(counts)}"
    for what in ("teams", "owners"):
        if impact[what]:
            yield f"  {what}: {', '.join(map(printable, impact[what]))}"
    if impact["hidden"]:
        yield console.style("  and something of other teams that you may not see", "yellow")


def table_name(one: Mapping[str, Any]) -> str:
    """Return a dataset's name; of what is not in the lake with its namespace."""
    name = printable(one["name"])
    return name if one["namespace"] == LAKE else f"{printable(one['namespace'] or '')}/{name}"


def _job_name(one: Mapping[str, Any]) -> str:
    return f"{one['name']} ({environment})" if (environment := _environment(one)) else str(one["name"])


def _environment(one: Mapping[str, Any]) -> str:
    space = one["namespace"] or ""
    return space.removeprefix(_PIPELINES) if space.startswith(_PIPELINES) else ""


def _about(one: Mapping[str, Any]) -> str:
    words = [_environment(one), f"team {one['team']}" if one["team"] and one["team"] != "default" else ""]
    words.append(f"owner {', '.join(one['owners'])}" if one["owners"] else "")
    return printable(" · ".join(word for word in words if word))


def _hide(graph: LineageGraph, number: int, beside: Key, *, is_above: bool) -> None:
    key: Key = ("hidden", number)
    graph.nodes[key] = Node("hidden", _HIDDEN)
    graph.links.append(Link(key, beside) if is_above else Link(beside, key))
